// Little-endian integers for structs whose layout is fixed by a specification.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ringlet {

static_assert(std::endian::native == std::endian::little, "ringlet runs on x86-64 only");

/// An integer as it lies in guest memory or in a table: little-endian, alignment 1, so a struct of
/// them has no padding and may start anywhere. Converts from and to T by itself.
template <std::unsigned_integral T>
class Le {
 public:
  constexpr Le() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a field is written as the integer it stands for.
  constexpr Le(T value) : bytes_{std::bit_cast<std::array<std::byte, sizeof(T)>>(value)} {}
  // NOLINTNEXTLINE(google-explicit-constructor): and read as one.
  constexpr operator T() const { return std::bit_cast<T>(bytes_); }

 private:
  std::array<std::byte, sizeof(T)> bytes_{};
};

using le16 = Le<std::uint16_t>;
using le32 = Le<std::uint32_t>;
using le64 = Le<std::uint64_t>;

/// The bytes of a struct made of bytes and Le<>, which has no padding to leak or to guess.
template <typename T>
requires(std::is_trivially_copyable_v<T> &&
         alignof(T) == 1) constexpr std::array<std::byte, sizeof(T)> bytes_of(const T& object) {
  return std::bit_cast<std::array<std::byte, sizeof(T)>>(object);
}

static_assert(sizeof(le16) == 2 && alignof(le16) == 1);
static_assert(sizeof(le32) == 4 && alignof(le32) == 1);
static_assert(sizeof(le64) == 8 && alignof(le64) == 1);

}  // namespace ringlet
