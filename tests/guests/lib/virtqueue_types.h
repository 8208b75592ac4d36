// What virtqueues of both formats are given, and what they give back.
#pragma once

#include <cstdint>

#include "lib/span.h"

namespace guest {

inline constexpr uint16_t kMaxQueueSize = 1024;

// One piece of memory of a request. The device may write to it, or else only reads it.
struct Segment {
  uint64_t address;
  uint32_t length;
  bool writable;
};

struct UsedElement {
  uint16_t head;    // as add() gave it
  uint32_t length;  // bytes the device says it has written
};

struct QueueOptions {
  bool event_idx = false;         // VIRTIO_F_EVENT_IDX was negotiated
  uint16_t indirect_entries = 0;  // length of each request's own table; 0: use the ring itself
  bool packed = false;            // VIRTIO_F_RING_PACKED was negotiated
};

// Addresses for the device.
struct QueueAreas {
  uint64_t descriptor;
  uint64_t driver;
  uint64_t device;
};

// All that the device may write to: one or two pieces of memory.
struct QueueMemory {
  Span<uint8_t> pieces[2];
};

}  // namespace guest
