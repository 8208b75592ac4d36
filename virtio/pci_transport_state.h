// The state of a virtio PCI device between two requests, as plain data.
#pragma once

#include <cstdint>
#include <vector>

#include "pci/config_space.h"
#include "pci/msix.h"

namespace ringlet {

/// No MSI-X vector: VIRTIO_MSI_NO_VECTOR (4.1.5.1.2).
inline constexpr uint16_t kNoVector = 0xffff;

/// A queue's registers, and where the device stands in its rings.
struct QueueState {
  uint16_t size = 0;
  bool enabled = false;
  uint64_t descriptors = 0;
  uint64_t driver_area = 0;
  uint64_t device_area = 0;
  uint16_t vector = kNoVector;
  uint16_t next_avail = 0;  ///< this and the next: see QueuePosition
  uint16_t next_used = 0;
};

/// Saved when the device is quiet: no chain is out, no reset under way.
struct PciTransportState {
  ConfigSpaceState config_space;
  MsixState msix;
  uint8_t status = 0;
  uint8_t isr = 0;
  uint8_t generation = 0;
  uint32_t device_feature_select = 0;
  uint32_t driver_feature_select = 0;
  uint64_t driver_features = 0;
  bool driver_wants_unknown = false;
  uint16_t config_vector = kNoVector;
  uint16_t queue_select = 0;
  std::vector<QueueState> queues;
  /// The device's configuration; of it only what the driver may write is taken over.
  std::vector<uint8_t> device_config;
};

}  // namespace ringlet
