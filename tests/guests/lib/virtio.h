// virtio over PCI, modern transport, driver side (virtio 1.3, 4.1).
#pragma once

#include <cstdint>
#include <optional>

#include "lib/io.h"
#include "lib/pci.h"
#include "lib/virtqueue.h"

namespace guest {

enum class Feature : uint8_t {
  // Block device (5.2.3).
  BlkSegMax = 2,
  BlkReadOnly = 5,
  BlkBlockSize = 6,
  BlkFlush = 9,
  BlkTopology = 10,
  BlkConfigWce = 11,
  BlkMultiQueue = 12,
  BlkDiscard = 13,
  BlkWriteZeroes = 14,
  // All devices (6).
  IndirectDescriptors = 28,
  EventIndex = 29,
  Version1 = 32,
  RingPacked = 34,
  RingReset = 40,
};

struct Features {
  uint64_t bits = 0;

  constexpr bool has(Feature feature) const {
    return (bits >> static_cast<uint8_t>(feature) & 1) != 0;
  }
  constexpr Features with(Feature feature) const {
    return {bits | uint64_t{1} << static_cast<uint8_t>(feature)};
  }
  constexpr Features without(Feature feature) const {
    return {bits & ~(uint64_t{1} << static_cast<uint8_t>(feature))};
  }
};

// Device status bits (2.1).
inline constexpr uint8_t kAcknowledge = 1;
inline constexpr uint8_t kDriver = 2;
inline constexpr uint8_t kDriverOk = 4;
inline constexpr uint8_t kFeaturesOk = 8;
inline constexpr uint8_t kNeedsReset = 64;

inline constexpr uint16_t kNoVector = 0xffff;
inline constexpr uint16_t kVirtioVendor = 0x1af4;
constexpr uint16_t virtio_device_id(uint16_t type) {
  return static_cast<uint16_t>(0x1040 + type);
}

// struct virtio_pci_common_cfg (4.1.4.3): one name per register, with its offset and width.
template <typename T>
struct CommonRegister {
  uint16_t offset;
};
namespace common {
inline constexpr CommonRegister<uint32_t> kDeviceFeatureSelect{0x00};
inline constexpr CommonRegister<uint32_t> kDeviceFeature{0x04};
inline constexpr CommonRegister<uint32_t> kDriverFeatureSelect{0x08};
inline constexpr CommonRegister<uint32_t> kDriverFeature{0x0c};
inline constexpr CommonRegister<uint16_t> kConfigMsixVector{0x10};
inline constexpr CommonRegister<uint16_t> kNumQueues{0x12};
inline constexpr CommonRegister<uint8_t> kDeviceStatus{0x14};
inline constexpr CommonRegister<uint8_t> kConfigGeneration{0x15};
inline constexpr CommonRegister<uint16_t> kQueueSelect{0x16};
inline constexpr CommonRegister<uint16_t> kQueueSize{0x18};
inline constexpr CommonRegister<uint16_t> kQueueMsixVector{0x1a};
inline constexpr CommonRegister<uint16_t> kQueueEnable{0x1c};
inline constexpr CommonRegister<uint16_t> kQueueNotifyOff{0x1e};
inline constexpr CommonRegister<uint64_t> kQueueDesc{0x20};
inline constexpr CommonRegister<uint64_t> kQueueDriver{0x28};
inline constexpr CommonRegister<uint64_t> kQueueDevice{0x30};
inline constexpr CommonRegister<uint16_t> kQueueReset{0x3a};
}  // namespace common

class VirtioPci {
 public:
  // Turns decoding and bus mastering on and finds the registers. The device is not touched yet.
  explicit VirtioPci(const pci::Function& function);

  // Finds the registers through the vendor capabilities (4.1.4). To be called again when a BAR
  // was moved; queues stay as they are.
  void find_registers();

  const pci::Function& function() const { return function_; }
  uint32_t common_bar() const { return common_bar_; }
  uint64_t common_address() const { return common_; }
  uint64_t notify_address() const { return notify_; }
  uint64_t config_address() const { return device_config_; }

  template <typename T>
  T get(CommonRegister<T> reg) const {
    return mmio_read<T>(common_ + reg.offset);
  }
  template <typename T>
  void set(CommonRegister<T> reg, T value) const {
    mmio_write<T>(common_ + reg.offset, value);
  }

  // Writes 0 to the status and waits until it reads 0: only then is the device done (2.4).
  void reset() const;

  Features offered() const;
  // Up to FEATURES_OK (3.1.1). Fails the run if the device refuses what it offered.
  void negotiate(Features accepted) const;
  void driver_ok() const;
  uint8_t status() const { return get(common::kDeviceStatus); }

  uint16_t queue_size(uint16_t index) const;  // the largest the device takes; 0: no such queue
  void enable_queue(uint16_t index, const Virtqueue& queue, uint16_t vector);
  // Resets one queue and waits for it (4.1.4.3.1); needs RingReset.
  void reset_queue(uint16_t index) const;
  void notify(uint16_t index) const;

  // Reads and clears the ISR status: bit 0 queue, bit 1 configuration (4.1.4.5).
  uint8_t read_isr() const { return mmio_read<uint8_t>(isr_); }

  // Device-specific configuration.
  template <typename T>
  T config(uint16_t offset) const {
    return mmio_read<T>(device_config_ + offset);
  }
  template <typename T>
  void set_config(uint16_t offset, T value) const {
    mmio_write<T>(device_config_ + offset, value);
  }

 private:
  static constexpr uint16_t kMaxQueues = 64;

  uint64_t find_region(uint8_t type, uint16_t* capability, uint32_t* bar) const;

  pci::Function function_;
  uint32_t common_bar_ = 0;
  uint64_t common_ = 0;
  uint64_t notify_ = 0;
  uint64_t isr_ = 0;
  uint64_t device_config_ = 0;
  uint32_t notify_multiplier_ = 0;
  uint64_t notify_offsets_[kMaxQueues] = {};
};

}  // namespace guest
