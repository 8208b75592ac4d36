// One measurement of the disk benchmark: starts a party, and reads counters at the right moments.
#include "tools/bench/blk_run.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <stdexcept>
#include <stop_token>
#include <thread>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "kvm/error.h"
#include "tools/bench/blk_counters.h"
#include "tools/bench/blk_file.h"

namespace ringlet::bench {

namespace {

constexpr double kNsPerUs = 1000;
constexpr double kMsPerSecond = 1000;
/// The guest sleeps this long after it has said "begin" or "end"; see tests/guests/bench.cc. Linux:
/// more, see blk_init.
constexpr double kGuestRestMs = 50;

void prepare_page_cache(const BlkSetup& setup, const BlkCase& load) {
  load.direct ? drop_page_cache(setup.file) : warm_page_cache(setup.file);
}

/// With the benchmark, however that ends: nothing is left spinning.
Command ending_with_us(Command command) {
  const std::array<const char*, 3> prefix{"setpriv", "--pdeathsig", "KILL"};
  command.insert(command.begin(), prefix.begin(), prefix.end());
  return command;
}

void expect_line(VmProcess& process, const std::string& expected, const Party& party) {
  const std::optional<std::string> line = process.read_line();
  if (line == expected) return;
  throw std::runtime_error(fmt::format("{}: the guest says '{}', expected '{}'", party.name,
                                       line.value_or("nothing more"), expected));
}

/// Keeps a processor busy, if it is wanted.
class Spinner {
 public:
  explicit Spinner(bool wanted) {
    if (!wanted) return;
    thread_ = std::jthread([](const std::stop_token& stop) {
      while (!stop.stop_requested()) __builtin_ia32_pause();
    });
  }

