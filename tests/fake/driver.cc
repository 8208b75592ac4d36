// A virtio driver that reaches its device as a guest does: configuration space, BAR, doorbells.
#include "tests/fake/driver.h"

#include <linux/virtio_pci.h>

#include <array>
#include <cassert>
#include <cstring>

namespace ringlet {
namespace {

constexpr uint64_t kMessageAddress = 0xfee00000;
constexpr uint32_t kMessageData = 0x4000;  // plus the vector's number
constexpr uint16_t kMsixControl = 2;
constexpr uint16_t kMsixTable = 4;
constexpr uint16_t kMsixEnable = 1 << 15;
constexpr uint16_t kMsixMask = 1 << 14;

}  // namespace

PciDriver::PciDriver(const GuestBus& bus, Bdf bdf) : bus_(bus), bdf_(bdf) {}

// --- raw accesses -----------------------------------------------------------------------------

uint64_t PciDriver::ecam_at(uint16_t at) const {
  return bus_.ecam.value() + (uint64_t{bdf_.value()} << 12) + at;
}

uint32_t PciDriver::config_read(uint16_t at, size_t width) const {
  std::array<std::byte, 4> bytes{};
  bus_.buses.mmio.read(ecam_at(at), std::span(bytes).first(width));
  uint32_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

void PciDriver::config_write(uint16_t at, size_t width, uint32_t value) const {
  bus_.buses.mmio.write(ecam_at(at), std::as_bytes(std::span(&value, 1)).first(width));
}

uint64_t PciDriver::bar_base() const {
  return (uint64_t{config_read(kConfigBar0 + 4, 4)} << 32 | config_read(kConfigBar0, 4)) &
         ~uint64_t{0xf};
}

void PciDriver::set_command(uint16_t bits, bool on) const {
  const uint32_t command = config_read(kConfigCommand, 2);
  config_write(kConfigCommand, 2, on ? command | bits : command & ~uint32_t{bits});
}

void PciDriver::move_bar(uint64_t base) const {
  config_write(kConfigBar0, 4, static_cast<uint32_t>(base));
  config_write(kConfigBar0 + 4, 4, static_cast<uint32_t>(base >> 32));
}

uint64_t PciDriver::bar_read(uint64_t offset, size_t width) const {
  uint64_t value = UINT64_MAX;
  const auto bytes = std::as_writable_bytes(std::span(&value, 1)).first(width);
  bus_.buses.mmio.read(bar_base() + offset, bytes);
  return width == 8 ? value : value & ((uint64_t{1} << (8 * width)) - 1);
}

void PciDriver::bar_write(uint64_t offset, size_t width, uint64_t value) const {
  bus_.buses.mmio.write(bar_base() + offset, std::as_bytes(std::span(&value, 1)).first(width));
}

// --- where things are -------------------------------------------------------------------------

void PciDriver::find_capabilities() {
  uint16_t at = static_cast<uint16_t>(config_read(kConfigCapabilities, 1));
  for (unsigned count = 0; at != 0; ++count) {
    assert(count < 48 && "the capability list loops");
    const uint32_t id = config_read(at, 1);
    if (id == 0x11) msix_ = at;
    if (id == 0x09) {
      const Structure found{
          .capability = at,
          .bar = static_cast<uint8_t>(config_read(static_cast<uint16_t>(at + 4), 1)),
          .offset = config_read(static_cast<uint16_t>(at + 8), 4),
          .length = config_read(static_cast<uint16_t>(at + 12), 4)};
      switch (config_read(static_cast<uint16_t>(at + 3), 1)) {
        case VIRTIO_PCI_CAP_COMMON_CFG: common_ = found; break;
        case VIRTIO_PCI_CAP_ISR_CFG: isr_ = found; break;
        case VIRTIO_PCI_CAP_DEVICE_CFG: device_ = found; break;
        case VIRTIO_PCI_CAP_NOTIFY_CFG:
          notify_ = found;
          notify_multiplier_ = config_read(static_cast<uint16_t>(at + 16), 4);
          break;
        case VIRTIO_PCI_CAP_PCI_CFG: window_ = found; break;
        default: break;
      }
    }
    at = static_cast<uint16_t>(config_read(static_cast<uint16_t>(at + 1), 1));
  }
}

uint64_t PciDriver::msix_table() const {
  return config_read(static_cast<uint16_t>(msix_ + kMsixTable), 4) & ~7U;
}

// --- bringing the device up -------------------------------------------------------------------

uint8_t PciDriver::status() const {
  return static_cast<uint8_t>(common(VIRTIO_PCI_COMMON_STATUS, 1));
}

void PciDriver::add_status(uint8_t bits) const {
  set_common(VIRTIO_PCI_COMMON_STATUS, 1, status() | bits);
}

void PciDriver::start_reset() const {
  set_common(VIRTIO_PCI_COMMON_STATUS, 1, 0);
}

Features PciDriver::offered() const {
  uint64_t bits = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    set_common(VIRTIO_PCI_COMMON_DFSELECT, 4, half);
    bits |= common(VIRTIO_PCI_COMMON_DF, 4) << (32 * half);
  }
  return Features(bits);
}

void PciDriver::write_features(Features wanted) const {
  for (uint32_t half = 0; half < 2; ++half) {
    set_common(VIRTIO_PCI_COMMON_GFSELECT, 4, half);
    set_common(VIRTIO_PCI_COMMON_GF, 4, wanted.bits() >> (32 * half) & UINT32_MAX);
  }
}

bool PciDriver::negotiate(Features wanted) {
  add_status(status::kAcknowledge);
  add_status(status::kDriver);
  write_features(wanted);
  add_status(status::kFeaturesOk);
  return (status() & status::kFeaturesOk) != 0;
}

void PciDriver::select_queue(QueueIndex queue) const {
  set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue.value());
}

