// Tests of what a hostile guest can do: to one device, and to nothing else. The hostile guest
// attacks the first of two disks and the machine; it checks the second disk and memory that no
// device was given meanwhile, and the first disk afterwards.
#include <algorithm>
#include <chrono>

#include <catch2/catch.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

constexpr uint64_t kDiskBytes = 4 << 20;
constexpr size_t kChunk = 4096;
constexpr const char* kUnharmed = "device 0 works again, device 1 and memory are unharmed\n";

/// What is left of an attack.
struct Attacked {
  Ended end;
  std::string before;  ///< the first disk's content
  std::string first;
  bool second_as_expected = false;
  size_t log_lines = 0;
  /// How many lines one kind of message may have had: a burst, then one in 10 s (LogLimit).
  size_t lines_a_kind = 0;
};

Attacked attack(const std::string& what) {
  const TemporaryDirectory files;
  const std::string first = files.make_filled_disk("first", kDiskBytes);
  const std::string second = files.make_filled_disk("second", kDiskBytes);
  std::string expected = files.read("second");
  for (size_t i = 0; i < 8; ++i) {
    expected.replace(i * kChunk, kChunk, kChunk, static_cast<char>(0xb0 + i));
  }
  Attacked result;
  result.before = files.read("first");
  const auto start = std::chrono::steady_clock::now();
  result.end = run(guest("hostile", "what=" + what,
                         {"--memory", "32M", "--cpus", "2", "--disk", "path=" + first + ",queues=2",
                          "--disk", "path=" + second}));
  const auto tens = (std::chrono::steady_clock::now() - start) / std::chrono::seconds(10);
  result.first = files.read("first");
  result.second_as_expected = files.read("second") == expected;
  const std::string& log = result.end.log;
  result.log_lines = static_cast<size_t>(std::count(log.begin(), log.end(), '\n'));
  result.lines_a_kind = 3 + 1 + static_cast<size_t>(tens);
  return result;
}

/// The VMM has lived on, both disks hold what valid requests wrote, and nothing else, and there
/// were no more than `kinds` kinds of message.
void check_survived(const Attacked& attacked, size_t kinds) {
  CHECK(attacked.end.status == 1);
  CHECK_THAT(attacked.end.output, EndsWith(kUnharmed));
  const std::string& before = attacked.before;
  const bool first_as_expected =
      attacked.first == std::string(kChunk, '\x5a') + before.substr(kChunk);
  CHECK(first_as_expected);
  CHECK(attacked.second_as_expected);
  CHECK(attacked.log_lines <= kinds * attacked.lines_a_kind);
}

TEST_CASE("every malformed chain fails its device until a reset, or its request") {
  const Attacked attacked = attack("chains");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        std::string("a readable descriptor behind a writable one: needs reset\n"
                    "a sector behind the disk: I/O error\n"
                    "sector 2^64 - 1: I/O error\n"
                    "sector 2^55, at byte 2^64: I/O error\n"
                    "half a sector: I/O error\n"
                    "an unknown request: unsupported\n"
                    "a header inside the buffer it fills: ok\n"
                    "a descriptor that is its own next: needs reset\n"
                    "a chain that returns to its head: needs reset\n"
                    "a chain over the whole table and round again: needs reset\n"
                    "a next field just outside the table: needs reset\n"
                    "a next field far outside the table: needs reset\n"
                    "a buffer over the end of RAM: needs reset\n"
                    "a buffer behind RAM: needs reset\n"
                    "a buffer in the hole: needs reset\n"
                    "a buffer in the local APIC: needs reset\n"
                    "a buffer in the device's own registers: needs reset\n"
                    "a buffer in the device's MSI-X table: needs reset\n"
                    "a buffer at 2^63: needs reset\n"
                    "a buffer whose end wraps round: needs reset\n"
                    "a buffer of 2^32 - 1 bytes: needs reset\n"
                    "a header behind RAM: needs reset\n"
                    "a header that wraps round: needs reset\n"
                    "a status byte behind RAM: needs reset\n"
                    "a status byte at the very end: needs reset\n"
                    "no status byte: needs reset\n"
                    "a header of 15 bytes, and nothing else: needs reset\n"
                    "a header only: needs reset\n"
                    "a header that the device may write: needs reset\n"
                    "a chain of empty descriptors: needs reset\n") +
            kUnharmed);
}

