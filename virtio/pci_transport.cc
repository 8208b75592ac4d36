// virtio over PCI: the modern transport (virtio 1.3, 4.1).
#include "virtio/pci_transport.h"

#include <linux/virtio_pci.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

#include "kvm/wire.h"

namespace ringlet {
namespace {

constexpr uint64_t kBarSize = 0x8000;
constexpr uint64_t kSection = 0x1000;
constexpr uint64_t kCommon = 0x0000;
constexpr uint64_t kIsr = 0x1000;
constexpr uint64_t kDevice = 0x2000;
constexpr uint64_t kNotify = 0x3000;
constexpr uint64_t kMsixTable = 0x4000;
constexpr uint64_t kMsixPending = 0x5000;
constexpr uint32_t kNotifyMultiplier = 4;

constexpr uint8_t kIsrQueue = 1;  // 4.1.4.5
constexpr uint8_t kIsrConfig = 2;

/// struct virtio_pci_cap, behind the ID and the next pointer (4.1.4).
struct VirtioCapability {
  uint8_t length;
  uint8_t type;
  uint8_t bar;
  uint8_t id;
  std::array<uint8_t, 2> padding;
  le32 offset;
  le32 size;
  le32 extra;  // the notify multiplier, or the window's data
};
static_assert(sizeof(VirtioCapability) + 2 == sizeof(virtio_pci_notify_cap));
constexpr size_t kWindowBar = 4;  // offsets in the capability, with ID and next pointer
constexpr size_t kWindowOffset = 8;
constexpr size_t kWindowLength = 12;
constexpr size_t kWindowData = 16;

PciIdentity identity_of(const DeviceTraits& traits) {
  const auto id = static_cast<uint16_t>(traits.id);
  // 4.1.2: 0x1040 + ID, revision 1 or more, for a device without a legacy interface.
  uint32_t class_code = 0xff0000;
  if (traits.id == DeviceId::Net) class_code = 0x020000;
  if (traits.id == DeviceId::Block) class_code = 0x018000;
  if (traits.id == DeviceId::Console) class_code = 0x078000;
  return {.vendor = 0x1af4,
          .device = static_cast<uint16_t>(0x1040 + id),
          .revision = 1,
          .class_code = class_code,
          .subsystem_vendor = 0x1af4,
          .subsystem = static_cast<uint16_t>(0x40 + id)};
}

Features transport_features() {
  using enum Feature;
  return Features(Version1) | IndirectDesc | EventIdx | RingPacked | RingReset;
}

std::vector<DevicePart> all_parts(const DevicePart& first, std::span<const DevicePart> others) {
  std::vector<DevicePart> parts{first};
  for (const DevicePart& other : others) parts.push_back(other);
  return parts;
}

uint16_t vector_count(const DeviceTraits& traits) {
  return static_cast<uint16_t>(traits.queue_sizes.size() + 1);
}

}  // namespace

// Set-up --------------------------------------------------------------------------------------

PciTransport::PciTransport(Device& device, const PciTransportParts& parts)
    : PciTransport(device, parts, {}) {}

PciTransport::PciTransport(Device& device, const PciTransportParts& parts,
                           std::span<const DevicePart> others)
    : PciFunction(identity_of(device.traits())),
      device_(device),
      parts_(parts),
      offered_(device.traits().features | transport_features()),
      msix_(config(), parts.interrupts,
            {.vectors = vector_count(device.traits()),
             .table_bar = 0,
             .table_offset = kMsixTable,
             .pba_bar = 0,
             .pba_offset = kMsixPending}),
      intx_(config(), parts.pin, parts.intx_gsi, parts.interrupts.make_level(parts.intx_gsi)),
      queues_(device.traits().queue_sizes.size()),
      config_(device.traits().config),
      config_vector_(kNoVector),
      vector_fds_(vector_count(device.traits())),
      runners_(all_parts({.device = device, .loop = parts.loop}, others), parts.memory, *this) {
  assert(msix_table_size(msix_.vectors()) <= kSection);
  assert(config_.size() <= kSection && device.traits().config_writable.size() == config_.size());
  for (size_t i = 0; i < queues_.size(); ++i) queues_[i].max_size = device.traits().queue_sizes[i];
  for (auto& fd : vector_fds_) fd = -1;
  clear_registers();
  config().add_bar({.index = 0, .size = kBarSize, .is_64bit = true});
  add_capabilities();
}

PciTransport::~PciTransport() = default;

void PciTransport::add_capabilities() {
  constexpr uint8_t kVendorSpecific = 0x09;
  const auto body_of = [](const VirtioCapability& capability) {
    return std::as_bytes(std::span(&capability, 1)).first(capability.length - 2U);
  };
  const auto add = [&](uint8_t type, uint64_t offset, uint64_t size) {
    const VirtioCapability capability{
        .length = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? uint8_t{20} : uint8_t{16},
        .type = type,
        .bar = 0,
        .id = 0,
        .padding = {},
        .offset = static_cast<uint32_t>(offset),
        .size = static_cast<uint32_t>(size),
        .extra = kNotifyMultiplier};
    config().add_capability({.id = kVendorSpecific, .body = body_of(capability)});
  };
  add(VIRTIO_PCI_CAP_COMMON_CFG, kCommon, common_size());
  add(VIRTIO_PCI_CAP_ISR_CFG, kIsr, 1);
  if (!config_.empty()) add(VIRTIO_PCI_CAP_DEVICE_CFG, kDevice, config_.size());
  add(VIRTIO_PCI_CAP_NOTIFY_CFG, kNotify, kNotifyMultiplier * queues_.size());

  // The window onto the BAR for those who can reach nothing but configuration space (4.1.4.9).
  const VirtioCapability window{.length = 20,
                                .type = VIRTIO_PCI_CAP_PCI_CFG,
                                .bar = 0,
                                .id = 0,
                                .padding = {},
                                .offset = 0,
                                .size = 0,
                                .extra = 0};
  const VirtioCapability writable{.length = 0,
                                  .type = 0,
                                  .bar = 0xff,
                                  .id = 0,
                                  .padding = {},
                                  .offset = UINT32_MAX,
                                  .size = UINT32_MAX,
                                  .extra = UINT32_MAX};
  window_capability_ = config().add_capability(
      {.id = kVendorSpecific,
       .body = body_of(window),
       .writable = std::as_bytes(std::span(&writable, 1)).first(window.length - 2U),
       .handler = this});
}

void PciTransport::clear_registers() noexcept {
  device_feature_select_ = 0;
  driver_feature_select_ = 0;
  driver_features_ = 0;
  driver_wants_unknown_ = false;
  queue_select_ = 0;
  config_vector_ = kNoVector;
  for (QueueRegisters& queue : queues_) {
    clear_queue(queue);
    queue.enabled = false;
    queue.resetting = false;
  }
}

void PciTransport::clear_queue(QueueRegisters& queue) noexcept {
  queue.config = QueueConfig{};
  queue.config.size = queue.max_size;
  queue.vector = kNoVector;
}

// BAR 0 ---------------------------------------------------------------------------------------

BusDevice& PciTransport::bar_device(unsigned bar) noexcept {
  return bar == 0 ? static_cast<BusDevice&>(*this) : PciFunction::bar_device(bar);
}

void PciTransport::read(uint64_t offset, std::span<std::byte> data) noexcept {
  const uint64_t within = offset % kSection;
  switch (offset - within) {
    case kCommon: read_common(within, data); break;
    case kIsr:
      std::ranges::fill(data, std::byte{0});
      if (within == 0) data[0] = std::byte{isr_.exchange(0, std::memory_order_acq_rel)};
      break;
    case kDevice: read_config(within, data); break;
    case kMsixTable: msix_.table_read(within, data); break;
    case kMsixPending: msix_.pba_read(within, data); break;
    default: break;
  }
}

void PciTransport::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  const uint64_t within = offset % kSection;
  switch (offset - within) {
    case kCommon: write_common(within, data); break;
    case kDevice: write_config(within, data); break;
    case kNotify:
      // Reached while no ioeventfd stands here: the host refused it, or the queue is not live.
      if (within / kNotifyMultiplier < queues_.size()) {
        runners_.kick(QueueIndex(static_cast<uint16_t>(within / kNotifyMultiplier)));
      }
      break;
    case kMsixTable: msix_.table_write(within, data); break;
    default: break;
  }
}

