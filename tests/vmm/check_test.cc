// Tests of `ringlet check`, on made-up hosts.
#include "vmm/check.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Catch::Equals;

/// A directory with a host's files in it.
class FakeHost {
 public:
  FakeHost() { REQUIRE(::mkdtemp(root_.data()) != nullptr); }
  FakeHost(const FakeHost&) = delete;
  FakeHost& operator=(const FakeHost&) = delete;
  ~FakeHost() { fs::remove_all(root_); }

  FakeHost& add(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text << "\n";
    return *this;
  }
  CheckReport report() const { return check_host(root_); }

 private:
  std::string root_ = "/tmp/ringlet-check-XXXXXX";
};

CheckRow row(const CheckReport& report, const std::string& name) {
  const auto found =
      std::find_if(report.rows.begin(), report.rows.end(),
                   [&](const CheckRow& candidate) { return candidate.name == name; });
  REQUIRE(found != report.rows.end());
  return *found;
}

TEST_CASE("a host without /dev/kvm runs no machines, and is told why") {
  const FakeHost host;
  const auto report = host.report();
  CHECK_FALSE(report.can_run);
  CHECK(row(report, "/dev/kvm").status == CheckStatus::Missing);
  CHECK_THAT(row(report, "/dev/kvm").hint, Contains("kvm_intel or kvm_amd"));
}

TEST_CASE("a /dev/kvm that is something else runs no machines") {
  FakeHost host;
  const auto report = host.add("/dev/kvm", "").report();
  CHECK_FALSE(report.can_run);
  CHECK_THAT(row(report, "/dev/kvm").hint, Contains("not a KVM device"));
}

TEST_CASE("a host with nothing in it is still reported in full") {
  const auto report = FakeHost().report();
  CHECK(row(report, "virtualization").status == CheckStatus::Warn);
  CHECK_THAT(row(report, "virtualization").hint, Contains("firmware"));
  CHECK_THAT(row(report, "huge pages").value, Equals("none of 2 MiB"));
  CHECK(row(report, "tap").status == CheckStatus::Warn);
  CHECK_THAT(row(report, "tap").hint, Contains("modprobe tun"));
  CHECK_THAT(row(report, "SMT").value, Equals("off"));
  CHECK_THAT(row(report, "KSM").value, Equals("off"));
}

TEST_CASE("hardware virtualization is told from PVM") {
  FakeHost intel;
  intel.add("/sys/module/kvm_intel/parameters/nested", "Y");
  CHECK_THAT(row(intel.report(), "virtualization").value, Equals("VT-x (kvm_intel)"));
  CHECK_THAT(row(intel.report(), "nesting").value, Contains("so may guests be hosts"));
  FakeHost pvm;
  pvm.add("/sys/module/kvm_pvm/parameters/verbose", "0");
  CHECK(row(pvm.report(), "virtualization").status == CheckStatus::Warn);
  CHECK_THAT(row(pvm.report(), "virtualization").value, Contains("kvm_pvm"));
}

TEST_CASE("a processor whose module is not loaded gets the command that loads it") {
  FakeHost host;
  host.add("/proc/cpuinfo", "processor : 0\nflags\t\t: fpu svm lm");
  CHECK_THAT(row(host.report(), "virtualization").hint, Equals("modprobe kvm_amd"));
}

TEST_CASE("a virtual machine without virtualization is sent to its own host") {
  FakeHost host;
  host.add("/proc/cpuinfo", "flags : fpu hypervisor");
  CHECK_THAT(row(host.report(), "virtualization").hint, Contains("nested virtualization"));
  CHECK_THAT(row(host.report(), "nesting").value, Contains("a virtual machine itself"));
}

TEST_CASE("huge pages and transparent huge pages are read as the kernel writes them") {
  FakeHost host;
  host.add("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8")
      .add("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "5")
      .add("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
  CHECK(row(host.report(), "huge pages").status == CheckStatus::Ok);
  CHECK_THAT(row(host.report(), "huge pages").value, Equals("5 of 8 pages of 2 MiB free"));
  CHECK(row(host.report(), "transparent huge pages").status == CheckStatus::Ok);
  CHECK_THAT(row(host.report(), "transparent huge pages").value,
             Equals("madvise, not for shared memory"));
  host.add("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
           "always within_size [advise] never deny force");
  CHECK_THAT(row(host.report(), "transparent huge pages").value, Equals("madvise"));
  host.add("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]");
  CHECK(row(host.report(), "transparent huge pages").status == CheckStatus::Warn);
}

TEST_CASE("what lets guests spy on each other is a warning") {
  FakeHost host;
  host.add("/sys/devices/system/cpu/smt/active", "1")
      .add("/sys/kernel/mm/ksm/run", "1")
      .add("/sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable: no microcode")
      .add("/sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected");
  CHECK(row(host.report(), "SMT").status == CheckStatus::Warn);
  CHECK(row(host.report(), "KSM").status == CheckStatus::Warn);
  CHECK(row(host.report(), "CPU flaws").status == CheckStatus::Warn);
  CHECK_THAT(row(host.report(), "CPU flaws").value, Equals("open: mds"));
}

TEST_CASE("the table shows hints under their rows and ends with a verdict") {
  const CheckReport report{.rows = {{"kernel", CheckStatus::Ok, "6.1", ""},
                                    {"io_uring", CheckStatus::Missing, "off", "switch it on"}},
                           .can_run = false};
  CHECK(report_as_table(report) ==
        "ok       kernel    6.1\n"
        "missing  io_uring  off\n"
        "                   > switch it on\n"
        "This host cannot run virtual machines yet.\n");
}

TEST_CASE("the JSON has every row and the verdict") {
  const CheckReport report{.rows = {{"tap", CheckStatus::Warn, "no", "say \"tun\""}},
                           .can_run = true};
  CHECK(report_as_json(report) ==
        "{\n  \"can_run\": true,\n  \"checks\": [\n    {\n      \"name\": \"tap\",\n"
        "      \"status\": \"warn\",\n      \"value\": \"no\",\n"
        "      \"hint\": \"say \\\"tun\\\"\"\n    }\n  ]\n}\n");
}

}  // namespace
}  // namespace ringlet