TEST_CASE("every malformed indirect table fails its device until a reset") {
  const Attacked attacked = attack("indirect");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        std::string("an indirect table that was not negotiated: needs reset\n"
                    "an indirect table inside an indirect table: needs reset\n"
                    "an indirect table that refers to itself: needs reset\n"
                    "an indirect descriptor with a next one: needs reset\n"
                    "an indirect table of no bytes: needs reset\n"
                    "an indirect table of half a descriptor: needs reset\n"
                    "an indirect table of 3 descriptors and a byte: needs reset\n"
                    "an indirect table longer than the queue: needs reset\n"
                    "an indirect table of 4 GiB: needs reset\n"
                    "an indirect table behind RAM: needs reset\n"
                    "an indirect table over the end of RAM: needs reset\n"
                    "an indirect table in the device's registers: needs reset\n"
                    "an indirect table that loops: needs reset\n"
                    "a next field outside the indirect table: needs reset\n"
                    "an indirect table that is the descriptor table: needs reset\n"
                    "255 buffers of nearly all RAM: needs reset\n") +
            kUnharmed);
}

TEST_CASE("heads that are wrong or in use, and avail indices that jump, fail their device") {
  const Attacked attacked = attack("heads");
  check_survived(attacked, 1);
  CHECK(attacked.end.output == std::string("a head just outside the table: needs reset\n"
                                           "head 65535: needs reset\n"
                                           "a head that is in use: needs reset\n"
                                           "a head that is in use, sixteen times: needs reset\n"
                                           "an avail index one too far: needs reset\n"
                                           "an avail index far away: needs reset\n"
                                           "an avail index that goes back: needs reset\n"
                                           "a thousand kicks of a broken queue: ignored\n") +
                                   kUnharmed);
}

TEST_CASE("a queue anywhere but in RAM fails its device, whichever part of it that is") {
  const std::string all = " needs reset, needs reset, needs reset, bystander ok\n";
  const Attacked attacked = attack("queues");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        "behind RAM:" + all + "over the end of RAM:" + all + "in the hole:" + all +
            "in ECAM:" + all + "in the I/O APIC:" + all + "in the local APIC:" + all +
            "in the device's registers:" + all + "in the device's MSI-X table:" + all +
            "in the other device's registers:" + all + "at 2^63:" + all +
            "over the end of all:" + all + "not aligned:" + all + kUnharmed);
}

TEST_CASE("a queue whose parts lie over each other or over its data can be reset") {
  const Attacked attacked = attack("overlays");
  check_survived(attacked, 1);
  CHECK(attacked.end.output == std::string("all three at one place: reset is confirmed\n"
                                           "used over avail: reset is confirmed\n"
                                           "used over descriptors: reset is confirmed\n"
                                           "avail over descriptors: reset is confirmed\n"
                                           "used half over avail: reset is confirmed\n"
                                           "used over the request: reset is confirmed\n"
                                           "disk data over the rings: reset is confirmed\n"
                                           "two queues at one place: reset is confirmed\n") +
                                   kUnharmed);
}

TEST_CASE("the common configuration in every wrong order changes nothing it should not") {
  const Attacked attacked = attack("status");
  check_survived(attacked, 2);
  CHECK(attacked.end.output ==
        std::string("DRIVER_OK first: status 0\n"
                    "FEATURES_OK first: status 0\n"
                    "DRIVER first: status 0\n"
                    "DRIVER_OK before FEATURES_OK: status 3\n"
                    "NEEDS_RESET by the driver: status 3\n"
                    "everything at once, without a feature: status 3\n"
                    "reset twice: status 0\n"
                    "wrong features: status 3\n"
                    "queue sizes 0, 3, 32768, 65535 and queues 1000 and 65535: refused\n"
                    "DRIVER_OK without a queue, and a kick: status f\n"
                    "a queue enabled late and twice: ok\n"
                    "200 resets in the middle: status 0\n"
                    "FAILED: status 80\n") +
            kUnharmed);
}

TEST_CASE("registers written at random by every width end with a reset") {
  const Attacked attacked = attack("registers");
  check_survived(attacked, 3);
  CHECK(attacked.end.output ==
        std::string("registers written at random, 20 times: reset is confirmed\n") + kUnharmed);
}