uint16_t PciDriver::queue_count() const {
  return static_cast<uint16_t>(common(VIRTIO_PCI_COMMON_NUMQ, 2));
}

uint16_t PciDriver::queue_size(QueueIndex queue) const {
  select_queue(queue);
  return static_cast<uint16_t>(common(VIRTIO_PCI_COMMON_Q_SIZE, 2));
}

bool PciDriver::enable_queue(QueueIndex queue, const QueueConfig& config, uint16_t vector) {
  select_queue(queue);
  set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, config.size);
  const auto set_address = [this](uint64_t low, GuestAddr address) {
    set_common(low, 4, address.value() & UINT32_MAX);
    set_common(low + 4, 4, address.value() >> 32);
  };
  set_address(VIRTIO_PCI_COMMON_Q_DESCLO, config.descriptors);
  set_address(VIRTIO_PCI_COMMON_Q_AVAILLO, config.driver_area);
  set_address(VIRTIO_PCI_COMMON_Q_USEDLO, config.device_area);
  set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
  const bool accepted = common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == vector;
  set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
  return accepted;
}

void PciDriver::start_queue_reset(QueueIndex queue) const {
  select_queue(queue);
  set_common(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
}

bool PciDriver::queue_reset_done(QueueIndex queue) const {
  select_queue(queue);
  return common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0 && common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 0;
}

bool PciDriver::set_config_vector(uint16_t vector) const {
  set_common(VIRTIO_PCI_COMMON_MSIX, 2, vector);
  return common(VIRTIO_PCI_COMMON_MSIX, 2) == vector;
}

// --- interrupts and kicks ---------------------------------------------------------------------

void PciDriver::enable_msix() const {
  const auto control_at = static_cast<uint16_t>(msix_ + kMsixControl);
  const uint32_t control = config_read(control_at, 2);
  for (uint32_t vector = 0; vector <= (control & 0x7ff); ++vector) {
    const uint64_t entry = msix_table() + 16UL * vector;
    bar_write(entry, 4, kMessageAddress);
    bar_write(entry + 4, 4, 0);
    bar_write(entry + 8, 4, kMessageData + vector);
    bar_write(entry + 12, 4, 0);
  }
  config_write(control_at, 2, control | kMsixEnable);
}

void PciDriver::disable_msix() const {
  const auto control_at = static_cast<uint16_t>(msix_ + kMsixControl);
  config_write(control_at, 2, config_read(control_at, 2) & ~uint32_t{kMsixEnable});
}

void PciDriver::mask_vector(uint16_t vector, bool masked) const {
  bar_write(msix_table() + 16UL * vector + 12, 4, masked ? 1 : 0);
}

void PciDriver::mask_function(bool masked) const {
  const auto control_at = static_cast<uint16_t>(msix_ + kMsixControl);
  const uint32_t control = config_read(control_at, 2) & ~uint32_t{kMsixMask};
  config_write(control_at, 2, control | (masked ? kMsixMask : 0));
}

unsigned PciDriver::take_interrupts(uint16_t vector) {
  for (FakeMsiVector* const msi : bus_.interrupts.msi) {
    for (const MsiMessage& message : msi->take_delivered()) {
      assert(message.address == kMessageAddress);
      ++arrived_[static_cast<uint16_t>(message.data - kMessageData)];
    }
  }
  return std::exchange(arrived_[vector], 0);
}

uint64_t PciDriver::doorbell_offset(QueueIndex queue) const {
  select_queue(queue);
  return notify_.offset + common(VIRTIO_PCI_COMMON_Q_NOFF, 2) * notify_multiplier_;
}

void PciDriver::kick(QueueIndex queue) const {
  const uint64_t offset = doorbell_offset(queue);
  if (bus_.doorbells.ring(GuestAddr(bar_base() + offset))) return;
  bar_write(offset, 2, queue.value());
}

}  // namespace ringlet
