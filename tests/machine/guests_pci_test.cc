// Tests of the PCI bus as a guest sees it, up to its last slot.
#include <catch2/catch.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;

constexpr uint64_t kDiskBytes = 4 << 20;

/// `count` disks, all of them the same read-only file.
Arguments disks(const TemporaryDirectory& files, int count) {
  const std::string disk = "path=" + files.make_disk("disk", kDiskBytes) + ",readonly";
  Arguments options;
  for (int i = 0; i < count; ++i) options.insert(options.end(), {"--disk", disk});
  return options;
}

TEST_CASE("a guest finds the host bridge and a disk with its BAR and capabilities") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=list", disks(files, 1)));
  CHECK(end.output ==
        "00:00.0 0600: 1b36:0008 (rev 00)\n"
        "00:01.0 0180: 1af4:1042 (rev 01)\n"
        "  interrupt pin A\n"
        "  BAR 0: memory, 64-bit at 100000000, 32768 bytes\n"
        "  capability 11 at 40\n"
        "  capability 09 at 4c\n"
        "  capability 09 at 5c\n"
        "  capability 09 at 6c\n"
        "  capability 09 at 7c\n"
        "  capability 09 at 90\n"
        "2 functions\n");
  CHECK(end.status == 1);
}

TEST_CASE("a machine without devices has a host bridge and empty slots") {
  const Ended end = run(guest("pci", "what=list"));
  CHECK(end.output == "00:00.0 0600: 1b36:0008 (rev 00)\n1 functions\n");
  CHECK(run(guest("pci", "what=access")).output ==
        "access by ports and by ECAM agree: 1 devices\n");
}

TEST_CASE("configuration space is the same by ports and by ECAM in all 32 slots") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=access", disks(files, 31)));
  CHECK(end.output == "access by ports and by ECAM agree: 32 devices\n");
  CHECK(end.status == 1);
}

TEST_CASE("a guest finds 31 disks, each with a BAR of its own") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=list", disks(files, 31)));
  CHECK_THAT(end.output, Contains("\n00:1f.0 0180: 1af4:1042 (rev 01)\n"));
  CHECK_THAT(end.output, Contains("  BAR 0: memory, 64-bit at 100000000, 32768 bytes\n"));
  CHECK_THAT(end.output, Contains("  BAR 0: memory, 64-bit at 1000f0000, 32768 bytes\n"));
  CHECK_THAT(end.output, EndsWith("\n32 functions\n"));
  CHECK(end.status == 1);
}

TEST_CASE("the disk in the last slot works, by polling, MSI-X and INTx") {
  const TemporaryDirectory files;
  const Ended end = run(guest("blk", "index=30 requests=64", disks(files, 31)));
  CHECK_THAT(end.output, Contains("writes are refused\n"));
  CHECK(end.status == 1);
}

TEST_CASE("a machine with more devices than slots is refused") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=list", disks(files, 32)));
  CHECK(end.status == 2);
  CHECK_THAT(end.log, Contains("devices: ") && Contains("31"));
}

TEST_CASE("a BAR of a running device can be moved and moved back") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=move", disks(files, 3)));
  CHECK(end.output ==
        "polled device: moved with decoding off, with decoding on\n"
        "MSI-X device: moved with decoding off, with decoding on\n");
  CHECK(end.status == 1);
}

TEST_CASE("a 64-bit BAR works below 4 GiB") {
  const TemporaryDirectory files;
  const Ended end = run(guest("pci", "what=move to=0xd0000000", disks(files, 1)));
  CHECK_THAT(end.output, Contains("polled device: moved with decoding off, with decoding on, to "
                                  "the place asked for\n"));
  CHECK(end.status == 1);
}

TEST_CASE("BARs lie above RAM that reaches past 4 GiB") {
  const TemporaryDirectory files;
  Arguments options = disks(files, 1);
  options.insert(options.end(), {"--memory", "6G"});
  const Ended end = run(guest("pci", "", options));
  CHECK_THAT(end.output, Contains("  BAR 0: memory, 64-bit at 1c0000000, 32768 bytes\n"));
  CHECK(end.status == 1);
}

}  // namespace
}  // namespace ringlet
