// Little-endian accesses of one width to anything with read(at, span) and write(at, span).
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace ringlet {

/// An offset, port or address: becomes whatever the target's read() and write() take.
struct At {
  uint64_t value;
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator uint16_t() const { return static_cast<uint16_t>(value); }
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator uint64_t() const { return value; }
};

template <std::unsigned_integral T, typename Target>
T read_as(Target& target, uint64_t at) {
  std::array<std::byte, sizeof(T)> data;
  data.fill(std::byte{0xff});
  target.read(At{at}, data);
  return std::bit_cast<T>(data);
}

template <std::unsigned_integral T, typename Target>
void write_as(Target& target, uint64_t at, T value) {
  const auto data = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  target.write(At{at}, data);
}

}  // namespace ringlet
