// Tests of the 64-bit Linux boot protocol, of several processors, and of the serial port and clock.
#include <catch2/catch.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::Matches;
using Catch::Matchers::StartsWith;

/// What the linux64 guest prints about 64 MiB of memory.
constexpr const char* kBootParameters =
    "loader type: ff, loaded high: 1\n"
    "command line: first second=2\n"
    "e820: 0000000000000000-000000000009fbff type 1\n"
    "e820: 000000000009fc00-00000000000fffff type 2\n"
    "e820: 0000000000100000-0000000003ffffff type 1\n"
    "e820: 00000000e0000000-00000000e00fffff type 2\n"
    "e820: 00000000fffbc000-00000000fffbffff type 2\n";

TEST_CASE("an ELF kernel without a PVH note gets Linux boot parameters") {
  const Ended end = run(guest("linux64", "first second=2", {"--memory", "64M"}));
  CHECK_THAT(end.output,
             StartsWith("boot parameters: magic 53726448, version 020f, boot flag aa55\n"));
  CHECK_THAT(end.output, Contains(kBootParameters));
  CHECK_THAT(end.output, EndsWith("initrd: none\nrsdp: present\n"));
  CHECK(end.status == 1);
}

TEST_CASE("a bzImage gets its own setup header with Linux boot parameters") {
  const Ended end = run(guest("bzimage", "first second=2", {"--memory", "64M"}));
  CHECK_THAT(end.output,
             StartsWith("boot parameters: magic 53726448, version 020f, boot flag aa55\n"));
  CHECK_THAT(end.output, Contains(kBootParameters));
  CHECK_THAT(end.output, EndsWith("initrd: none\nrsdp: present\n"));
  CHECK(end.status == 1);
}

TEST_CASE("the Linux protocol hands over the initrd, whatever the file holds") {
  const TemporaryDirectory files;
  const std::string initrd = files.write("initrd", "123456789");
  for (const char* kernel : {"linux64", "bzimage"}) {
    const Ended end = run(guest(kernel, "", {"--initrd", initrd}));
    CHECK_THAT(end.output, Contains("initrd: 9 bytes, crc32 cbf43926\n"));
    CHECK(end.status == 1);
  }
}

TEST_CASE("a machine of one processor interrupts itself") {
  const Ended end = run(guest("smp", ""));
  CHECK(end.output == "CPU 0 online\nbroadcasts: 10\nrings: 10\nCPUs: 1\n");
  CHECK(end.status == 1);
}

TEST_CASE("two processors start and interrupt each other") {
  const Ended end = run(guest("smp", "rounds=100", {"--cpus", "2"}));
  CHECK(end.output == "CPU 0 online\nCPU 1 online\nbroadcasts: 100\nrings: 100\nCPUs: 2\n");
  CHECK(end.status == 1);
}

TEST_CASE("64 processors start and interrupt each other") {
  const Ended end = run(guest("smp", "", {"--cpus", "64"}));
  CHECK_THAT(end.output, EndsWith("CPU 63 online\nbroadcasts: 10\nrings: 10\nCPUs: 64\n"));
  CHECK(end.status == 1);
}

TEST_CASE("64 processors do so with x2APICs too") {
  const Ended end = run(guest("smp", "apic=x2apic", {"--cpus", "64"}));
  CHECK_THAT(end.output, EndsWith("CPU 63 online\nbroadcasts: 10\nrings: 10\nCPUs: 64\n"));
  CHECK(end.status == 1);
}

TEST_CASE("the serial port has a 16550's registers, loopback and output") {
  const Ended end = run(guest("legacy", "what=serial"));
  CHECK(end.output == "serial: polled\nserial: registers ok\n");
  CHECK(end.status == 1);
}

TEST_CASE("the serial port takes input and gives output by interrupts") {
  Process process(guest("legacy", "what=serial-irq"));
  REQUIRE(process.wait_for_output("serial: sent by interrupts\n"));
  process.type("hello\n");
  REQUIRE(process.wait_for_output("serial: received hello\necho: hello\n"));
  // All at once: far more than fits into the FIFO.
  process.type(std::string(200, 'x') + "\n" + std::string(200, 'y') + "\nquit\n");
  const Ended end = process.wait_for_end();
  CHECK(end.output ==
        "serial: a line longer than the FIFO, sent by interrupts\n"
        "serial: sent by interrupts\n"
        "serial: received hello\n"
        "echo: hello\n"
        "serial: received " +
            std::string(200, 'x') + "\n" + "echo: " + std::string(200, 'x') + "\n" +
            "serial: received " + std::string(200, 'y') + "\n" + "echo: " + std::string(200, 'y') +
            "\n" + "serial: received quit\n");
  CHECK(end.status == 1);
}

TEST_CASE("the serial port passes on every byte but line ends as it is") {
  Process process(guest("legacy", "what=serial-irq"));
  REQUIRE(process.wait_for_output("serial: sent by interrupts\n"));
  std::string bytes;
  for (int value = 0; value < 256; ++value) bytes.push_back(static_cast<char>(value));
  std::erase(bytes, '\n');
  process.type(bytes + "\nquit\n");
  CHECK_THAT(process.wait_for_end().output, Contains("echo: " + bytes + "\n"));
}

TEST_CASE("the clock shows the host's date, and its seconds advance") {
  const Ended end = run(guest("legacy", "what=rtc"));
  CHECK_THAT(end.output, Matches("rtc: 20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]\n"
                                 "rtc: the seconds advance\n"));
  CHECK(end.status == 1);
}

}  // namespace
}  // namespace ringlet
