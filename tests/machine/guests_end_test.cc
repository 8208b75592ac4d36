// Tests of how a guest's end becomes the exit status, and of what is printed on the way.
#include <algorithm>

#include <catch2/catch.hpp>
#include <signal.h>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::Matches;
using Catch::Matchers::StartsWith;

/// Around the first digit of ECX in what the legacy guest prints of CPUID.
const std::string kCpuid = "cpuid: [0-9a-f]{8} [0-9a-f]{8} ";
const std::string kRest = "[0-9a-f]{7} [0-9a-f]{8}\n";

TEST_CASE("a guest gets its command line and memory map, and prints to the debug console") {
  const Ended end = run(guest("hello", "first second=2", {"--memory", "64M"}));
  CHECK(end.output ==
        "hello\n"
        "start info version 1\n"
        "command line: first second=2\n"
        "modules: 0\n"
        "memory: 64 MiB\n"
        "rsdp: present\n");
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

TEST_CASE("a PVH guest gets the initrd as its module, whatever the file holds") {
  const TemporaryDirectory files;
  const std::string initrd = files.write("initrd", "123456789");
  const Ended end = run(guest("hello", "", {"--initrd", initrd}));
  CHECK_THAT(end.output, Contains("modules: 1\nmodule: 9 bytes, crc32 cbf43926\n"));
  CHECK(end.status == 1);
}

TEST_CASE("writing V to the debug-exit port ends with status V * 2 + 1") {
  CHECK(run(guest("hello", "code=0")).status == 1);
  CHECK(run(guest("hello", "code=5")).status == 11);
  CHECK(run(guest("hello", "code=127")).status == 255);
}

TEST_CASE("a guest that powers off by ACPI ends with status 0") {
  const Ended end = run(guest("legacy", "what=poweroff"));
  CHECK(end.status == 0);
  CHECK(end.output == "powering off\n");
  CHECK(end.log == "");
}

TEST_CASE("a reset by the ACPI register ends with status 3") {
  const Ended end = run(guest("legacy", "what=reset"));
  CHECK(end.status == 3);
  CHECK(end.output == "resetting by ACPI\n");
}

TEST_CASE("a reset by the keyboard controller ends with status 3") {
  const Ended end = run(guest("legacy", "what=i8042"));
  CHECK(end.status == 3);
  CHECK(end.output == "resetting by i8042\n");
}

TEST_CASE("a panic told through pvpanic ends with status 4") {
  const Ended end = run(guest("legacy", "what=pvpanic"));
  CHECK(end.status == 4);
  CHECK(end.output == "pvpanic event 1\n");
}

TEST_CASE("a guest that panicked but loads a crash kernel goes on") {
  Process process(guest("legacy", "what=pvpanic value=2"));
  CHECK(process.wait_for_log("the guest has panicked and loads a crash kernel"));
}

TEST_CASE("a triple fault ends with status 5 and shows the registers") {
  const Ended end = run(guest("legacy", "what=triplefault"));
  CHECK(end.status == 5);
  CHECK(end.output == "triple fault\n");
  CHECK_THAT(end.log, Contains("triple fault"));
  CHECK_THAT(end.log, Contains("rip "));
  CHECK_THAT(end.log, Contains("cr3 "));
  CHECK_THAT(end.log, Contains("0f 0b"));  // ud2, by which it was raised
}

TEST_CASE("an instruction KVM cannot run ends with status 5, registers and where it was") {
  const Ended end = run(guest("legacy", "what=badfetch"));
  CHECK(end.status == 5);
  CHECK(end.output == "jumping to fec10000\n");
  CHECK_THAT(end.log, Contains("KVM"));
  CHECK_THAT(end.log, Contains("fec10000"));
}

TEST_CASE("the boot timer logs one line") {
  const Ended end = run(guest("legacy", "what=timer", {"--boot-timer", "--log-level", "info"}));
  CHECK(end.status == 1);
  CHECK_THAT(
      end.log,
      Matches("[^]*Guest-boot-time = +[0-9]+ us [0-9]+ ms, +[0-9]+ CPU us [0-9]+ CPU ms[^]*"));
}

TEST_CASE("without --boot-timer its page is nothing") {
  const Ended end = run(guest("legacy", "what=timer", {"--log-level", "info"}));
  CHECK(end.status == 1);
  CHECK(end.log.find("Guest-boot-time") == std::string::npos);
}

TEST_CASE("a CPUID bit that is switched off is off for the guest") {
  const std::string cmdline = "what=cpuid leaf=1";
  CHECK_THAT(run(guest("legacy", cmdline)).output, Matches(kCpuid + "[89a-f]" + kRest));
  for (const char* change : {"hypervisor=off", "1,0,ecx,31=off"}) {
    const Ended end = run(guest("legacy", cmdline, {"--cpuid", change}));
    CHECK_THAT(end.output, Matches(kCpuid + "[0-7]" + kRest));
    CHECK(end.log == "");
  }
}

TEST_CASE("a CPUID bit that KVM forces is reported") {
  const Ended end = run(guest("legacy", "what=cpuid leaf=7", {"--cpuid", "smap=off"}));
  const bool visible = (std::stoul(end.output.substr(16, 8), nullptr, 16) >> 20 & 1) != 0;
  const std::string report = "cpuid: 'smap=off' has no effect, KVM forces this bit on this host";
  CHECK((end.log.find(report) != std::string::npos) == visible);
}

TEST_CASE("ports that belong to nobody read ones") {
  const Ended end = run(guest("legacy", "what=ports"));
  CHECK(end.output == "unassigned ports read ones\n");
  CHECK(end.status == 1);
}

TEST_CASE("string instructions move every byte") {
  const Ended end = run(guest("legacy", "what=string"));
  CHECK(end.output == "written by rep outsb\n");
  CHECK(end.status == 1);
}

TEST_CASE("without the debug options their ports are nothing") {
  Process process(ringlet({"run", "--kernel", RINGLET_GUESTS "/legacy", "--cmdline", "what=serial",
                           "--log-level", "info"}));
  REQUIRE(process.wait_for_output("serial: polled\n"));
  // What the guest prints next is lost, and so is its attempt to end.
  process.send_signal(SIGTERM);
  REQUIRE(process.wait_for_log("pressing the power button"));
  process.send_signal(SIGINT);
  const Ended end = process.wait_for_end();
  CHECK(end.output == "serial: polled\n");
  CHECK(end.signal == SIGTERM);
}

TEST_CASE("the debug console goes to stdout even when there is no serial port") {
  const Ended end = run(guest("legacy", "what=string", {"--serial", "none"}));
  CHECK(end.output == "written by rep outsb\n");
}

TEST_CASE("console output goes to a file if asked for") {
  const TemporaryDirectory files;
  const Ended end = run(guest("legacy", "what=serial", {"--serial", files.path("serial.txt")}));
  CHECK(files.read("serial.txt") == "serial: polled\nserial: registers ok\n");
  CHECK(end.output == "");
}

TEST_CASE("wrong usage ends with status 2 and one line that names the culprit") {
  const Ended end = run(ringlet({"run", "--kernel", "vmlinux", "--cpu", "2"}));
  CHECK(end.status == 2);
  CHECK(end.output == "");
  CHECK_THAT(end.log, StartsWith("ringlet: ") && Contains("--cpu"));
  CHECK(std::count(end.log.begin(), end.log.end(), '\n') == 1);
}

TEST_CASE("a kernel that is missing, a directory, empty or no kernel is wrong usage") {
  const TemporaryDirectory files;
  const std::string text = files.write("text", std::string(5000, 'x'));
  const std::string empty = files.write("empty", "");
  for (const std::string& path : {files.path("missing"), files.path("."), text, empty}) {
    const Ended end = run(ringlet({"run", "--kernel", path}));
    CHECK(end.status == 2);
    CHECK_THAT(end.log, StartsWith("ringlet: kernel") && Contains(path));
    CHECK(std::count(end.log.begin(), end.log.end(), '\n') == 1);
  }
}

TEST_CASE("a host without room for the guest's memory ends with status 1") {
  // What cannot be had is a file of that size; less address space would stop sanitizers first.
  Arguments command{"/bin/sh", "-c", "ulimit -f 1000; exec \"$0\" \"$@\""};
  const Arguments shared = guest("hello", "", {"--memory", "3G", "--memory-backing", "shared"});
  command.insert(command.end(), shared.begin(), shared.end());
  const Ended end = run(command);
  CHECK(end.status == 1);
  CHECK_THAT(end.log,
             StartsWith("ringlet: ") && Contains("guest memory") && Contains("File too large"));
}

}  // namespace
}  // namespace ringlet
