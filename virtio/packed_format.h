// The packed virtqueue's wire format (virtio 1.3, 2.8).
//
//   descriptor ring, read and written      event suppression, one by the driver (driver area)
//   by both                                and one by the device (device area)
//   ┌─────────────────────────┐            ┌───────────────────┬───────┐
//   │ address length id flags │            │ wrap:1  offset:15 │ flags │
//   │                    ×size│            └───────────────────┴───────┘
//   └─────────────────────────┘
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvm/wire.h"

namespace ringlet::packed {

/// A descriptor without its flags, which are read before it and written behind it.
struct DescriptorBody {
  le64 address;
  le32 length;
  le16 id;
};
inline constexpr size_t kDescriptorSize = 16;
inline constexpr size_t kDescriptorFlags = 14;
static_assert(sizeof(DescriptorBody) == kDescriptorFlags);

/// What the device writes of a used descriptor, again without its flags.
struct Used {
  le32 length;
  le16 id;
};
inline constexpr size_t kUsed = 8;  // where in a descriptor
static_assert(kUsed + sizeof(Used) == kDescriptorFlags);

/// Beside those of ring.h.
inline constexpr uint16_t kDescAvail = 1 << 7;
inline constexpr uint16_t kDescUsed = 1 << 15;

/// Offsets in the event suppression structures.
inline constexpr size_t kEventPosition = 0;
inline constexpr size_t kEventFlags = 2;
inline constexpr size_t kEventSize = 4;

inline constexpr uint16_t kEventsOn = 0;
inline constexpr uint16_t kEventsOff = 1;
inline constexpr uint16_t kEventsAtDescriptor = 2;
inline constexpr uint16_t kEventFlagsMask = 3;  // the other bits are reserved

inline constexpr uint16_t kWrapBit = 1 << 15;  // of a position on the wire

/// Where in the ring, and in which lap. A device's and a driver's begin at 0 in lap 1 (2.8.1).
struct Position {
  uint16_t index = 0;
  bool wrap = true;

  bool operator==(const Position&) const = default;

  constexpr void advance(uint16_t descriptors, uint16_t size) {
    const uint32_t next = uint32_t{index} + descriptors;
    if (next >= size) wrap = !wrap;
    index = static_cast<uint16_t>(next >= size ? next - size : next);
  }
  /// The form that event suppression has on the wire.
  constexpr uint16_t event() const {
    return static_cast<uint16_t>(index | (wrap ? kWrapBit : uint16_t{0}));
  }
  static constexpr Position from_event(uint16_t value) {
    return {.index = static_cast<uint16_t>(value & ~kWrapBit), .wrap = (value & kWrapBit) != 0};
  }
  /// How many descriptors lie between `from` and this, which is at most a lap ahead. More than a
  /// lap when it is not.
  constexpr uint16_t distance(Position from, uint16_t size) const {
    const uint32_t ahead = uint32_t{index} + (wrap == from.wrap ? 0U : size);
    return static_cast<uint16_t>(ahead - from.index);
  }
};

/// Available in the lap of `wrap`: the one bit matches it, the other does not (2.8.1).
constexpr bool is_available(uint16_t flags, bool wrap) {
  return ((flags & kDescAvail) != 0) == wrap && ((flags & kDescUsed) != 0) != wrap;
}
/// Both match it.
constexpr bool is_used(uint16_t flags, bool wrap) {
  return ((flags & kDescAvail) != 0) == wrap && ((flags & kDescUsed) != 0) == wrap;
}
constexpr uint16_t available_flags(bool wrap) {
  return wrap ? kDescAvail : kDescUsed;
}
constexpr uint16_t used_flags(bool wrap) {
  return wrap ? uint16_t{kDescAvail | kDescUsed} : uint16_t{0};
}

constexpr size_t descriptor_ring_size(uint16_t size) {
  return kDescriptorSize * size;
}

/// Whether a move of `descriptors` from `before` on passed `event`, which the other side wrote. An
/// offset that no descriptor has is never passed.
constexpr bool need_event(Position event, Position before, uint16_t descriptors, uint16_t size) {
  return event.index < size && event.distance(before, size) < descriptors;
}

}  // namespace ringlet::packed
