// What a lifetime did last, and how it ends when an invariant breaks.
#include "tests/sim/trace.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <string>

#include <fmt/args.h>
#include <fmt/format.h>
#include <unistd.h>

namespace ringlet {
namespace {

std::string text_of(const char* format, const Trace::Values& values) {
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  for (const uint64_t value : values) store.push_back(value);
  return fmt::vformat(format, store);
}

// Never unlocked: whoever reports first ends the process.
std::mutex ending;

void on_signal(int signal) {
  Trace::current().died(signal);
}

}  // namespace

Trace& Trace::current() {
  static thread_local Trace trace;
  return trace;
}

void Trace::begin(uint64_t seed, bool aloud) {
  seed_ = seed;
  turn_ = 0;
  count_ = 0;
  aloud_ = aloud;
  running_ = true;
}

void Trace::note(const char* format, const Values& values) {
  entries_[count_++ % kKept] = {.turn = turn_, .format = format, .values = values};
  if (aloud_) std::puts(fmt::format("  turn {:4}: {}", turn_, text_of(format, values)).c_str());
}

void Trace::print() const {
  const uint64_t first = count_ > kKept ? count_ - kKept : 0;
  std::printf("The last %zu of %zu actions:\n", static_cast<size_t>(count_ - first),
              static_cast<size_t>(count_));
  for (uint64_t i = first; i < count_; ++i) {
    const Entry& entry = entries_[i % kKept];
    std::puts(
        fmt::format("  turn {:4}: {}", entry.turn, text_of(entry.format, entry.values)).c_str());
  }
  std::printf("To see it again: tools/simulate --seed %zu --count 1 --trace\n",
              static_cast<size_t>(seed_));
  std::fflush(stdout);
}

void Trace::violated(const char* format, const Values& values) {
  ending.lock();
  std::printf("VIOLATION in lifetime %zu, turn %zu: %s\n", static_cast<size_t>(seed_),
              static_cast<size_t>(turn_), text_of(format, values).c_str());
  print();
  ::_exit(1);
}

void Trace::died(int signal) {
  ending.lock();
  std::signal(signal, SIG_DFL);  // should printing crash too
  std::printf("VIOLATION in lifetime %zu, turn %zu: signal %d (see stderr)\n",
              static_cast<size_t>(seed_), static_cast<size_t>(turn_), signal);
  std::fflush(stdout);
  if (running_) print();
  ::_exit(1);
}

void report_crashes() {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(signal, on_signal);
}

}  // namespace ringlet