PciTransport::WindowAccess PciTransport::window() const noexcept {
  const uint32_t offset = config().read32(window_capability_ + kWindowOffset);
  const uint32_t width = config().read32(window_capability_ + kWindowLength);
  // 4.1.4.9.2: 1, 2 or 4 bytes, offset a multiple of that; the driver must not do otherwise.
  const bool aligned = (width == 1 || width == 2 || width == 4) && offset % width == 0;
  const bool inside = config().read8(window_capability_ + kWindowBar) == 0 && offset < kBarSize;
  return {.offset = offset, .width = aligned && inside ? width : 0};
}

// Any access to the window's data, however wide, is one of the width that the driver has set
// before (4.1.4.9.1).
void PciTransport::capability_read(size_t offset, std::span<std::byte> data) noexcept {
  const WindowAccess access = window();
  if (offset + data.size() <= kWindowData || access.width == 0) return;
  std::array<std::byte, 4> bytes;
  bytes.fill(std::byte{0xff});
  read(access.offset, std::span(bytes).first(access.width));
  config().store(window_capability_ + kWindowData, std::span(bytes).first(access.width));
  const auto stored =
      std::bit_cast<std::array<std::byte, 4>>(config().read32(window_capability_ + kWindowData));
  for (size_t i = 0; i < data.size(); ++i) {
    if (offset + i >= kWindowData) data[i] = stored[offset + i - kWindowData];
  }
}

