// Tests of the little-endian integers.
#include "kvm/wire.h"

#include <array>
#include <bit>
#include <type_traits>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

struct Mixed {
  std::uint8_t kind;
  le16 size;
  le32 flags;
  le64 address;
};
static_assert(sizeof(Mixed) == 15);
static_assert(std::is_trivially_copyable_v<Mixed>);
static_assert(le32{0x12345678u} == 0x12345678u, "usable in constant expressions");

TEST_CASE("a struct of little-endian fields is its bytes in order, without padding") {
  const Mixed mixed{
      .kind = 0x01, .size = 0x0302, .flags = 0x07060504, .address = 0x0f0e0d0c0b0a0908};
  const std::array<std::uint8_t, 15> expected{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  CHECK(bytes_of(mixed) == std::bit_cast<std::array<std::byte, 15>>(expected));
}

TEST_CASE("a little-endian field reads back as the integer written to it") {
  le64 field;
  CHECK(field == 0u);
  field = 0xfedcba9876543210;
  const std::uint64_t value = field;
  CHECK(value == 0xfedcba9876543210);
  CHECK(field + 1 == 0xfedcba9876543211);
}

}  // namespace
}  // namespace ringlet
