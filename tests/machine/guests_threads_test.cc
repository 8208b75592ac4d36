// Tests of where the machine's threads run and of memory that is taken at the start, as the host
// sees both.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <sched.h>
#include <signal.h>

#include "tests/kvm/may_pin.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

/// What /proc says of a process or thread behind `key`, such as "VmRSS:".
std::string status_field(const std::filesystem::path& of, const std::string& key) {
  std::ifstream file(of / "status");
  for (std::string word; file >> word;) {
    if (word == key) return file >> word, word;
  }
  return {};
}

/// The CPUs that each of a machine's threads may run on, by the thread's name. The guest may print
/// before all threads are there: they are once the main thread answers signals. A thread has its
/// maker's name until it runs for the first time, and takes its own once it is on its CPUs: with
/// different names, all of them are seen as they stay.
std::map<std::string, std::string> allowed_cpus(const Arguments& command) {
  Arguments patient = command;
  patient.insert(patient.end(), {"--log-level", "info", "--grace", "600s"});
  Process process(patient);
  REQUIRE(process.wait_for_output("+"));
  process.send_signal(SIGTERM);
  REQUIRE(process.wait_for_log("pressing the power button"));
  std::map<std::string, std::string> cpus;
  const auto look = [&] {
    cpus.clear();
    bool named = true;
    for (const auto& thread :
         std::filesystem::directory_iterator("/proc/" + std::to_string(process.pid()) + "/task")) {
      named &= cpus.emplace(status_field(thread.path(), "Name:"),
                            status_field(thread.path(), "Cpus_allowed_list:"))
                   .second;
    }
    return named;
  };
  REQUIRE(process.wait_without_reading(look));
  return cpus;
}

/// The first two CPUs that are ours; the same twice where there is only one.
std::pair<std::string, std::string> two_cpus() {
  cpu_set_t ours;
  CPU_ZERO(&ours);
  REQUIRE(::sched_getaffinity(0, sizeof ours, &ours) == 0);
  std::vector<std::string> found;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE && found.size() < 2; ++cpu) {
    if (CPU_ISSET(cpu, &ours)) found.push_back(std::to_string(cpu));
  }
  REQUIRE(!found.empty());
  return {found.front(), found.back()};
}

TEST_CASE("threads stay on the CPUs they are given, virtual CPUs in turn") {
  const auto [one, other] = two_cpus();
  const std::string both = one == other ? one : one + "," + other;
  const auto cpus =
      allowed_cpus(guest("first", "", {"--cpus", "3", "--pin-vcpus", both, "--pin-io", other}));
  CHECK(cpus.at("vcpu0") == one);
  CHECK(cpus.at("vcpu1") == other);
  CHECK(cpus.at("vcpu2") == one);
  CHECK(cpus.at("io-loop") == other);
  CHECK(cpus.at("ringlet") == status_field("/proc/self", "Cpus_allowed_list:"));
}

TEST_CASE("there is an I/O thread for each queue, and no more than were asked for") {
  const TemporaryDirectory files;
  const std::string disks[] = {files.make_disk("one", 1 << 20), files.make_disk("two", 1 << 20)};
  const auto io_threads = [&](const std::string& asked, const std::string& queues) {
    Arguments command = guest("first", "", {"--io-threads", asked});
    for (const std::string& disk : disks) {
      command.insert(command.end(), {"--disk", "path=" + disk + ",queues=" + queues});
    }
    std::set<std::string> names;
    for (const auto& [name, cpus] : allowed_cpus(command)) {
      if (name.starts_with("io-loop")) names.insert(name);
    }
    return names;
  };
  CHECK(io_threads("1", "4") == std::set<std::string>{"io-loop"});
  CHECK(io_threads("3", "4") == std::set<std::string>{"io-loop0", "io-loop1", "io-loop2"});
  CHECK(io_threads("8", "1") == std::set<std::string>{"io-loop0", "io-loop1"});
}

TEST_CASE("a CPU that is not ours is refused before anything starts") {
  const Ended end = run(guest("first", "", {"--pin-io", "1023"}));
  CHECK(end.status == 2);
  CHECK_THAT(end.log, Catch::Matchers::StartsWith(
                          "ringlet: --pin-io: CPU 1023 is not ours to use; expected some of "));
}

TEST_CASE("with prefault all memory is there before the guest runs") {
  const std::string backing = GENERATE("anonymous", "shared");
  for (const bool prefault : {false, true}) {
    Process process(guest("first", "",
                          {"--memory", "64M", "--memory-backing", backing,
                           prefault ? "--prefault" : "--prefault=off"}));
    REQUIRE(process.wait_for_output("+"));
    const uint64_t rss_kib =
        std::stoull(status_field("/proc/" + std::to_string(process.pid()), "VmRSS:"));
    CHECK((rss_kib >= 64 * 1024) == prefault);
  }
}

TEST_CASE("registered memory is pinned before the guest runs") {
  if (!may_pin(2 * 64ull << 20)) {
    WARN("SKIPPED: no memory was registered, the limit of locked memory is too low");
    return;
  }
  const TemporaryDirectory files;
  const std::string backing = GENERATE("anonymous", "shared");
  Process process(
      guest("first", "",
            {"--memory", "64M", "--memory-backing", backing, "--register-memory", "--io-threads",
             "2", "--disk", "path=" + files.make_disk("disk", 1 << 20) + ",queues=2"}));
  REQUIRE(process.wait_for_output("+"));
  const std::string status = "/proc/" + std::to_string(process.pid());
  CHECK(std::stoull(status_field(status, "VmRSS:")) >= 64 * 1024);
  CHECK(std::stoull(status_field(status, "VmPin:")) >= 64 * 1024);
}

/// The flags of the guest's 64 MiB, as the kernel shows them.
std::string flags_of_memory(pid_t pid) {
  std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
  bool is_guest = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with("Size:")) is_guest = line.find(" 65536 kB") != std::string::npos;
    if (is_guest && line.starts_with("VmFlags:")) return line + " ";
  }
  return {};
}

TEST_CASE("the kernel may use transparent huge pages for the guest, unless told otherwise") {
  for (const bool thp : {false, true}) {
    Process process(guest("first", "", {"--memory", "64M", thp ? "--thp=on" : "--thp=off"}));
    REQUIRE(process.wait_for_output("+"));
    const std::string flags = flags_of_memory(process.pid());
    CHECK_THAT(flags, Catch::Matchers::StartsWith("VmFlags:"));
    CHECK((flags.find(" hg ") != std::string::npos) == thp);
    CHECK((flags.find(" nh ") != std::string::npos) == !thp);
  }
}

}  // namespace
}  // namespace ringlet
