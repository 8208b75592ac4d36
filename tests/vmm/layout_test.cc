// Tests of the machine's layout: where RAM ends, where the 64-bit window goes, what may not
// overlap.
#include "vmm/layout.h"

#include <array>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

TEST_CASE("The end of RAM skips the hole below 4 GiB") {
  CHECK(ram_end(16 * kMiB) == 0x100'0000);
  CHECK(ram_end(3 * kGiB) == 0xc000'0000);
  CHECK(ram_end(3 * kGiB + 4096) == 0x1'0000'1000);
  CHECK(ram_end(6 * kGiB) == 0x1'c000'0000);
}

TEST_CASE("the 64-bit window starts at the first whole GiB above RAM and above 4 GiB") {
  CHECK(window64(0x800'0000, 46) == Window64{0x1'0000'0000, 256 * kGiB});
  CHECK(window64(0x1'0000'1000, 46) == Window64{0x1'4000'0000, 256 * kGiB});
  CHECK(window64(0x1'c000'0000, 46) == Window64{0x1'c000'0000, 256 * kGiB});
}

TEST_CASE("the 64-bit window ends with the guest's physical address bits") {
  CHECK(window64(0x800'0000, 36) == Window64{0x1'0000'0000, 60 * kGiB});
  CHECK(window64(0xf'0000'0000, 36) == Window64{0xf'0000'0000, 4 * kGiB});
}

TEST_CASE("there is no 64-bit window when RAM leaves less than 4 GiB for it") {
  CHECK(window64(0xf'0000'0001, 36) == std::nullopt);
  CHECK(window64(0x10'0000'0000, 36) == std::nullopt);
  CHECK(window64(0x800'0000, 32) == std::nullopt);
  CHECK(window64(0xffff'ffff'ffff'ffff, 52) == std::nullopt);
}

TEST_CASE("no two ranges of the machine overlap and they are listed in rising order") {
  constexpr std::array kAll{kGdt,
                            kPvhStartInfo,
                            kBootParams,
                            kPageTables,
                            kCommandLine,
                            kAcpiTables,
                            AddrRange{kHighRam, kRamLowMax - kHighRam},
                            kBootTimer,
                            kPciWindow32,
                            kEcam,
                            kIoApic,
                            kLocalApic,
                            kKvmIdentityMap,
                            kKvmTss,
                            AddrRange{kRamHighBase, 1 * kGiB}};
  for (size_t i = 1; i < kAll.size(); ++i) {
    CAPTURE(i);
    CHECK(kAll[i - 1].base + kAll[i - 1].size <= kAll[i].base);
  }
}

TEST_CASE("interrupt pins are spread over four lines by the usual swizzle") {
  CHECK(intx_gsi(0, 0) == Gsi{16});
  CHECK(intx_gsi(1, 0) == Gsi{17});
  CHECK(intx_gsi(3, 1) == Gsi{16});
  CHECK(intx_gsi(31, 3) == Gsi{18});
}

}  // namespace
}  // namespace ringlet
