// Tests of the memory map at the edges of RAM's two ranges.
#include <vector>

#include <catch2/catch.hpp>

#include "vmm/boot/memory_map.h"

namespace ringlet {
namespace {

using enum MemoryType;
using Map = std::vector<MemoryMapEntry>;

constexpr MemoryMapEntry kLow{{0, 0x9'fc00}, Ram};
constexpr MemoryMapEntry kBios{{0x9'fc00, 0x6'0400}, Reserved};
constexpr MemoryMapEntry kEcamEntry{{0xe000'0000, 0x10'0000}, Reserved};
constexpr MemoryMapEntry kKvmPages{{0xfffb'c000, 0x4000}, Reserved};

Map map_of(std::vector<AddrRange> ram) {
  return memory_map(ram);
}

TEST_CASE("small RAM ends where it ends") {
  CHECK(map_of({{0, 0x100'0000}}) ==
        Map{kLow, kBios, {{0x10'0000, 0xf0'0000}, Ram}, kEcamEntry, kKvmPages});
  CHECK(map_of({{0, 0x400'0000}}) ==
        Map{kLow, kBios, {{0x10'0000, 0x3f0'0000}, Ram}, kEcamEntry, kKvmPages});
}

TEST_CASE("3 GiB of RAM end at the hole") {
  CHECK(map_of({{0, 0xbfff'f000}}) ==
        Map{kLow, kBios, {{0x10'0000, 0xbfef'f000}, Ram}, kEcamEntry, kKvmPages});
  CHECK(map_of({{0, 0xc000'0000}}) ==
        Map{kLow, kBios, {{0x10'0000, 0xbff0'0000}, Ram}, kEcamEntry, kKvmPages});
}

TEST_CASE("RAM beyond 3 GiB goes on at 4 GiB") {
  const MemoryMapEntry first{{0x10'0000, 0xbff0'0000}, Ram};
  CHECK(map_of({{0, 0xc000'0000}, {0x1'0000'0000, 0x1000}}) ==
        Map{kLow, kBios, first, kEcamEntry, kKvmPages, {{0x1'0000'0000, 0x1000}, Ram}});
  CHECK(map_of({{0, 0xc000'0000}, {0x1'0000'0000, 0x4000'0000}}) ==
        Map{kLow, kBios, first, kEcamEntry, kKvmPages, {{0x1'0000'0000, 0x4000'0000}, Ram}});
  CHECK(map_of({{0, 0xc000'0000}, {0x1'0000'0000, 0xc000'0000}}) ==
        Map{kLow, kBios, first, kEcamEntry, kKvmPages, {{0x1'0000'0000, 0xc000'0000}, Ram}});
}

TEST_CASE("RAM that ends inside of a reserved range is cut there") {
  CHECK(map_of({{0, 0xa'0000}}) == Map{kLow, kBios, kEcamEntry, kKvmPages});
  CHECK(map_of({{0xe000'0000, 0x10'1000}}) ==
        Map{kBios, kEcamEntry, {{0xe010'0000, 0x1000}, Ram}, kKvmPages});
}

}  // namespace
}  // namespace ringlet
