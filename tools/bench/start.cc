// From exec to the guest's first port write, and to the end: ringlet beside its peers and the
// floor.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "tools/bench/contenders.h"
#include "tools/bench/statistics.h"
#include "tools/bench/targets.h"
#include "tools/bench/vm_process.h"

namespace ringlet::bench {
namespace {

constexpr int kLifeBeforeKillMs = 50;

/// One value a round: of a contender that is started several times in it, the median.
using Samples = std::vector<double>;

struct Measured {
  Samples wall_ms;
  Samples cpu_ms;
  Samples kill_ms;
  Samples rss_kib;
  Samples private_dirty_kib;
  /// Before the first KVM_RUN; 0 when there is no strace.
  size_t system_calls = 0;
};

/// Counts with strace what `command` and its threads call before the first KVM_RUN.
size_t count_system_calls(const Command& command, const std::string& scratch) {
  const std::string trace = scratch + "/trace";
  Command traced{"strace", "-f", "-o", trace};
  traced.insert(traced.end(), command.begin(), command.end());
  VmProcess process(traced);
  process.wait_for_first_byte();
  process.kill();
  std::ifstream lines(trace);
  size_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find(", KVM_RUN") != std::string::npos) return count;  // maybe "<unfinished ...>"
    // Not those that end a call begun further up, and tell of signals or ends.
    if (line.find(" <... ") == std::string::npos && line.find('(') != std::string::npos) ++count;
  }
  throw std::runtime_error(fmt::format("strace has seen no KVM_RUN of {}", command[0]));
}

void measure(const Contender& contender, uint64_t memory_mib, Measured& into) {
  VmProcess process(contender.command);
  process.wait_for_first_byte();
  into.wall_ms.push_back(process.wall_ms());
  into.cpu_ms.push_back(process.cpu_ms());
  const MemoryUse memory = process.memory(memory_mib);
  into.rss_kib.push_back(memory.rss);
  into.private_dirty_kib.push_back(memory.private_dirty);
  // KVM clears up behind its own set-up for some milliseconds, and an end waits for that. No
  // machine of any use is that young when it ends.
  (void)process.wait_for_output(kLifeBeforeKillMs);
  into.kill_ms.push_back(process.kill());
}

using Results = std::map<std::string, Measured>;

/// Times of one kind, one line a contender. Ratios are medians of the rounds' own.
void print_times(const char* title, Samples Measured::*times, const std::vector<Contender>& order,
                 const Results& results) {
  const Samples& floor = results.at("floor").*times;
  fmt::print("\n{:<38} {:>8} {:>8} {:>15} {:>9} {:>8}\n", title, "median", "minimum", "quartiles",
             "- floor", "/ floor");
  for (const Contender& contender : order) {
    const Samples& samples = results.at(contender.name).*times;
    const Summary all = summarize(samples);
    fmt::print("  {:<36} {:>8.2f} {:>8.2f} {:>15} {:>9.2f} {:>8.2f}\n", contender.name, all.median,
               all.min, fmt::format("{:.2f}-{:.2f}", all.low, all.high),
               all.median - summarize(floor).median, median_ratio(samples, floor));
  }
}

void print_the_rest(const std::vector<Contender>& order, const Results& results) {
  fmt::print("\n{:<38} {:>8} {:>8} {:>15}\n", "", "calls", "RSS KiB", "private dirty");
  for (const Contender& contender : order) {
    const Measured& each = results.at(contender.name);
    fmt::print("  {:<36} {:>8} {:>8.0f} {:>15.0f}\n", contender.name, each.system_calls,
               summarize(each.rss_kib).median, summarize(each.private_dirty_kib).median);
  }
  fmt::print(
      "\nCalls: system calls before the first KVM_RUN. Memory: without the guest's, medians.\n"
      "SIGKILL comes {} ms after the guest's port write.\n",
      kLifeBeforeKillMs);
}

double beyond_floor(Samples Measured::*times, const Results& results) {
  return summarize(results.at("ringlet").*times).median -
         summarize(results.at("floor").*times).median;
}

void print_verdicts(const Results& results) {
  const Measured& ringlet = results.at("ringlet");
  std::vector<Target> targets{
      {"wall time to the guest beyond the floor's, ms", 1,
       beyond_floor(&Measured::wall_ms, results)},
      {"CPU time to the guest beyond the floor's, ms", 1, beyond_floor(&Measured::cpu_ms, results)},
      {"system calls before the first KVM_RUN", 150, static_cast<double>(ringlet.system_calls)},
      {"SIGKILL to reaped beyond the floor's, ms", 2, beyond_floor(&Measured::kill_ms, results)}};
  for (const auto& [name, measured] : results) {
    if (name.starts_with("qemu microvm")) {
      targets.push_back({fmt::format("CPU time, part of {}'s", name), 0.125,
                         median_ratio(ringlet.cpu_ms, measured.cpu_ms)});
    }
  }
  print_targets(targets);
}

