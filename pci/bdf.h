// Where a function is found: bus, device and function number.
#pragma once

#include <cassert>
#include <compare>
#include <cstdint>
#include <string>

#include <fmt/core.h>

namespace ringlet {

/// A function's address in configuration space (PCI 3.0, 3.2.2.3.4). Eight bits of bus, five of
/// device ("slot"), three of function: both configuration mechanisms carry them as one number.
class Bdf {
 public:
  constexpr Bdf() = default;
  constexpr Bdf(uint8_t bus, unsigned device, unsigned function)
      : value_(static_cast<uint16_t>(unsigned{bus} << 8 | device << 3 | function)) {
    assert(device < 32);
    assert(function < 8);
  }
  /// Every number is the address of something that may exist.
  static constexpr Bdf from_value(uint16_t value) {
    return {static_cast<uint8_t>(value >> 8), value >> 3 & 31u, value & 7u};
  }

  constexpr uint16_t value() const { return value_; }
  constexpr unsigned bus() const { return value_ >> 8; }
  constexpr unsigned device() const { return value_ >> 3 & 31u; }
  constexpr unsigned function() const { return value_ & 7u; }
  constexpr auto operator<=>(const Bdf&) const = default;

 private:
  uint16_t value_ = 0;
};

/// As lspci prints it: "00:1f.0".
inline std::string to_string(Bdf bdf) {
  return fmt::format("{:02x}:{:02x}.{}", bdf.bus(), bdf.device(), bdf.function());
}

/// As lspci -D and /sys/bus/pci/devices print it: "0000:00:1f.0".
inline std::string to_string_with_domain(Bdf bdf, uint16_t domain = 0) {
  return fmt::format("{:04x}:{}", domain, to_string(bdf));
}

}  // namespace ringlet
