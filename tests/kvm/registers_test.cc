// Tests of register tables: how accesses are cut into registers and widened over them.
#include "kvm/registers.h"

#include <vector>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

enum class Id { Byte, Half, Hole, Word, Fixed, Long };

constexpr RegisterMap kMap(std::array{
    Register<Id>{Id::Byte, 1, Access::ReadWrite},
    Register<Id>{Id::Half, 2, Access::ReadWrite},
    Register<Id>{Id::Hole, 1, Access::Reserved},
    Register<Id>{Id::Word, 4, Access::ReadWrite},
    Register<Id>{Id::Fixed, 4, Access::ReadOnly},
    Register<Id>{Id::Long, 8, Access::ReadWrite},
});
static_assert(kMap.size() == 20);
static_assert(kMap.offset(Id::Half) == 1);
static_assert(kMap.offset(Id::Word) == 4);
static_assert(kMap.offset(Id::Long) == 12);

uint64_t value_of(Id id) {
  switch (id) {
    case Id::Byte: return 0x10;
    case Id::Half: return 0x2221;
    case Id::Hole: return 0x99;
    case Id::Word: return 0x43424140;
    case Id::Fixed: return 0x53525150;
    case Id::Long: return 0x6766656463626160;
  }
  return 0;
}

uint64_t read(uint64_t offset, size_t size) {
  uint64_t value = 0xffff'ffff'ffff'ffff;
  kMap.read(offset, std::as_writable_bytes(std::span(&value, 1)).first(size), value_of);
  return value;
}

struct Set {
  Id id;
  uint64_t value;
  bool operator==(const Set&) const = default;
};

std::vector<Set> write(uint64_t offset, size_t size, uint64_t value) {
  std::vector<Set> sets;
  kMap.write(offset, std::as_bytes(std::span(&value, 1)).first(size), value_of,
             [&](Id id, uint64_t now) {
               sets.push_back({id, now});
             });
  return sets;
}

TEST_CASE("a read gives the bytes of every register it covers") {
  struct Row {
    uint64_t offset;
    size_t size;
    uint64_t expected;
  };
  const auto row = GENERATE(Row{0, 1, 0xffff'ffff'ffff'ff10},   // one register
                            Row{1, 2, 0xffff'ffff'ffff'2221},   //
                            Row{4, 4, 0xffff'ffff'4342'4140},   //
                            Row{12, 8, 0x6766'6564'6362'6160},  //
                            Row{2, 1, 0xffff'ffff'ffff'ff22},   // part of one
                            Row{5, 2, 0xffff'ffff'ffff'4241},   //
                            Row{16, 4, 0xffff'ffff'6766'6564},  //
                            Row{0, 4, 0xffff'ffff'0022'2110},   // several, a reserved one as zero
                            Row{2, 4, 0xffff'ffff'4140'0022},   // across two, unaligned
                            Row{7, 8, 0x6261'6053'5251'5043},   // across three
                            Row{3, 1, 0xffff'ffff'ffff'ff00},   // the reserved one
                            Row{18, 4, 0xffff'ffff'ffff'6766},  // over the end: left as they came
                            Row{20, 4, 0xffff'ffff'ffff'ffff},  // behind the end
                            Row{~uint64_t{0}, 8, 0xffff'ffff'ffff'ffff});
  CAPTURE(row.offset, row.size);
  CHECK(read(row.offset, row.size) == row.expected);
}

TEST_CASE("a write sets every register it covers, and keeps the bytes it does not") {
  struct Row {
    uint64_t offset;
    size_t size;
    uint64_t value;
    std::vector<Set> expected;
  };
  const auto row = GENERATE(values<Row>({
      {0, 1, 0xab, {{Id::Byte, 0xab}}},
      {1, 2, 0xabcd, {{Id::Half, 0xabcd}}},
      {2, 1, 0xab, {{Id::Half, 0xab21}}},
      {5, 2, 0xabcd, {{Id::Word, 0x43ab'cd40}}},
      {12, 8, 0x0102'0304'0506'0708, {{Id::Long, 0x0102'0304'0506'0708}}},
      {12, 4, 0xaabb'ccdd, {{Id::Long, 0x6766'6564'aabb'ccdd}}},
      {16, 4, 0xaabb'ccdd, {{Id::Long, 0xaabb'ccdd'6362'6160}}},
      {0, 4, 0xdd'cc'bb'aa, {{Id::Byte, 0xaa}, {Id::Half, 0xccbb}}},
      {3, 1, 0xab, {}},
      {8, 4, 0xab, {}},
      {6, 8, 0x8877'6655'4433'2211, {{Id::Word, 0x2211'4140}, {Id::Long, 0x6766'6564'6362'8877}}},
      {19, 2, 0xabcd, {{Id::Long, 0xcd66'6564'6362'6160}}},
      {20, 4, 0xabcd, {}},
  }));
  CAPTURE(row.offset, row.size);
  CHECK(write(row.offset, row.size, row.value) == row.expected);
}

}  // namespace
}  // namespace ringlet