void print(const std::vector<Contender>& order, const Results& results) {
  print_times("exec to the guest's port write, ms", &Measured::wall_ms, order, results);
  print_times("CPU time up to then, ms", &Measured::cpu_ms, order, results);
  print_times("SIGKILL to reaped, ms", &Measured::kill_ms, order, results);
  print_the_rest(order, results);
  print_verdicts(results);
}

void write_json(const std::string& path, const std::vector<Contender>& order,
                const Results& results) {
  nlohmann::ordered_json all;
  for (const Contender& contender : order) {
    const Measured& each = results.at(contender.name);
    all[contender.name] = {{"command", contender.command},
                           {"wall_ms", each.wall_ms},
                           {"cpu_ms", each.cpu_ms},
                           {"kill_ms", each.kill_ms},
                           {"rss_kib", each.rss_kib},
                           {"private_dirty_kib", each.private_dirty_kib},
                           {"system_calls", each.system_calls}};
  }
  std::ofstream file(path);
  file << all.dump(2) << '\n';
  if (!file.flush()) throw std::runtime_error(fmt::format("{} cannot be written", path));
}

/// One round, in which all take turns; begins with number `first`. Those that are done in
/// milliseconds take `turns` each, as a single start of so short a program varies with what ran
/// just before it.
void run_round(const std::vector<Contender>& all, size_t first, size_t turns, uint64_t memory_mib,
               Results& results) {
  Results round;
  for (size_t turn = 0; turn < turns; ++turn) {
    for (size_t i = 0; i < all.size(); ++i) {
      const Contender& contender = all[(first + i) % all.size()];
      const bool quick = contender.name == "floor" || contender.name == "ringlet";
      if (turn == 0 || quick) measure(contender, memory_mib, round[contender.name]);
    }
  }
  for (const auto& [name, measured] : round) {
    for (Samples Measured::*const kind : {&Measured::wall_ms, &Measured::cpu_ms, &Measured::kill_ms,
                                          &Measured::rss_kib, &Measured::private_dirty_kib}) {
      (results[name].*kind).push_back(summarize(measured.*kind).median);
    }
  }
}

void run(const Setup& setup, size_t rounds, size_t turns, const std::string& scratch,
         const std::string& json) {
  const std::vector<Contender> all = contenders(setup);
  Results results;
  for (const Contender& contender : all) {
    results[contender.name].system_calls = count_system_calls(contender.command, scratch);
    fmt::print("{}:\n ", contender.name);
    for (const std::string& word : contender.command) fmt::print(" {}", word);
    fmt::print("\n");
  }
  fmt::print("{} rounds; floor and ringlet are started {} times in each\n", rounds, turns);
  // The first round is for the page cache alone. Who goes first changes from round to round.
  Results discarded;
  run_round(all, 0, turns, setup.memory_mib, discarded);
  for (size_t round = 1; round <= rounds; ++round) {
    run_round(all, round, turns, setup.memory_mib, results);
  }
  print(all, results);
  if (!json.empty()) write_json(json, all, results);
}

}  // namespace
}  // namespace ringlet::bench

int main(int argc, char** argv) {
  using namespace ringlet::bench;
  Setup setup;
  size_t rounds = 30;
  size_t turns = 10;
  std::string scratch;
  std::string json;
  CLI::App app("Start-up time and footprint of ringlet, QEMU and the floor");
  app.add_option("--ringlet", setup.ringlet)->required();
  app.add_option("--floor", setup.floor)->required();
  app.add_option("--guest", setup.guest)->required();
  app.add_option("--disk", setup.disk)->required();
  app.add_option("--scratch", scratch, "folder for temporary files")->required();
  app.add_option("--memory-mib", setup.memory_mib, "the guest's memory")
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--rounds", rounds, "how often all are started")->check(CLI::Range(1, 10000));
  app.add_option("--turns", turns, "how often ringlet and the floor are started in each round")
      ->check(CLI::Range(1, 1000));
  app.add_option("--json", json, "write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    run(setup, rounds, turns, scratch, json);
  } catch (const std::exception& error) {
    fmt::print(stderr, "start: {}\n", error.what());
    return 1;
  }
  return 0;
}
