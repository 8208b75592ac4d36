// The common configuration of the virtio PCI transport: registers and the status machine
// (virtio 1.3, 4.1.4.3 and 3.1).
#include <linux/virtio_pci.h>

#include <array>
#include <bit>
#include <mutex>
#include <utility>

#include "kvm/registers.h"
#include "virtio/pci_transport.h"

namespace ringlet {

enum class PciTransport::Reg : uint8_t {
  DeviceFeatureSelect,
  DeviceFeature,
  DriverFeatureSelect,
  DriverFeature,
  ConfigVector,
  NumQueues,
  Status,
  Generation,
  QueueSelect,
  QueueSize,
  QueueVector,
  QueueEnable,
  QueueNotifyOff,
  QueueDescriptors,
  QueueDriver,
  QueueDevice,
  QueueNotifyData,
  QueueReset,
  AdminQueueIndex,
  AdminQueueCount,
};

// 4.1.4.3, struct virtio_pci_common_cfg.
struct PciTransport::Registers {
  using enum Reg;
  static constexpr RegisterMap kMap{std::to_array<Register<Reg>>({
      {DeviceFeatureSelect, 4, Access::ReadWrite},
      {DeviceFeature, 4, Access::ReadOnly},
      {DriverFeatureSelect, 4, Access::ReadWrite},
      {DriverFeature, 4, Access::ReadWrite},
      {ConfigVector, 2, Access::ReadWrite},
      {NumQueues, 2, Access::ReadOnly},
      {Status, 1, Access::ReadWrite},
      {Generation, 1, Access::ReadOnly},
      {QueueSelect, 2, Access::ReadWrite},
      {QueueSize, 2, Access::ReadWrite},
      {QueueVector, 2, Access::ReadWrite},
      {QueueEnable, 2, Access::ReadWrite},
      {QueueNotifyOff, 2, Access::ReadOnly},
      {QueueDescriptors, 8, Access::ReadWrite},
      {QueueDriver, 8, Access::ReadWrite},
      {QueueDevice, 8, Access::ReadWrite},
      {QueueNotifyData, 2, Access::Reserved},
      {QueueReset, 2, Access::ReadWrite},
      {AdminQueueIndex, 2, Access::Reserved},
      {AdminQueueCount, 2, Access::Reserved},
  })};
  static_assert(kMap.offset(ConfigVector) == VIRTIO_PCI_COMMON_MSIX);
  static_assert(kMap.offset(Status) == VIRTIO_PCI_COMMON_STATUS);
  static_assert(kMap.offset(QueueNotifyOff) == VIRTIO_PCI_COMMON_Q_NOFF);
  static_assert(kMap.offset(QueueDevice) == VIRTIO_PCI_COMMON_Q_USEDLO);
  static_assert(kMap.offset(QueueNotifyData) == VIRTIO_PCI_COMMON_Q_NDATA);
  static_assert(kMap.offset(QueueReset) == VIRTIO_PCI_COMMON_Q_RESET);
};

size_t PciTransport::common_size() {
  return Registers::kMap.size();
}

void PciTransport::read_common(uint64_t offset, std::span<std::byte> data) noexcept {
  Registers::kMap.read(offset, data, [this](Reg reg) { return get(reg); });
}

void PciTransport::write_common(uint64_t offset, std::span<const std::byte> data) noexcept {
  Registers::kMap.write(
      offset, data, [this](Reg reg) { return get(reg); },
      [this](Reg reg, uint64_t value) { set(reg, value); });
}

PciTransport::QueueRegisters* PciTransport::selected() noexcept {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

QueueIndex PciTransport::index_of(const QueueRegisters& queue) const noexcept {
  return QueueIndex(static_cast<uint16_t>(&queue - queues_.data()));
}

uint64_t PciTransport::get(Reg reg) noexcept {
  switch (reg) {
    case Reg::DeviceFeatureSelect: return device_feature_select_;
    case Reg::DeviceFeature:
      // 4.1.4.3.1: zero for any select but 0 and 1.
      return device_feature_select_ < 2
                 ? static_cast<uint32_t>(offered_.bits() >> (32 * device_feature_select_))
                 : 0;
    case Reg::DriverFeatureSelect: return driver_feature_select_;
    case Reg::DriverFeature:
      return driver_feature_select_ < 2
                 ? static_cast<uint32_t>(driver_features_ >> (32 * driver_feature_select_))
                 : 0;
    case Reg::ConfigVector: return config_vector_;
    case Reg::NumQueues: return queues_.size();
    case Reg::Status: return read_status();
    case Reg::Generation: {
      const std::scoped_lock lock(config_mutex_);
      return generation_;
    }
    case Reg::QueueSelect: return queue_select_;
    default: break;
  }
  // 4.1.4.3.1: a queue that is not there reads as size 0, and so does the rest of it.
  const QueueRegisters* const queue = selected();
  return queue == nullptr ? 0 : get_queue(reg, *queue);
}

uint64_t PciTransport::get_queue(Reg reg, const QueueRegisters& queue) const noexcept {
  switch (reg) {
    case Reg::QueueSize: return queue.config.size;
    case Reg::QueueVector: return queue.vector;
    case Reg::QueueEnable: return queue.enabled.load(std::memory_order_acquire) ? 1 : 0;
    case Reg::QueueNotifyOff: return index_of(queue).value();
    case Reg::QueueDescriptors: return queue.config.descriptors.value();
    case Reg::QueueDriver: return queue.config.driver_area.value();
    case Reg::QueueDevice: return queue.config.device_area.value();
    case Reg::QueueReset: return queue.resetting.load(std::memory_order_acquire) ? 1 : 0;
    default: return 0;
  }
}

void PciTransport::set(Reg reg, uint64_t value) noexcept {
  if (phase_.load(std::memory_order_acquire) == Phase::Resetting) return;
  switch (reg) {
    case Reg::DeviceFeatureSelect: device_feature_select_ = static_cast<uint32_t>(value); return;
    case Reg::DriverFeatureSelect: driver_feature_select_ = static_cast<uint32_t>(value); return;
    case Reg::DriverFeature:
      // 3.1.1: fixed once FEATURES_OK was accepted.
      if ((status_ & status::kFeaturesOk) != 0) return;
      driver_wants_unknown_ |= driver_feature_select_ >= 2 && value != 0;
      if (driver_feature_select_ < 2) {
        const unsigned shift = 32 * driver_feature_select_;
        driver_features_ = (driver_features_ & ~(uint64_t{UINT32_MAX} << shift)) | value << shift;
      }
      return;
    case Reg::ConfigVector: config_vector_ = accept_vector(value); return;
    case Reg::Status: write_status(static_cast<uint8_t>(value)); return;
    case Reg::QueueSelect: queue_select_ = static_cast<uint16_t>(value); return;
    default: break;
  }
  if (QueueRegisters* const queue = selected()) set_queue(reg, *queue, value);
}

void PciTransport::set_queue(Reg reg, QueueRegisters& queue, uint64_t value) noexcept {
  if (queue.resetting.load(std::memory_order_acquire)) return;
  if (reg == Reg::QueueReset) {
    if (value == 1) reset_queue(queue);
    return;
  }
  if (reg == Reg::QueueVector) {
    queue.vector = accept_vector(value);
    return;
  }
  // 4.1.4.3.2: the driver must not change a queue that is enabled.
  if (queue.enabled.load(std::memory_order_acquire)) return;
  switch (reg) {
    case Reg::QueueSize:
      if (takes_queue_size(queue, value)) queue.config.size = static_cast<uint16_t>(value);
      break;
    case Reg::QueueEnable:
      if (value == 1) enable_queue(queue);
      break;
    case Reg::QueueDescriptors: queue.config.descriptors = GuestAddr(value); break;
    case Reg::QueueDriver: queue.config.driver_area = GuestAddr(value); break;
    case Reg::QueueDevice: queue.config.device_area = GuestAddr(value); break;
    default: break;
  }
}

// 4.1.4.3.2: a power of two, except for packed queues. Only FEATURES_OK settles what they are.
bool PciTransport::takes_queue_size(const QueueRegisters& queue, uint64_t size) const noexcept {
  if (size == 0 || size > queue.max_size) return false;
  const bool settled = (status_ & status::kFeaturesOk) != 0;
  return std::has_single_bit(size) ||
         (settled && Features(driver_features_).has(Feature::RingPacked));
}

uint16_t PciTransport::accept_vector(uint64_t value) noexcept {
  if (value >= vector_fds_.size()) return VIRTIO_MSI_NO_VECTOR;
  const auto vector = static_cast<uint16_t>(value);
  const auto fd = msix_.vector_fd(vector);
  if (!fd) return VIRTIO_MSI_NO_VECTOR;  // 4.1.5.1.2.1: the driver reads back that it cannot be had
  vector_fds_[vector].store(*fd, std::memory_order_release);
  return vector;
}

void PciTransport::enable_queue(QueueRegisters& queue) noexcept {
  queue.config.enabled = true;
  queue.enabled.store(true, std::memory_order_release);
  if (phase_.load(std::memory_order_acquire) != Phase::Active) return;
  ring_doorbell(queue);
  runners_.request_queue_enable(index_of(queue), queue.config);
}

void PciTransport::reset_queue(QueueRegisters& queue) noexcept {
  if (!Features(driver_features_).has(Feature::RingReset)) return;
  clear_queue(queue);  // the loop has its own copy
  const bool enabled = queue.enabled.load(std::memory_order_acquire);
  if (!enabled || phase_.load(std::memory_order_acquire) != Phase::Active) {
    queue.enabled.store(false, std::memory_order_release);
    return;
  }
  queue.resetting.store(true, std::memory_order_release);
  runners_.request_queue_reset(index_of(queue));
}

// Status --------------------------------------------------------------------------------------

uint8_t PciTransport::read_status() noexcept {
  const uint8_t status = status_.load(std::memory_order_acquire);
  // 2.4.1: no notification may follow, so one that waits behind a mask is forgotten now.
  if (status == 0 && std::exchange(forget_pending_, false)) msix_.clear_pending();
  return status;
}

bool PciTransport::features_acceptable() const noexcept {
  const Features wanted(driver_features_);
  // 6.1: without VERSION_1 this would be a legacy driver, whose interface is not here.
  return offered_.contains(wanted) && wanted.has(Feature::Version1) && !driver_wants_unknown_;
}

void PciTransport::write_status(uint8_t value) noexcept {
  if (value == 0) {
    reset();
    return;
  }
  // Each step may be taken once those before it were (3.1.1).
  struct Step {
    uint8_t bit;
    uint8_t needs;
  };
  using namespace status;
  static constexpr std::array<Step, 5> kSteps{{
      {kAcknowledge, 0},
      {kDriver, kAcknowledge},
      {kFeaturesOk, kAcknowledge | kDriver},
      {kDriverOk, kAcknowledge | kDriver | kFeaturesOk},
      {kFailed, 0},
  }};
  uint8_t now = status_.load(std::memory_order_acquire);
  for (const Step& step : kSteps) {
    if ((value & step.bit) == 0 || (now & step.bit) != 0) continue;
    if ((now & step.needs) != step.needs) {
      if (log_limit_.allow()) {
        log_warn("{}: status {:#x} skips a step from {:#x}", device_.traits().name, value, now);
      }
      return;
    }
    if (step.bit == kFeaturesOk && !features_acceptable()) {
      if (log_limit_.allow()) {
        log_warn("{}: the driver's features {:#x} are refused, {:#x} were offered",
                 device_.traits().name, driver_features_, offered_.bits());
      }
      continue;
    }
    // The loop may add NEEDS_RESET at any time, hence no plain store.
    now = status_.fetch_or(step.bit, std::memory_order_acq_rel) | step.bit;
    if (step.bit == kFeaturesOk) settle_config();
    if (step.bit == kDriverOk) activate({});
  }
}

void PciTransport::settle_config() noexcept {
  const Features accepted(driver_features_);
  for (const NegotiatedByte& byte : device_.traits().negotiated) {
    const bool holds = accepted.has(byte.accepted) && (accepted & byte.declined) == Features();
    if (holds) set_config(byte.offset, {&byte.value, 1});
  }
}

void PciTransport::activate(Runner::Activation activation) noexcept {
  phase_.store(Phase::Active, std::memory_order_release);
  activation.features = Features(driver_features_);
  for (QueueRegisters& queue : queues_) {
    if (queue.config.enabled) ring_doorbell(queue);
    activation.queues.push_back(queue.config);
  }
  connect_intx();
  runners_.request_activate(std::move(activation));
}

void PciTransport::reset() noexcept {
  if (phase_.load(std::memory_order_acquire) == Phase::Active) {
    // 4.1.4.3.1: the status reads 0 only when the reset is done. The loop answers.
    phase_.store(Phase::Resetting, std::memory_order_release);
    forget_pending_ = true;
    runners_.request_reset();
  } else {
    isr_.store(0, std::memory_order_release);
    status_.store(0, std::memory_order_release);
    // Of an active device this is up to the device.
    set_config(0, device_.traits().config);
  }
  clear_registers();
}

}  // namespace ringlet