 private:
  std::jthread thread_;
};

/// What a process has used so far.
struct Reading {
  double wall_ms = 0;
  uint64_t cpu_ns = 0;
  uint64_t calls = 0;
};

std::optional<SystemCallCounter> start_counter(const VmProcess& process, bool wanted) {
  std::optional<SystemCallCounter> counter;
  if (wanted) counter.emplace(process.pid());
  return counter;
}

/// `readings` is not empty and in order.
Reading last_before(const std::vector<Reading>& readings, double wall_ms) {
  Reading last = readings.front();
  for (const Reading& reading : readings) {
    if (reading.wall_ms <= wall_ms) last = reading;
  }
  return last;
}

/// fio may write warnings before its result.
nlohmann::json parse_result(const std::string& output, const Party& party) {
  const size_t start = output.find('{');
  if (start == std::string::npos) {
    throw std::runtime_error(fmt::format("{} gives no result: {}", party.name, output));
  }
  return nlohmann::json::parse(output.substr(start));
}

nlohmann::json result_of_fio(VmProcess& process, const Party& party) {
  std::string output;
  while (const std::optional<std::string> line = process.read_line()) output += *line + '\n';
  if (process.wait_for_end() != 0) {
    throw std::runtime_error(fmt::format("{} fails: {}", party.name, output));
  }
  return parse_result(output, party);
}

/// Counters are exact only while the guest sleeps: a benchmark that was kept from running then
/// has read something else.
void expect_in_time(const VmProcess& process, double from_ms) {
  if (process.wall_ms() - from_ms < kGuestRestMs) return;
  throw std::runtime_error("the host is too busy: the counters were read too late");
}

/// What fio says of itself, on the host or in a guest.
BlkSample sample_of_fio(const nlohmann::json& job) {
  const auto& latency = job.at("lat_ns").at("percentile");
  return {.iops = job.at("iops"),
          .p50_us = latency.at("50.000000").get<double>() / kNsPerUs,
          .p99_us = latency.at("99.000000").get<double>() / kNsPerUs};
}

const nlohmann::json& job_of_fio(const nlohmann::json& result, const BlkCase& load) {
  return result.at("jobs").at(0).at(load.write ? "write" : "read");
}

BlkSample sample_of_guest(const nlohmann::json& result, double requests, bool is_load) {
  return {
      .iops = requests / (result.at("ns").get<double>() / 1e9),
      .p50_us = result.at("latency_p50_ns").get<double>() / kNsPerUs,
      .p99_us = result.at("latency_p99_ns").get<double>() / kNsPerUs,
      .kicks = is_load ? std::optional(result.at("kicks").get<double>() / requests) : std::nullopt};
}

BlkSample measure_run(VmProcess& process, const Party& party, const BlkSetup& setup,
                      const BlkCase& load, bool count_calls) {
  expect_line(process, "ready", party);
  process.send_signal(SIGSTOP);
  prepare_page_cache(setup, load);
  process.send_signal(SIGCONT);
  expect_line(process, "begin", party);
  double marked_ms = process.wall_ms();
  const std::optional<SystemCallCounter> calls = start_counter(process, count_calls);
  const uint64_t before_ns = io_cpu_ns(process.pid());
  expect_in_time(process, marked_ms);
  expect_line(process, "end", party);
  marked_ms = process.wall_ms();
  const uint64_t after_ns = io_cpu_ns(process.pid());
  const uint64_t counted = calls ? calls->count() : 0;
  expect_in_time(process, marked_ms);
  const std::optional<std::string> line = process.read_line();
  const auto result = parse_result(line.value_or(""), party);
  const bool by_fio = !setup.linux_root.empty();
  const double requests = by_fio ? job_of_fio(result, load).at("total_ios") : result.at("requests");
  BlkSample sample = by_fio ? sample_of_fio(job_of_fio(result, load))
                            : sample_of_guest(result, requests, load.is_load());
  // Two clocks are read one after the other: it may come out as a little less than nothing.
  const auto used_ns = static_cast<int64_t>(after_ns - before_ns);
  sample.cpu_us = static_cast<double>(std::max<int64_t>(used_ns, 0)) / kNsPerUs / requests;
  if (calls) sample.calls = static_cast<double>(counted) / requests;
  return sample;
}

}  // namespace

std::vector<BlkSample> measure_machine(const Party& party, const BlkSetup& setup,
                                       const std::vector<BlkCase>& loads, bool count_calls) {
  VmProcess process(ending_with_us(machine_command(party, setup, loads)));
  std::vector<BlkSample> samples;
  for (const BlkCase& load : loads) {
    samples.push_back(measure_run(process, party, setup, load, count_calls));
  }
  process.wait_for_end();
  return samples;
}

// fio does not tell when it begins. Its CPU time and system calls are taken from the middle of its
// run, seen from its end, and set against the requests that it makes in as much time.
BlkSample measure_fio(const Party& party, const BlkSetup& setup, const BlkCase& load,
                      bool count_calls) {
  constexpr int kStepMs = 20;
  const double run_ms = setup.seconds * kMsPerSecond;
  prepare_page_cache(setup, load);
  const Spinner spinner(party.beside_spin);
  VmProcess process(ending_with_us(fio_command(party, setup, load)));
  const std::optional<SystemCallCounter> calls = start_counter(process, count_calls);
  std::vector<Reading> readings;
  do {
    readings.push_back({process.wall_ms(), io_cpu_ns(process.pid()), calls ? calls->count() : 0});
  } while (!process.wait_for_output(kStepMs));
  const double end_ms = process.wall_ms();
  const Reading from = last_before(readings, end_ms - 0.75 * run_ms);
  const Reading to = last_before(readings, end_ms - 0.2 * run_ms);

  const auto parsed = result_of_fio(process, party);
  BlkSample sample = sample_of_fio(job_of_fio(parsed, load));
  const double requests = sample.iops * (to.wall_ms - from.wall_ms) / kMsPerSecond;
  sample.cpu_us = static_cast<double>(to.cpu_ns - from.cpu_ns) / kNsPerUs / requests;
  if (calls) sample.calls = static_cast<double>(to.calls - from.calls) / requests;
  return sample;
}

}  // namespace ringlet::bench
