// Disk benchmark: ringlet, every QEMU configuration and fio on the host do the same loads in turn.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <time.h>

#include "tools/bench/blk_cases.h"
#include "tools/bench/blk_counters.h"
#include "tools/bench/blk_file.h"
#include "tools/bench/blk_results.h"
#include "tools/bench/blk_run.h"
#include "tools/bench/blk_svg.h"

namespace ringlet::bench {
namespace {

struct Options {
  size_t rounds = 0;  // these three: 0 unless they are given
  size_t attempts = 0;
  double seconds = 0;
  bool quick = false;
  bool list = false;
  std::vector<std::string> filters;
  std::vector<std::string> parties;
  std::string ringlet_args;
  std::string also_args;
  uint64_t file_mib = 1024;
  std::string host;  // what the script says of it
  std::string json;
  std::string svg;
};

void fill_in(Options& options) {
  if (options.rounds == 0) options.rounds = options.quick ? 3 : 7;
  if (options.attempts == 0) options.attempts = options.quick ? 1 : 3;
  if (options.seconds == 0) options.seconds = options.quick ? 0.5 : 1;
}

/// All that is needed to run a set of cases.
struct Bench {
  BlkSetup setup;
  std::vector<Party> parties;
  bool count_calls = false;
};

/// Above the others, so that counters are read in time, where that is allowed. What it starts stays
/// ordinary: a VMM that polls at real-time priority keeps the kernel's workers that it waits for
/// from running.
void go_realtime() {
  constexpr int kPriority = 20;
  const sched_param priority{.sched_priority = kPriority};
  static_cast<void>(::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &priority));
}

/// A disk has caches to empty and, where it is rented, a budget to fill: those who start at once
/// would pay for who came before them, QEMU's PC with its seconds until a guest runs would not.
void let_disk_rest() {
  constexpr timespec kRest{.tv_sec = 3, .tv_nsec = 0};
  ::nanosleep(&kRest, nullptr);
}

std::vector<BlkSample> measure_party(const Bench& bench, const Party& party,
                                     const std::vector<BlkCase>& loads, bool count_calls) {
  if (party.kind != PartyKind::Fio) return measure_machine(party, bench.setup, loads, count_calls);
  std::vector<BlkSample> samples;
  for (const BlkCase& load : loads) {
    samples.push_back(measure_fio(party, bench.setup, load, count_calls));
  }
  return samples;
}

/// `rounds` after a first that is discarded, but for the system calls counted in it. Who goes
/// first changes from round to round. The loads are of one group, see blk_cases().
std::vector<CaseResult> measure_rounds(const Bench& bench, const std::vector<BlkCase>& loads,
                                       size_t rounds) {
  std::vector<CaseResult> results;
  for (const BlkCase& load : loads) results.push_back({.load = load});
  for (size_t round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < bench.parties.size(); ++i) {
      const Party& party = bench.parties[(round + i) % bench.parties.size()];
      if (!party.takes(loads.front())) continue;
      fmt::print(stderr, "\r{} round {}/{}: {:<20}", loads.front().group(), round, rounds,
                 party.name);
      let_disk_rest();
      const auto samples = measure_party(bench, party, loads, round == 0 && bench.count_calls);
      for (size_t j = 0; j < loads.size(); ++j) {
        if (round == 0) {
          results[j].first[party.name] = samples[j];
        } else {
          results[j].rounds[party.name].push_back(samples[j]);
        }
      }
    }
  }
  fmt::print(stderr, "\r{:<50}\r", "");
  return results;
}

/// Measures again what the control was unsteady in, and keeps the steadiest attempt of each case.
std::vector<CaseResult> measure_steadily(const Bench& bench, const std::vector<BlkCase>& loads,
                                         const Options& options) {
  std::vector<CaseResult> results = measure_rounds(bench, loads, options.rounds);
  for (size_t attempt = 2; attempt <= options.attempts; ++attempt) {
    std::vector<BlkCase> unsteady;
    std::vector<CaseResult*> old;
    for (CaseResult& result : results) {
      if (control_spread(result) <= kMaxControlSpread) continue;
      unsteady.push_back(result.load);
      old.push_back(&result);
    }
    if (unsteady.empty()) break;
    fmt::print("{} cases again: the control varied by more than {:.0f} %\n", unsteady.size(),
               100 * kMaxControlSpread);
    const auto fresh = measure_rounds(bench, unsteady, options.rounds);
    for (size_t i = 0; i < fresh.size(); ++i) {
      if (control_spread(fresh[i]) < control_spread(*old[i])) *old[i] = fresh[i];
      old[i]->attempts = attempt;
    }
  }
  return results;
}

