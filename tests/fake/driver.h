// A virtio driver that reaches its device as a guest does: configuration space, BAR, doorbells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "kvm/bus.h"
#include "pci/bdf.h"
#include "pci/config_space.h"
#include "tests/fake/driver_queue.h"
#include "tests/fake/fake_irq.h"
#include "virtio/ids.h"

namespace ringlet {

/// The guest's view of the machine around a device.
struct GuestBus {
  Buses& buses;
  GuestAddr ecam;
  FakeInterrupts& interrupts;
  FakeDoorbells& doorbells;
};

class PciDriver {
 public:
  static constexpr uint16_t kNoVector = 0xffff;

  /// find_capabilities() comes first.
  PciDriver(const GuestBus& bus, Bdf bdf);

  /// Walks the list of capabilities.
  void find_capabilities();

  // --- raw accesses -------------------------------------------------------------------------

  uint32_t config_read(uint16_t at, size_t width) const;
  void config_write(uint16_t at, size_t width, uint32_t value) const;
  /// BAR 0, through the bus.
  uint64_t bar_read(uint64_t offset, size_t width) const;
  void bar_write(uint64_t offset, size_t width, uint64_t value) const;
  /// The common configuration: offsets are VIRTIO_PCI_COMMON_ of linux/virtio_pci.h.
  uint64_t common(uint64_t offset, size_t width) const {
    return bar_read(common_.offset + offset, width);
  }
  void set_common(uint64_t offset, size_t width, uint64_t value) const {
    bar_write(common_.offset + offset, width, value);
  }
  uint64_t device_config(uint64_t offset, size_t width) const {
    return bar_read(device_.offset + offset, width);
  }
  void set_device_config(uint64_t offset, size_t width, uint64_t value) const {
    bar_write(device_.offset + offset, width, value);
  }
  uint8_t read_isr() const { return static_cast<uint8_t>(bar_read(isr_.offset, 1)); }

  // --- where things are ---------------------------------------------------------------------

  struct Structure {
    uint16_t capability = 0;  ///< offset in configuration space; 0 when there is none
    uint8_t bar = 0;
    uint32_t offset = 0;
    uint32_t length = 0;
  };
  const Structure& common_structure() const { return common_; }
  const Structure& device_structure() const { return device_; }
  const Structure& notify_structure() const { return notify_; }
  uint16_t window_capability() const { return window_.capability; }
  uint16_t msix_capability() const { return msix_; }
  /// Offset in BAR 0 of the MSI-X table.
  uint64_t msix_table() const;
  uint64_t bar_base() const;
  /// Sets or clears bits of the Command register.
  void set_command(uint16_t bits, bool on) const;
  /// Writes BAR 0 anew, as a guest may at any time.
  void move_bar(uint64_t base) const;

  // --- bringing the device up (virtio 1.3, 3.1.1) -------------------------------------------

  uint8_t status() const;
  void add_status(uint8_t bits) const;
  /// Asks for a reset; done once status() reads 0.
  void start_reset() const;
  Features offered() const;
  void write_features(Features wanted) const;
  /// From ACKNOWLEDGE to FEATURES_OK, after a reset; false when the device refuses `wanted`.
  bool negotiate(Features wanted);
  void select_queue(QueueIndex queue) const;
  uint16_t queue_count() const;
  uint16_t queue_size(QueueIndex queue) const;
  /// Programs and enables a queue; false when the vector cannot be had.
  bool enable_queue(QueueIndex queue, const QueueConfig& config, uint16_t vector);
  void start_queue_reset(QueueIndex queue) const;
  bool queue_reset_done(QueueIndex queue) const;
  bool set_config_vector(uint16_t vector) const;
  void driver_ok() const { add_status(status::kDriverOk); }

  // --- interrupts and kicks -----------------------------------------------------------------

  /// Gives every vector a message of its own, unmasks and enables them.
  void enable_msix() const;
  void disable_msix() const;
  void mask_vector(uint16_t vector, bool masked) const;
  void mask_function(bool masked) const;
  /// The messages of `vector` that arrived since the last call.
  unsigned take_interrupts(uint16_t vector);
  /// A write to the queue's doorbell, wherever the BAR is now.
  void kick(QueueIndex queue) const;
  uint64_t doorbell_offset(QueueIndex queue) const;

 private:
  uint64_t ecam_at(uint16_t at) const;

  const GuestBus bus_;
  const Bdf bdf_;
  Structure common_;
  Structure isr_;
  Structure device_;
  Structure notify_;
  Structure window_;
  uint32_t notify_multiplier_ = 0;
  uint16_t msix_ = 0;
  std::map<uint16_t, unsigned> arrived_;
};

}  // namespace ringlet