void PciTransport::capability_written(size_t offset, std::span<const std::byte> data) noexcept {
  const WindowAccess access = window();
  if (offset + data.size() <= kWindowData || access.width == 0) return;
  const auto stored =
      std::bit_cast<std::array<std::byte, 4>>(config().read32(window_capability_ + kWindowData));
  write(access.offset, std::span(stored).first(access.width));
}

// Doorbells -----------------------------------------------------------------------------------

GuestAddr PciTransport::doorbell_address(const QueueRegisters& queue) const noexcept {
  return GuestAddr(bar_base_->value() + kNotify + kNotifyMultiplier * index_of(queue).value());
}

void PciTransport::ring_doorbell(QueueRegisters& queue) noexcept {
  try {
    const int fd = runners_.kick_fd(index_of(queue));
    if (queue.has_doorbell || !bar_base_) return;
    queue.has_doorbell = parts_.doorbells.add(doorbell_address(queue), fd);
  } catch (const std::exception& error) {
    if (log_limit_.allow()) log_error("{}: {}", device_.traits().name, error.what());
  }
}

void PciTransport::remove_doorbells() noexcept {
  for (QueueRegisters& queue : queues_) {
    if (!queue.has_doorbell) continue;
    parts_.doorbells.remove(doorbell_address(queue), runners_.kick_fd(index_of(queue)));
    queue.has_doorbell = false;
  }
}

void PciTransport::bar_mapped(unsigned bar, std::optional<GuestAddr> base) noexcept {
  if (bar != 0 || base == bar_base_) return;
  remove_doorbells();
  bar_base_ = base;
  if (phase_.load(std::memory_order_acquire) == Phase::Setup) return;
  for (QueueRegisters& queue : queues_) {
    if (queue.config.enabled) ring_doorbell(queue);
  }
}

// Interrupts ----------------------------------------------------------------------------------

void PciTransport::command_changed(PciCommand command) noexcept {
  msix_.command_changed();
  runners_.set_bus_master(command.bus_master());
  if (command.bus_master() && phase_.load(std::memory_order_acquire) == Phase::Active) {
    runners_.request_serving();
  }
  if (intx_.command_changed(command)) runners_.request_interrupt_check();
}