nlohmann::ordered_json to_json(const std::vector<BlkSample>& samples) {
  auto all = nlohmann::ordered_json::array();
  for (const BlkSample& sample : samples) {
    nlohmann::ordered_json one{{"iops", sample.iops},
                               {"cpu_us_per_request", sample.cpu_us},
                               {"latency_p50_us", sample.p50_us},
                               {"latency_p99_us", sample.p99_us}};
    if (sample.calls) one["system_calls_per_request"] = *sample.calls;
    if (sample.kicks) one["kicks_per_request"] = *sample.kicks;
    all.push_back(one);
  }
  return all;
}

Command example_command(const Bench& bench, const Party& party, const BlkCase& load) {
  return party.kind == PartyKind::Fio ? fio_command(party, bench.setup, load)
                                      : machine_command(party, bench.setup, {load});
}

/// The line that starts so; empty when there is none.
std::string line_of(const std::string& text, const std::string& start) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(start)) return line;
  }
  return {};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path);
  file << content;
  if (!file.flush()) throw std::runtime_error(fmt::format("{} cannot be written", path));
}

std::string describe_json(const Bench& bench, const Options& options,
                          const std::vector<CaseResult>& results) {
  nlohmann::ordered_json all;
  std::istringstream host(options.host);
  for (std::string line; std::getline(host, line);) all["host"].push_back(line);
  all["seconds"] = bench.setup.seconds;
  for (const CaseResult& result : results) {
    nlohmann::ordered_json one{{"case", result.load.name()},
                               {"control_spread", control_spread(result)},
                               {"attempts", result.attempts}};
    for (const Party& party : bench.parties) {
      if (!party.takes(result.load)) continue;
      one["parties"][party.name] = {{"command", example_command(bench, party, result.load)},
                                    {"discarded", to_json({result.first.at(party.name)}).at(0)},
                                    {"rounds", to_json(result.rounds.at(party.name))}};
    }
    all["cases"].push_back(one);
  }
  return all.dump(2) + '\n';
}

void explain(const Bench& bench, const std::optional<std::string>& not_counted) {
  fmt::print(
      "\nMedians (quartiles); ratios are medians of the quotients of the same round. They are\n"
      "undecided where the quartiles take in 1, or where equals would differ in one direction\n"
      "that often with a chance above 5 % (sign test: all of 6 rounds do, 8 of 9, 10 of 12).\n"
      "CPU: of the process without its vCPU threads, user and kernel, with io_uring's workers, in\n"
      "us per request; fio's own work is in fio's.\n");
  if (bench.setup.linux_root.empty()) {
    fmt::print(
        "Kicks: notifications that the guest's driver wrote, per request. IOPS of an access are\n"
        "how many of them the guest can do one after another in a second. Where the guest polls,\n"
        "fio runs once alone and once beside a thread that spins as the guest's vCPU does.\n");
  } else {
    fmt::print("CPU and calls of a guest take in the start of fio there: the longer the better.\n");
  }
  if (not_counted) {
    fmt::print("System calls were not counted: {}.\n", *not_counted);
  } else {
    fmt::print(
        "Calls: system calls per request of all threads but the vCPUs', counted in the discarded\n"
        "round by the tracepoint raw_syscalls:sys_enter.\n");
  }
  fmt::print("Nothing was pinned, all had the default scheduling.\n");
}

void show_commands(const Bench& bench, const std::vector<std::vector<BlkCase>>& cases) {
  for (const Party& party : bench.parties) {
    const auto group = std::find_if(cases.begin(), cases.end(),
                                    [&](const auto& each) { return party.takes(each.front()); });
    if (group == cases.end()) continue;
    const BlkCase& load = group->front();
    fmt::print("{}, for {}:\n  {}\n", party.name, load.name(),
               fmt::join(example_command(bench, party, load), " "));
  }
  std::fflush(stdout);
}

