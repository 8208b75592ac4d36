// What idle machines cost the host: memory of one and of a hundred, and how often they wake up.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "tools/bench/contenders.h"
#include "tools/bench/targets.h"
#include "tools/bench/vm_process.h"

namespace ringlet::bench {
namespace {

struct Options {
  size_t machines = 100;
  int idle_seconds = 10;
};

/// Of the host, in KiB: what can be had without swapping.
double available_kib() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    if (line.starts_with("MemAvailable:")) return std::stod(line.substr(line.find(':') + 1));
  }
  throw std::runtime_error("/proc/meminfo has no MemAvailable");
}

void wait_seconds(int seconds) {
  const timespec time{.tv_sec = seconds, .tv_nsec = 0};
  ::nanosleep(&time, nullptr);
}

/// How often threads that are there now have run since `before`.
uint64_t wake_ups(const VmProcess& process, std::map<std::string, uint64_t> before) {
  uint64_t total = 0;
  for (const auto& [thread, times] : process.times_scheduled()) total += times - before[thread];
  return total;
}

struct Measured {
  MemoryUse one;
  uint64_t wake_ups = 0;
  double each_of_many_kib = 0;
};

/// One machine: its memory once it is idle, and how often its threads run while it is.
void measure_one(const Contender& contender, uint64_t memory_mib, const Options& options,
                 Measured& into) {
  VmProcess process(contender.command);
  process.wait_for_first_byte();
  wait_seconds(1);
  into.one = process.memory(memory_mib);
  const auto before = process.times_scheduled();
  wait_seconds(options.idle_seconds);
  into.wake_ups = wake_ups(process, before);
}

/// Many machines at once: what each takes of the host's memory beyond the pages its guest touched.
double measure_many(const Contender& contender, uint64_t memory_mib, const Options& options) {
  std::vector<std::unique_ptr<VmProcess>> machines;
  const double before = available_kib();
  double guests = 0;
  for (size_t i = 0; i < options.machines; ++i) {
    machines.push_back(std::make_unique<VmProcess>(contender.command));
    machines.back()->wait_for_first_byte();
  }
  wait_seconds(1);
  for (const auto& machine : machines) guests += machine->memory(memory_mib).guest_rss;
  const double used = before - available_kib() - guests;
  return used / static_cast<double>(options.machines);
}

void print_verdicts(const Measured& ringlet, const Options& options) {
  constexpr double kKiBPerMiB = 1024;
  print_targets(std::vector<Target>{
      {"RSS beyond the guest's memory, MiB", 4, ringlet.one.rss / kKiBPerMiB},
      {"private dirty memory beyond the guest's, MiB", 0.7, ringlet.one.private_dirty / kKiBPerMiB},
      {fmt::format("each of {}: host memory beyond the guest's, MiB", options.machines), 1.5,
       ringlet.each_of_many_kib / kKiBPerMiB},
      {fmt::format("threads woken in {} s", options.idle_seconds), 0,
       static_cast<double>(ringlet.wake_ups)}});
}

void run(const Setup& setup, const Options& options) {
  fmt::print("\n{:<26} {:>9} {:>14} {:>12} {:>14}\n", "", "RSS KiB", "private dirty", "wake-ups",
             "KiB each of many");
  Measured ringlet;
  for (const Contender& contender : contenders(setup)) {
    if (contender.slow) continue;
    Measured all;
    measure_one(contender, setup.memory_mib, options, all);
    all.each_of_many_kib = measure_many(contender, setup.memory_mib, options);
    fmt::print("{:<26} {:>9.0f} {:>14.0f} {:>12} {:>14.0f}\n", contender.name, all.one.rss,
               all.one.private_dirty, all.wake_ups, all.each_of_many_kib);
    if (contender.name == "ringlet") ringlet = all;
  }
  fmt::print(
      "\nWithout the guest's own pages. Wake-ups: how often a thread of the process was given\n"
      "a CPU in {} s; many: {} machines at once, from the host's available memory.\n",
      options.idle_seconds, options.machines);
  print_verdicts(ringlet, options);
}

}  // namespace
}  // namespace ringlet::bench

int main(int argc, char** argv) {
  using namespace ringlet::bench;
  Setup setup{.shared_disk = true};
  Options options;
  CLI::App app("What idle machines cost the host");
  app.add_option("--ringlet", setup.ringlet)->required();
  app.add_option("--floor", setup.floor)->required();
  app.add_option("--guest", setup.guest)->required();
  app.add_option("--disk", setup.disk)->required();
  app.add_option("--memory-mib", setup.memory_mib, "each guest's memory")
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--machines", options.machines, "how many at once")->check(CLI::Range(1, 10000));
  app.add_option("--idle-seconds", options.idle_seconds, "how long to watch")
      ->check(CLI::Range(1, 3600));
  CLI11_PARSE(app, argc, argv);
  try {
    run(setup, options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "footprint: {}\n", error.what());
    return 1;
  }
  return 0;
}
