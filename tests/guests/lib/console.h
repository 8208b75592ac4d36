// Output through the debug console port 0xe9, and the end of the run through debug-exit 0xf4.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>

#include "lib/span.h"

namespace guest {

// A number to be printed in base 16, with at least `digits` digits and no prefix.
struct Hex {
  uint64_t value;
  int digits;
};
constexpr Hex hex(uint64_t value, int digits = 1) {
  return {value, digits};
}

// A number in base 10 with at least `digits` digits.
struct Padded {
  uint64_t value;
  int digits;
};
constexpr Padded padded(uint64_t value, int digits) {
  return {value, digits};
}

// One value for print(): text, a character or a number.
class Argument {
 public:
  Argument(Text text) : text_(text), kind_(Kind::Text) {}
  Argument(const char* text) : text_(text), kind_(Kind::Text) {}
  Argument(char c) : number_(static_cast<uint8_t>(c)), kind_(Kind::Character) {}
  Argument(Hex number) : number_(number.value), digits_(number.digits), kind_(Kind::Hex) {}
  Argument(Padded number) : number_(number.value), digits_(number.digits), kind_(Kind::Decimal) {}
  Argument(std::integral auto number)
      : number_(number < 0 ? uint64_t{0} - static_cast<uint64_t>(number)
                           : static_cast<uint64_t>(number)),
        negative_(number < 0),
        kind_(Kind::Decimal) {}

  void print() const;

 private:
  enum class Kind { Text, Character, Decimal, Hex };
  Text text_;
  uint64_t number_ = 0;
  int digits_ = 1;
  bool negative_ = false;
  Kind kind_;
};

// Prints `format` with each {} replaced by the next value.
void print_list(const char* format, std::initializer_list<Argument> values);

template <typename... Values>
void print(const char* format, Values... values) {
  print_list(format, {Argument(values)...});
}

void put(char c);

// Ends the run: QEMU's isa-debug-exit and ringlet's --debug-exit make status (code << 1) | 1 of it.
[[noreturn]] void debug_exit(uint32_t code);
inline constexpr uint32_t kExitSuccess = 0;
inline constexpr uint32_t kExitFailure = 1;

[[noreturn]] void fail_list(const char* format, std::initializer_list<Argument> values);

// Prints "FAIL: " and the message, and ends the run.
template <typename... Values>
[[noreturn]] void fail(const char* format, Values... values) {
  fail_list(format, {Argument(values)...});
}

template <typename... Values>
void expect(bool condition, const char* format, Values... values) {
  if (!condition) {
    fail_list(format, {Argument(values)...});
  }
}

}  // namespace guest
