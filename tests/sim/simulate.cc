// Runs simulated lifetimes on all cores, and stops at the first that breaks an invariant.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "kvm/log.h"
#include "tests/sim/allocations.h"
#include "tests/sim/lifetime.h"
#include "tests/sim/trace.h"

namespace ringlet {
namespace {

constexpr const char* kUsage =
    R"(usage: simulate [--seed N] [--count M] [--threads T] [--trace]

Runs M simulated lifetimes (default 1000), with seeds N, N + 1, ... (default 1), on T threads
(default: as many as there are CPUs). At the first that breaks an invariant: prints its seed, the
invariant and its last actions, and exits with 1. --trace prints all that the lifetimes do.
)";

/// So many lifetimes come by everything that is common.
constexpr uint64_t kTellingCount = 100;

struct SimulateOptions {
  uint64_t seed = 1;
  uint64_t count = 1000;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  bool trace = false;
};

struct Totals {
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> turns{0};
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> merged{0};
};

void run_one(uint64_t seed, GuestArena& arena, bool aloud, Totals& totals) {
  Trace::current().begin(seed, aloud);
  const int64_t before = live_allocations();
  {
    Lifetime lifetime(seed, arena);
    lifetime.run();
    totals.turns += lifetime.turns();
    totals.requests += lifetime.requests();
    totals.merged += lifetime.merged();
  }
  expect(live_allocations() == before, "{} allocations are left over", live_allocations() - before);
}

void work(const SimulateOptions& options, Totals& totals) {
  GuestArena arena;
  while (true) {
    const uint64_t number = totals.next.fetch_add(1);
    if (number >= options.count) return;
    run_one(options.seed + number, arena, options.trace, totals);
  }
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

template <typename T>
bool parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_options(int argc, char** argv, SimulateOptions& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    if (name == "--trace") {
      options.trace = true;
      options.threads = 1;
      continue;
    }
    ++i;
    if (name == "--seed" && parse(value, options.seed)) continue;
    if (name == "--count" && parse(value, options.count)) continue;
    if (name == "--threads" && parse(value, options.threads) && options.threads > 0) continue;
    return false;
  }
  return true;
}

int simulate(const SimulateOptions& options) {
  log_setup(LogLevel::Off, "");
  report_crashes();
  const auto began = std::chrono::steady_clock::now();
  Totals totals;
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < options.threads; ++i) {
    threads.emplace_back([&] { work(options, totals); });
  }
  threads.clear();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::printf(
      "%llu lifetimes from seed %llu without a violation: %llu requests (%llu merged), %llu turns, "
      "%.1f s, %.2f ms of CPU each\n",
      static_cast<unsigned long long>(options.count), static_cast<unsigned long long>(options.seed),
      static_cast<unsigned long long>(totals.requests.load()),
      static_cast<unsigned long long>(totals.merged.load()),
      static_cast<unsigned long long>(totals.turns.load()), took.count(),
      cpu_seconds() * 1000 / static_cast<double>(std::max<uint64_t>(options.count, 1)));
  // A simulation that no longer reaches what it is to test would find nothing wrong with it.
  if (options.count >= kTellingCount && totals.merged == 0) {
    std::fputs("simulate: no requests were merged in all of them\n", stderr);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace ringlet

int main(int argc, char** argv) {
  ringlet::SimulateOptions options;
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    std::fputs(ringlet::kUsage, stdout);
    return 0;
  }
  if (!ringlet::parse_options(argc, argv, options)) {
    std::fputs(ringlet::kUsage, stderr);
    return 2;
  }
  return ringlet::simulate(options);
}