void PciTransport::config_written(bool uncovered) noexcept {
  connect_intx();
  if (uncovered) runners_.request_interrupt_check();
}

// Here and not as the loop raises the line, which must not wait for what this waits for.
void PciTransport::connect_intx() noexcept {
  const bool active = phase_.load(std::memory_order_acquire) == Phase::Active;
  if (active && !msix_.enabled() && intx_.enabled()) intx_.line().connect();
}

bool PciTransport::interrupt_pending() const noexcept {
  return !msix_.enabled() && isr_.load(std::memory_order_acquire) != 0;
}

PciTransport::Target PciTransport::target(uint16_t vector) noexcept {
  if (msix_.enabled()) {
    if (vector >= vector_fds_.size()) return {};
    return {.key = vector, .fd = vector_fds_[vector].load(std::memory_order_acquire)};
  }
  return pending_intx();
}

PciTransport::Target PciTransport::pending_intx() noexcept {
  if (!interrupt_pending() || !intx_.enabled()) return {};
  return {.key = kIntxKey, .fd = intx_.line().assert_fd()};
}

PciTransport::Target PciTransport::queue_interrupt(QueueIndex queue) noexcept {
  // 4.1.4.5.1: this bit is for INTx only, the other one is always set.
  if (!msix_.enabled()) isr_.fetch_or(kIsrQueue, std::memory_order_acq_rel);
  return target(queues_[queue.value()].vector.load(std::memory_order_acquire));
}

PciTransport::Target PciTransport::config_interrupt() noexcept {
  isr_.fetch_or(kIsrConfig, std::memory_order_acq_rel);
  return target(config_vector_.load(std::memory_order_acquire));
}

int PciTransport::resample_fd() noexcept {
  return intx_.line().resample_fd();
}

// Device configuration ------------------------------------------------------------------------

void PciTransport::read_config(uint64_t offset, std::span<std::byte> data) noexcept {
  const std::scoped_lock lock(config_mutex_);
  // 4.1.4.3.1: moved by the read that sees the change, so that it cannot wrap in between.
  if (std::exchange(config_changed_, false)) ++generation_;
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i < config_.size() ? config_[offset + i] : std::byte{0};
  }
}

void PciTransport::write_config(uint64_t offset, std::span<const std::byte> data) noexcept {
  if (phase_.load(std::memory_order_acquire) != Phase::Resetting) set_config(offset, data);
}

void PciTransport::set_config(uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::span<const std::byte> writable = device_.traits().config_writable;
  bool changed = false;
  std::vector<std::byte> now;
  {
    const std::scoped_lock lock(config_mutex_);
    for (size_t i = 0; i < data.size() && offset + i < config_.size(); ++i) {
      std::byte& byte = config_[offset + i];
      const std::byte mask = writable[offset + i];
      const std::byte value = (byte & ~mask) | (data[i] & mask);
      changed |= value != byte;
      byte = value;
    }
    config_changed_ |= changed;
    if (changed) now = config_;
  }
  if (changed) runners_.request_config(now);
}

void PciTransport::config_changed(size_t offset, std::span<const std::byte> bytes) noexcept {
  const std::scoped_lock lock(config_mutex_);
  assert(offset <= config_.size() && bytes.size() <= config_.size() - offset);
  std::ranges::copy(bytes, config_.begin() + static_cast<std::ptrdiff_t>(offset));
  config_changed_ = true;
}

// From the loop -------------------------------------------------------------------------------

void PciTransport::needs_reset() noexcept {
  status_.fetch_or(status::kNeedsReset, std::memory_order_acq_rel);
}

void PciTransport::reset_done() noexcept {
  // The driver polls the status, so that changes last.
  isr_.store(0, std::memory_order_release);
  phase_.store(Phase::Setup, std::memory_order_release);
  status_.store(0, std::memory_order_release);
}

void PciTransport::queue_reset_done(QueueIndex index) noexcept {
  QueueRegisters& queue = queues_[index.value()];
  queue.enabled.store(false, std::memory_order_release);
  queue.resetting.store(false, std::memory_order_release);
}

}  // namespace ringlet
