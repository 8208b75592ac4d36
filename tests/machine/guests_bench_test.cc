// Tests of the benchmark guest, so that it is there when it is needed: a few hundred requests or
// accesses of every kind. What they take is nobody's business here.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

constexpr uint64_t kDiskBytes = 4 << 20;

/// The results of each run. Fails the test when the guest says anything but what belongs there.
std::vector<nlohmann::json> results(const Ended& end) {
  CHECK(end.status == 1);
  CHECK(end.log == "");
  const std::string marks = "ready\nbegin\nend\n";
  std::vector<nlohmann::json> all;
  for (size_t at = 0; at < end.output.size();) {
    const size_t line = at + marks.size();
    REQUIRE(end.output.substr(at, marks.size()) == marks);
    const size_t line_end = end.output.find('\n', line);
    REQUIRE(line_end != std::string::npos);
    all.push_back(nlohmann::json::parse(end.output.substr(line, line_end - line)));
    at = line_end + 1;
  }
  return all;
}

std::vector<nlohmann::json> run_bench(const std::string& cmdline, const std::string& disk,
                                      const std::string& options = "") {
  const std::string common = "requests=300 warm-up-ms=1 ms=60000 sleep-ms=1 ";
  return results(run(guest("bench", common + cmdline, {"--disk", "path=" + disk + options})));
}

TEST_CASE("the benchmark guest makes as many requests as asked for, in every way") {
  const TemporaryDirectory files;
  const auto runs = run_bench(
      "runs=6 what1=randread depth1=1 what2=randwrite depth2=32 what3=read block3=131072 depth3=8 "
      "what4=write depth4=128 wait4=interrupt what5=randread wait5=hlt depth5=4 "
      "what6=randread wait6=hlt intx6 direct6 no-event-index6 depth6=4 batch6=2",
      files.make_filled_disk("disk", kDiskBytes));
  REQUIRE(runs.size() == 6);
  for (const auto& each : runs) {
    CHECK(each.at("requests") == 300);
    CHECK(each.at("kicks") <= each.at("publications"));
    CHECK(each.at("latency_p50_ns") <= each.at("latency_p99_ns"));
  }
  CHECK(runs[0].at("interrupts") == 0);
  CHECK(runs[0].at("publications") == 300);
  CHECK(runs[3].at("depth") == 128);
  CHECK(runs[5].at("indirect") == false);
  CHECK(runs[5].at("event_index") == false);
}

TEST_CASE("the benchmark guest spreads its requests over several queues") {
  const TemporaryDirectory files;
  const auto runs =
      run_bench("queues=4 depth=64 queue-size=64 wait=hlt",
                files.make_filled_disk("disk", kDiskBytes), ",queues=4,queue-size=64");
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].at("queues") == 4);
  CHECK(runs[0].at("requests") == 300);
}

TEST_CASE("the benchmark guest takes the time of accesses by MMIO, by port, and of kicks") {
  const TemporaryDirectory files;
  const auto runs = run_bench("runs=3 what1=config-read what2=port-read what3=kick",
                              files.make_disk("disk", kDiskBytes));
  REQUIRE(runs.size() == 3);
  for (const auto& each : runs) CHECK(each.at("requests") == 300);
}

TEST_CASE("the benchmark guest writes to its region alone") {
  const TemporaryDirectory files;
  const std::string disk = files.make_filled_disk("disk", kDiskBytes);
  const std::string before = files.read("disk");
  run_bench("what=randwrite depth=16 start=1048576 size=1048576", disk);
  const std::string after = files.read("disk");
  REQUIRE(after.size() == before.size());
  CHECK(after.substr(0, 1 << 20) == before.substr(0, 1 << 20));
  CHECK(after.substr(1 << 20, 1 << 20) != before.substr(1 << 20, 1 << 20));
  CHECK(after.substr(2 << 20) == before.substr(2 << 20));
}

TEST_CASE("the benchmark guest says what is wrong with its options") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const Ended end = run(guest("bench", "depth=5000", {"--disk", "path=" + disk}));
  CHECK(end.output == "FAIL: depth is 5000, expected 1 to 1024\n");
  CHECK(end.status == 3);
}

}  // namespace
}  // namespace ringlet
