// Strong types for guest addresses and interrupt numbers.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <optional>

namespace ringlet {

/// The page of x86-64, in bytes.
inline constexpr uint64_t kPage = 4096;
/// The next larger kind of page of x86-64, which host memory may come in.
inline constexpr uint64_t kHugePage = uint64_t{2} << 20;

/// A guest-physical address.
class GuestAddr {
 public:
  constexpr GuestAddr() = default;
  constexpr explicit GuestAddr(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  /// The address `bytes` further on, or nothing where that would wrap past 2^64.
  constexpr std::optional<GuestAddr> plus(uint64_t bytes) const {
    if (bytes > std::numeric_limits<uint64_t>::max() - value_) return std::nullopt;
    return GuestAddr(value_ + bytes);
  }
  constexpr bool is_aligned(uint64_t alignment) const { return value_ % alignment == 0; }
  constexpr auto operator<=>(const GuestAddr&) const = default;

 private:
  uint64_t value_ = 0;
};

/// Addresses [base, base + size) of one address space: guest-physical, or I/O ports.
struct AddrRange {
  uint64_t base = 0;
  uint64_t size = 0;

  constexpr bool contains(uint64_t at) const { return at >= base && at - base < size; }
  /// True when all of [at, at + length) lies inside.
  constexpr bool contains(uint64_t at, uint64_t length) const {
    return at >= base && at - base <= size && length <= size - (at - base);
  }
  constexpr bool overlaps(const AddrRange& other) const {
    if (size == 0 || other.size == 0) return false;
    return base <= other.base ? other.base - base < size : base - other.base < other.size;
  }
  constexpr auto operator<=>(const AddrRange&) const = default;
};

/// A global system interrupt: an input of KVM's interrupt router. 0 to 23 are the IOAPIC's pins
/// (and the PICs' for 0 to 15); larger ones are routed to MSI messages.
class Gsi {
 public:
  constexpr explicit Gsi(uint32_t value) : value_(value) {}
  constexpr uint32_t value() const { return value_; }
  constexpr auto operator<=>(const Gsi&) const = default;

 private:
  uint32_t value_;
};

}  // namespace ringlet
