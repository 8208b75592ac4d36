// What a lifetime did last, and how it ends when an invariant breaks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ringlet {

/// A ring of the last actions. Noting one copies a few words; text is made when it is printed.
class Trace {
 public:
  static constexpr size_t kKept = 60;
  static constexpr size_t kValues = 6;
  using Values = std::array<uint64_t, kValues>;

  /// The one of the lifetime that this thread runs.
  static Trace& current();

  void begin(uint64_t seed, bool aloud);
  /// `format` as for fmt, of integers only; it must be a literal.
  void note(const char* format, const Values& values);
  void set_turn(uint64_t turn) { turn_ = turn; }
  uint64_t seed() const { return seed_; }

  /// Prints the seed, the invariant that broke and the last actions, and ends the process.
  [[noreturn]] void violated(const char* format, const Values& values);
  /// The same for an assert that fired inside the product, or a crash.
  [[noreturn]] void died(int signal);

 private:
  struct Entry {
    uint64_t turn;
    const char* format;
    Values values;
  };
  void print() const;

  uint64_t seed_ = 0;
  uint64_t turn_ = 0;
  uint64_t count_ = 0;
  bool aloud_ = false;
  bool running_ = false;
  std::array<Entry, kKept> entries_{};
};

template <typename... Args>
void note(const char* format, Args... args) {
  Trace::current().note(format, {static_cast<uint64_t>(args)...});
}

/// An invariant: says which when it does not hold, and ends the process.
template <typename... Args>
void expect(bool holds, const char* format, Args... args) {
  if (!holds) Trace::current().violated(format, {static_cast<uint64_t>(args)...});
}

/// Makes asserts and crashes tell of the lifetime that met them.
void report_crashes();

}  // namespace ringlet
