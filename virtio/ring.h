// The split virtqueue's wire format (virtio 1.3, 2.7); indirect tables and the flags below are the
// same in packed ones.
//
//   descriptor table            avail ring (driver area)        used ring (device area)
//   ┌──────────────────────┐    ┌───────┬─────┐                 ┌───────┬─────┐
//   │ address length flags │    │ flags │ idx │                 │ flags │ idx │
//   │ next            ×size│    ├───────┴─────┤                 ├───────┴─────┴───┐
//   └──────────────────────┘    │ head   ×size│                 │ head, length ×size│
//                               ├─────────────┤                 ├─────────────────┤
//                               │ used_event  │                 │ avail_event     │
//                               └─────────────┘                 └─────────────────┘
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvm/wire.h"

namespace ringlet::ring {

struct Descriptor {
  le64 address;
  le32 length;
  le16 flags;
  le16 next;
};
static_assert(sizeof(Descriptor) == 16);

inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;

struct UsedElement {
  le32 head;
  le32 length;
};
static_assert(sizeof(UsedElement) == 8);

/// In the avail ring's flags: the driver wants no interrupt (ignored with EVENT_IDX).
inline constexpr uint16_t kAvailNoInterrupt = 1;
/// In the used ring's flags: the device wants no kick (ignored with EVENT_IDX).
inline constexpr uint16_t kUsedNoNotify = 1;

inline constexpr uint16_t kMaxQueueSize = 1024;

/// Offsets common to both rings.
inline constexpr size_t kFlags = 0;
inline constexpr size_t kIndex = 2;
inline constexpr size_t kEntries = 4;

constexpr size_t descriptor_table_size(uint16_t size) {
  return sizeof(Descriptor) * size;
}
constexpr size_t avail_ring_size(uint16_t size) {
  return kEntries + 2UL * size + 2;
}
constexpr size_t used_ring_size(uint16_t size) {
  return kEntries + sizeof(UsedElement) * size + 2;
}
constexpr size_t used_event(uint16_t size) {
  return kEntries + 2UL * size;
}
constexpr size_t avail_event(uint16_t size) {
  return kEntries + sizeof(UsedElement) * size;
}

/// Whether a move of an index from `before` to `now` passed `event` (virtio 1.3, 2.7.10): by
/// distance, never by equality, since several entries may be published at once.
constexpr bool need_event(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

}  // namespace ringlet::ring
