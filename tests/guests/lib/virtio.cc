// virtio over PCI, modern transport, driver side (virtio 1.3, 4.1).
#include "lib/virtio.h"

#include "lib/console.h"
#include "lib/memory.h"

namespace guest {
namespace {

// cfg_type of struct virtio_pci_cap (4.1.4).
constexpr uint8_t kCommonCfg = 1;
constexpr uint8_t kNotifyCfg = 2;
constexpr uint8_t kIsrCfg = 3;
constexpr uint8_t kDeviceCfg = 4;

// Offsets in struct virtio_pci_cap.
constexpr uint16_t kCapType = 3;
constexpr uint16_t kCapBar = 4;
constexpr uint16_t kCapOffset = 8;
constexpr uint16_t kCapLength = 12;
constexpr uint16_t kCapNotifyMultiplier = 16;

constexpr uint16_t at(uint16_t capability, uint16_t field) {
  return static_cast<uint16_t>(capability + field);
}

}  // namespace

VirtioPci::VirtioPci(const pci::Function& function) : function_(function) {
  function_.set_command(pci::kCommandMemory | pci::kCommandBusMaster);
  find_registers();
}

void VirtioPci::find_registers() {
  uint16_t notify_capability = 0;
  common_ = find_region(kCommonCfg, nullptr, &common_bar_);
  notify_ = find_region(kNotifyCfg, &notify_capability, nullptr);
  isr_ = find_region(kIsrCfg, nullptr, nullptr);
  device_config_ = find_region(kDeviceCfg, nullptr, nullptr);
  notify_multiplier_ = function_.read<uint32_t>(at(notify_capability, kCapNotifyMultiplier));
}

// The first region of this type that lies in memory: the driver should use that one (4.1.4.1).
uint64_t VirtioPci::find_region(uint8_t type, uint16_t* capability, uint32_t* bar_index) const {
  std::optional<uint16_t> cap = function_.find_capability(pci::kCapabilityVendor);
  for (; cap; cap = function_.find_capability(pci::kCapabilityVendor, *cap)) {
    const auto index = function_.read<uint8_t>(at(*cap, kCapBar));
    const pci::Bar bar = function_.bar(index);
    if (function_.read<uint8_t>(at(*cap, kCapType)) != type || !bar.present || bar.io) {
      continue;
    }
    if (capability != nullptr) {
      *capability = *cap;
    }
    if (bar_index != nullptr) {
      *bar_index = index;
    }
    const uint64_t start = bar.address + function_.read<uint32_t>(at(*cap, kCapOffset));
    map_device(start, function_.read<uint32_t>(at(*cap, kCapLength)));
    return start;
  }
  fail("no virtio capability of type {}", type);
}

void VirtioPci::reset() const {
  set(common::kDeviceStatus, uint8_t{0});
  const Deadline deadline;
  while (status() != 0) {
    expect(!deadline.passed(), "reset is never confirmed");
    cpu_relax();
  }
}

Features VirtioPci::offered() const {
  set(common::kDeviceFeatureSelect, uint32_t{0});
  const uint64_t low = get(common::kDeviceFeature);
  set(common::kDeviceFeatureSelect, uint32_t{1});
  return {uint64_t{get(common::kDeviceFeature)} << 32 | low};
}

void VirtioPci::negotiate(Features accepted) const {
  set(common::kDeviceStatus, kAcknowledge);
  set(common::kDeviceStatus, uint8_t{kAcknowledge | kDriver});
  set(common::kDriverFeatureSelect, uint32_t{0});
  set(common::kDriverFeature, static_cast<uint32_t>(accepted.bits));
  set(common::kDriverFeatureSelect, uint32_t{1});
  set(common::kDriverFeature, static_cast<uint32_t>(accepted.bits >> 32));
  set(common::kDeviceStatus, uint8_t{kAcknowledge | kDriver | kFeaturesOk});
  expect((status() & kFeaturesOk) != 0, "features {} refused", hex(accepted.bits));
}

void VirtioPci::driver_ok() const {
  set(common::kDeviceStatus, uint8_t{kAcknowledge | kDriver | kFeaturesOk | kDriverOk});
}

uint16_t VirtioPci::queue_size(uint16_t index) const {
  set(common::kQueueSelect, index);
  return get(common::kQueueSize);
}

void VirtioPci::enable_queue(uint16_t index, const Virtqueue& queue, uint16_t vector) {
  expect(index < kMaxQueues, "queue {}", index);
  set(common::kQueueSelect, index);
  set(common::kQueueSize, queue.size());
  const QueueAreas areas = queue.areas();
  set(common::kQueueDesc, areas.descriptor);
  set(common::kQueueDriver, areas.driver);
  set(common::kQueueDevice, areas.device);
  set(common::kQueueMsixVector, vector);
  expect(get(common::kQueueMsixVector) == vector, "MSI-X vector {} refused", vector);
  notify_offsets_[index] = uint64_t{get(common::kQueueNotifyOff)} * notify_multiplier_;
  set(common::kQueueEnable, uint16_t{1});
}

void VirtioPci::reset_queue(uint16_t index) const {
  set(common::kQueueSelect, index);
  set(common::kQueueReset, uint16_t{1});
  const Deadline deadline;
  while (get(common::kQueueReset) != 0) {
    expect(!deadline.passed(), "queue reset is never confirmed");
    cpu_relax();
  }
  expect(get(common::kQueueEnable) == 0, "queue {} is enabled after its reset", index);
}

void VirtioPci::notify(uint16_t index) const {
  mmio_write<uint16_t>(notify_ + notify_offsets_[index], index);
}

}  // namespace guest
