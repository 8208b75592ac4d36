// What the guest programs of a virtqueue, and where a device stands in it: plain data.
#pragma once

#include <cstdint>

#include "kvm/address.h"

namespace ringlet {

/// What the guest programs through the transport. Nothing in it has been checked.
struct QueueConfig {
  uint16_t size = 0;
  bool enabled = false;
  GuestAddr descriptors;
  /// The avail ring, or of a packed queue the driver's event suppression.
  GuestAddr driver_area;
  /// The used ring, or of a packed queue the device's event suppression.
  GuestAddr device_area;
};

/// Where the device stands in its rings, for save and restore. Zero is the start of a new queue.
///
/// Of a split queue these are free-running indices. Of a packed one they are offsets in the
/// descriptor ring, with bit 15 set in every second lap: it is the inverse of the wrap counter,
/// which begins as 1 (virtio 1.3, 2.8.1).
struct QueuePosition {
  uint16_t next_avail = 0;
  uint16_t next_used = 0;
};

}  // namespace ringlet