Command words_of(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

/// The first, which the others are compared with, is always there.
std::vector<Party> wanted_parties(const BlkSetup& setup, const std::vector<std::string>& texts) {
  std::vector<Party> parties = blk_parties(setup);
  const auto unwanted = [&](const Party& party) {
    return !texts.empty() && std::ranges::none_of(texts, [&](const std::string& text) {
      return party.is_named(text);
    });
  };
  for (const std::string& text : texts) {
    if (std::ranges::none_of(parties, [&](const Party& party) { return party.is_named(text); })) {
      throw std::runtime_error(fmt::format("no party is named \"{}\" here", text));
    }
  }
  parties.erase(std::remove_if(parties.begin() + 1, parties.end(), unwanted), parties.end());
  return parties;
}

void list(const std::vector<std::vector<BlkCase>>& cases) {
  for (const std::vector<BlkCase>& group : cases) {
    for (const BlkCase& load : group) fmt::print("{}\n", load.name());
  }
}

void run(Bench& bench, const Options& options) {
  auto cases = blk_cases(options.filters);
  // Linux' driver is not in our hands.
  if (!bench.setup.linux_root.empty()) {
    std::erase_if(cases, [](const auto& group) { return !group.front().is_load(); });
  }
  if (cases.empty()) throw std::runtime_error("no case has such a name; see --list");
  if (options.list) return list(cases);
  fmt::print("{}\n", options.host);
  make_blk_file(bench.setup.file, options.file_mib << 20);
  go_realtime();
  const std::optional<std::string> not_counted = SystemCallCounter::why_not();
  bench.count_calls = !not_counted;
  bench.parties = wanted_parties(bench.setup, options.parties);
  show_commands(bench, cases);
  std::vector<CaseResult> results;
  for (const std::vector<BlkCase>& group : cases) {
    const auto some = measure_steadily(bench, group, options);
    results.insert(results.end(), some.begin(), some.end());
  }
  print_results(results, bench.parties);
  explain(bench, not_counted);
  if (!options.json.empty()) write_file(options.json, describe_json(bench, options, results));
  if (options.svg.empty()) return;
  write_file(options.svg, draw_svg(results, "medians with quartiles, grey: undecided; " +
                                                line_of(options.host, "host:")));
}

void add_options(CLI::App& app, BlkSetup& setup, Options& options) {
  app.add_option("--ringlet", setup.ringlet, "the binary to measure")->required();
  app.add_option("--guest", setup.guest, "the guest's kernel")->required();
  app.add_option("--linux-root", setup.linux_root, "the guest is Linux, with fio in this root");
  app.add_option("--file", setup.file, "the file to measure on; its content is lost")->required();
  app.add_option("--host", options.host, "lines about the host, to be printed");
  app.add_option("--also", setup.also, "another ringlet to compare with");
  app.add_option("--also-args", options.also_args,
                 "arguments that only --also has; without that: this ringlet once more, with them");
  app.add_option("--ringlet-args", options.ringlet_args, "more arguments for ringlet, by spaces");
  app.add_option("--ringlet-disk", setup.ringlet_disk, "more disk options for it: ,option=value");
  app.add_flag("!--qemu-no-polling", setup.qemu_polls, "QEMU's iothread with poll-max-ns=0");
  app.add_option("--rounds", options.rounds, "rounds that count (7)")->check(CLI::Range(1, 1000));
  app.add_option("--attempts", options.attempts, "times to measure while fio is unsteady (3)")
      ->check(CLI::Range(1, 100));
  app.add_option("--seconds", options.seconds, "of each measurement (1)")
      ->check(CLI::Range(0.2, 600.0));
  app.add_flag("--quick", options.quick, "3 rounds of half a second, one attempt");
  app.add_option("--filter", options.filters, "only cases whose names have this; may be repeated");
  app.add_option("--party", options.parties, "only those whose names have this, and ringlet");
  app.add_flag("--list", options.list, "print the cases' names, measure nothing");
  app.add_option("--wait", setup.wait, "how the guest sees completions: poll, interrupt or hlt")
      ->check(CLI::IsMember({"poll", "interrupt", "hlt"}));
  app.add_option("--queues", setup.queues, "of the disk (1)")->check(CLI::Range(1, 16));
  app.add_option("--queue-size", setup.queue_size, "descriptors of a queue (256)")
      ->check(CLI::Range(128, 1024));
  app.add_option("--size", options.file_mib, "of the file, in MiB (1024)")
      ->check(CLI::Range(64, 1 << 20));
  app.add_option("--json", options.json, "write every sample to this file");
  app.add_option("--svg", options.svg, "draw the ratios into this file");
}

}  // namespace
}  // namespace ringlet::bench

int main(int argc, char** argv) {
  using namespace ringlet::bench;
  Bench bench;
  Options options;
  CLI::App app("IOPS, CPU time and system calls of virtio disks, beside QEMU's and the host's own");
  add_options(app, bench.setup, options);
  CLI11_PARSE(app, argc, argv);
  fill_in(options);
  bench.setup.seconds = options.seconds;
  bench.setup.ringlet_args = words_of(options.ringlet_args);
  bench.setup.also_args = words_of(options.also_args);
  if (bench.setup.also.empty() && !options.also_args.empty()) {
    bench.setup.also = bench.setup.ringlet;
  }
  try {
    mount_tracefs();
    run(bench, options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "blk: {}\n", error.what());
    return 1;
  }
  return 0;
}
