// virtio over PCI: the modern transport (virtio 1.3, 4.1).
//
//   BAR 0, 64-bit, 32 KiB
//   0x0000 ┌──────────────────────┐
//          │ common configuration │  registers below, in a table
//   0x1000 ├──────────────────────┤
//          │ ISR status           │  one byte; reading clears it
//   0x2000 ├──────────────────────┤
//          │ device configuration │  bytes that the device gave
//   0x3000 ├──────────────────────┤
//          │ notifications        │  4 bytes a queue: ioeventfds once the device is live
//   0x4000 ├──────────────────────┤
//          │ MSI-X table          │
//   0x5000 ├──────────────────────┤
//          │ MSI-X pending bits   │
//          └──────────────────────┘
//
// vCPU threads read and write registers here under the bus mutex. The device itself is on the I/O
// loop; the two meet in Runner's mailbox on the way there and in TransportEvents on the way back,
// which touches only the atomics at the end of this class and the configuration bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvm/bus.h"
#include "kvm/irq.h"
#include "pci/function.h"
#include "pci/intx.h"
#include "pci/msix.h"
#include "virtio/device.h"
#include "virtio/interrupt.h"
#include "virtio/pci_transport_state.h"
#include "virtio/runners.h"

namespace ringlet {

/// What the transport needs of the machine around it; all of it outlives the transport.
struct PciTransportParts {
  InterruptSource& interrupts;
  Doorbells& doorbells;
  IoLoop& loop;
  const GuestMemory& memory;
  IntxPin pin = IntxPin::A;
  Gsi intx_gsi;
};

class PciTransport final : public PciFunction,
                           private BusDevice,
                           private CapabilityHandler,
                           private TransportEvents {
 public:
  PciTransport(Device& device, const PciTransportParts& parts);
  /// With the queues dealt out to `device` on parts.loop and to `others`.
  PciTransport(Device& device, const PciTransportParts& parts, std::span<const DevicePart> others);
  ~PciTransport() override;

  /// Any thread.
  Runner::Counts counts() const { return runners_.counts(); }

  /// On parts.loop: see Runner.
  void quiesce(Task& done) noexcept { runners_.quiesce(done); }
  void resume() noexcept { runners_.resume(); }

  /// When quiet, with no vCPU running.
  PciTransportState save() const;
  /// Into a transport that no guest has seen. The bridge settles the BAR afterwards; the device
  /// carries on as soon as its loop runs. Any state may come: one that a device like this cannot
  /// have had is refused with a ConfigError before anything changes. Throws ConfigError, too, when
  /// the host cannot give the device the interrupts it had, and std::system_error.
  void restore(const PciTransportState& state);

  // PciFunction; under the bus mutex.
  BusDevice& bar_device(unsigned bar) noexcept override;
  void bar_mapped(unsigned bar, std::optional<GuestAddr> base) noexcept override;
  void command_changed(PciCommand command) noexcept override;
  bool interrupt_pending() const noexcept override;
  void config_written(bool uncovered) noexcept override;

 private:
  enum class Reg : uint8_t;
  struct Registers;
  enum class Phase : uint8_t {
    Setup,      ///< the driver negotiates; the loop knows nothing of it
    Active,     ///< DRIVER_OK was set
    Resetting,  ///< the loop drains; the status keeps its last value, writes are ignored
  };
  /// A queue's registers.
  struct QueueRegisters {
    uint16_t max_size = 0;
    QueueConfig config;
    std::atomic<uint16_t> vector;
    std::atomic<bool> enabled;
    std::atomic<bool> resetting;
    bool has_doorbell = false;
  };

  /// What the driver has pointed the window of 4.1.4.9 at; width 0: nothing.
  struct WindowAccess {
    uint32_t offset;
    uint32_t width;
  };

  // BusDevice: BAR 0.
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
  // CapabilityHandler: the PCI configuration access capability (4.1.4.9).
  void capability_read(size_t offset, std::span<std::byte> data) noexcept override;
  void capability_written(size_t offset, std::span<const std::byte> data) noexcept override;
  // TransportEvents; on any of the device's I/O loops.
  Target queue_interrupt(QueueIndex queue) noexcept override;
  Target config_interrupt() noexcept override;
  Target pending_intx() noexcept override;
  int resample_fd() noexcept override;
  void config_changed(size_t offset, std::span<const std::byte> bytes) noexcept override;
  void needs_reset() noexcept override;
  void reset_done() noexcept override;
  void queue_reset_done(QueueIndex queue) noexcept override;

  void add_capabilities();
  static size_t common_size();
  void read_common(uint64_t offset, std::span<std::byte> data) noexcept;
  void write_common(uint64_t offset, std::span<const std::byte> data) noexcept;
  uint64_t get(Reg reg) noexcept;
  uint64_t get_queue(Reg reg, const QueueRegisters& queue) const noexcept;
  void set(Reg reg, uint64_t value) noexcept;
  void set_queue(Reg reg, QueueRegisters& queue, uint64_t value) noexcept;
  QueueRegisters* selected() noexcept;
  bool takes_queue_size(const QueueRegisters& queue, uint64_t size) const noexcept;

  uint8_t read_status() noexcept;
  void write_status(uint8_t value) noexcept;
  bool features_acceptable() const noexcept;
  /// The configuration that depends on the features accepted.
  void settle_config() noexcept;
  void connect_intx() noexcept;
  void activate(Runner::Activation activation) noexcept;
  void reset() noexcept;
  void clear_registers() noexcept;
  void clear_queue(QueueRegisters& queue) noexcept;
  void enable_queue(QueueRegisters& queue) noexcept;
  void reset_queue(QueueRegisters& queue) noexcept;
  void ring_doorbell(QueueRegisters& queue) noexcept;
  void remove_doorbells() noexcept;
  uint16_t accept_vector(uint64_t value) noexcept;
  Target target(uint16_t vector) noexcept;
  void check_state(const PciTransportState& state) const;
  void check_status(const PciTransportState& state) const;
  void check_queue(const PciTransportState& state, size_t index) const;
  void check_config(const PciTransportState& state) const;
  void restore_registers(const PciTransportState& state);
  uint16_t restore_vector(uint16_t saved);
  QueueIndex index_of(const QueueRegisters& queue) const noexcept;
  GuestAddr doorbell_address(const QueueRegisters& queue) const noexcept;
  WindowAccess window() const noexcept;

  void read_config(uint64_t offset, std::span<std::byte> data) noexcept;
  void write_config(uint64_t offset, std::span<const std::byte> data) noexcept;
  /// Takes over the bits that the driver may write, and tells the device.
  void set_config(uint64_t offset, std::span<const std::byte> data) noexcept;

  Device& device_;
  const PciTransportParts parts_;
  const Features offered_;
  Msix msix_;
  Intx intx_;
  uint8_t window_capability_ = 0;

  // Registers, under the bus mutex.
  uint32_t device_feature_select_ = 0;
  uint32_t driver_feature_select_ = 0;
  uint64_t driver_features_ = 0;
  bool driver_wants_unknown_ = false;  // features above 63, which nobody offers
  bool forget_pending_ = false;        // a reset was asked for, and not yet seen to be done
  uint16_t queue_select_ = 0;
  std::vector<QueueRegisters> queues_;
  std::optional<GuestAddr> bar_base_;
  LogLimit log_limit_;

  mutable std::mutex config_mutex_;  // of the next three; held for a copy of a few bytes
  std::vector<std::byte> config_;
  bool config_changed_ = false;  // since the driver last read any of it
  uint8_t generation_ = 0;

  // Shared with the I/O loop.
  std::atomic<Phase> phase_{Phase::Setup};
  std::atomic<uint8_t> status_{0};
  std::atomic<uint8_t> isr_{0};
  std::atomic<uint16_t> config_vector_;
  std::vector<std::atomic<int>> vector_fds_;  // by vector; -1 until one is assigned

  Runners runners_;
};

}  // namespace ringlet