TEST_CASE("accesses of every width to whole BARs, over their ends and to the hole do no harm") {
  const Attacked attacked = attack("mmio");
  check_survived(attacked, 3);
  CHECK(attacked.end.output == std::string("reads of both BARs: ok\n"
                                           "writes to the whole BAR: ok\n"
                                           "accesses over the BAR's and sections' ends: ok\n"
                                           "accesses over the end of RAM: ok\n"
                                           "the hole below 4 GiB: ok\n") +
                                   kUnharmed);
}

TEST_CASE("a BAR over RAM, APICs, ECAM or nothing covers none of it, and one can be covered") {
  const Attacked attacked = attack("bars");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        std::string("over RAM: ok\n"
                    "over the end of RAM: ok\n"
                    "at 0: ok\n"
                    "over ECAM: ok\n"
                    "over the I/O APIC: ok\n"
                    "over the local APIC: ok\n"
                    "over the boot timer: ok\n"
                    "just before the 32-bit window: ok\n"
                    "just behind the 32-bit window: ok\n"
                    "just before the 64-bit window: ok\n"
                    "at the top of 64 bits: ok\n"
                    "at 2^63: ok\n"
                    "over the other device's BAR: ok, and the other one goes on afterwards\n"
                    "the other device's BAR over this one's: stays out\n") +
            kUnharmed);
}

TEST_CASE("a BAR that moves to and fro under requests and doorbells leaves its device working") {
  const Attacked attacked = attack("toggle");
  check_survived(attacked, 0);
  CHECK(attacked.end.output == std::string("100 moves of a busy device: ok\n") + kUnharmed);
}

TEST_CASE("doorbells of all queues there are and are not, by two vCPUs, delay nobody for good") {
  const Attacked attacked = attack("doorbells");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        std::string("doorbells of all queues, by two CPUs: ok\n") + kUnharmed);
}

TEST_CASE("MSI-X masks, messages and pending bits at random lose no interrupt in the end") {
  const Attacked attacked = attack("msi");
  check_survived(attacked, 1);
  CHECK(attacked.end.output ==
        std::string("masks, messages and pending bits at random under 1000 requests: ok\n") +
            kUnharmed);
}

TEST_CASE("reads and writes of every width at every port do no harm") {
  const Attacked attacked = attack("ports");
  check_survived(attacked, 2);
  // Before that comes what the sweep wrote to the serial port.
  CHECK_THAT(attacked.end.output, Contains("reads and writes of every width at every port: ok\n"));
}

TEST_CASE("string instructions between ports, registers and memory do no harm") {
  const Attacked attacked = attack("strings");
  check_survived(attacked, 2);
  CHECK(attacked.end.output == std::string("string instructions at ports: ok\n"
                                           "string instructions at registers: ok\n") +
                                   kUnharmed);
}

TEST_CASE("floods of panics, keyboard commands, output and failures do not flood the log") {
  const Attacked attacked = attack("floods");
  check_survived(attacked, 4);
  CHECK_THAT(attacked.end.output, StartsWith("pvpanic and keyboard controller, 5000 times: ok\n"));
  CHECK(std::count(attacked.end.output.begin(), attacked.end.output.end(), 'x') == 61440);
  CHECK_THAT(attacked.end.output,
             EndsWith(std::string("60 KiB over the serial port: ok\n"
                                  "300 failures, skipped steps and misplaced BARs: ok\n") +
                      kUnharmed));
}

TEST_CASE("a vCPU halted with interrupts off holds up nobody else") {
  const Attacked attacked = attack("halted");
  check_survived(attacked, 0);
  CHECK(attacked.end.output ==
        std::string("the second CPU halted with interrupts off: ok\n") + kUnharmed);
}

TEST_CASE("a vCPU survives INIT and start-up messages by the hundred") {
  const Attacked attacked = attack("ipis");
  check_survived(attacked, 0);
  CHECK(attacked.end.output ==
        std::string("500 times INIT and start-up: the second CPU still starts\n") + kUnharmed);
}

TEST_CASE("a triple fault of one vCPU under load ends the machine, and disks are as they were") {
  const Attacked attacked = attack("triplefault");
  CHECK(attacked.end.status == 5);
  CHECK(attacked.end.output == "triple fault on the second CPU\n");
  CHECK_THAT(attacked.end.log, Contains("vCPU 1: triple fault"));
  CHECK(attacked.log_lines <= 20);
  const bool first_unchanged = attacked.first == attacked.before;
  CHECK(first_unchanged);
  CHECK(attacked.second_as_expected);
}

}  // namespace
}  // namespace ringlet
