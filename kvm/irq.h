// What a device model may do to the guest's interrupt controllers, free of how KVM does it.
//
// pci/ and virtio/ see these interfaces only, so that they run in tests without /dev/kvm; the
// ones that work on a VM are made by kvm/irq_router.
#pragma once

#include <cstdint>
#include <memory>

#include "kvm/address.h"

namespace ringlet {

/// The message that an MSI write carries (Intel SDM vol. 3, 11.11).
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
  bool operator==(const MsiMessage&) const = default;
};

/// One MSI-X vector seen from the host: an eventfd that the I/O loop writes to, and whether KVM
/// turns that into the message. While detached the eventfd's counter *is* the pending bit, and
/// attaching a pending one delivers it (PCI 3.0, 6.8.2.9 wants exactly this of masked vectors).
class MsiVector {
 public:
  virtual ~MsiVector() = default;
  /// The eventfd to write to. Constant for the vector's life; any thread.
  virtual int fd() const noexcept = 0;
  /// From now on a write to fd() delivers `message`. False when the host refuses (logged).
  /// Under the bus mutex.
  virtual bool attach(const MsiMessage& message) noexcept = 0;
  /// From now on a write to fd() only makes pending() true. Under the bus mutex.
  virtual void detach() noexcept = 0;
  /// Whether fd() was written to since it was detached. Under the bus mutex.
  virtual bool pending() const noexcept = 0;
  /// Forgets what is pending: the device was reset. Under the bus mutex.
  virtual void clear() noexcept = 0;
};

/// A level-triggered line shared by devices (PCI INTx): writing assert_fd() raises it; when the
/// guest signals end of interrupt KVM lowers it and makes resample_fd() readable, and whoever
/// still has a reason writes assert_fd() again.
///
/// KVM hears of the line by connect(), which may wait for a grace period (0.03 to 8 ms): devices
/// with MSI-X, which is nearly all of them, never need it. What was written before is not lost.
class LevelLine {
 public:
  virtual ~LevelLine() = default;
  /// Before the guest may expect an interrupt; does nothing the second time. Failure is logged, and
  /// the line stays low. Under the bus mutex.
  virtual void connect() noexcept = 0;
  virtual int assert_fd() const noexcept = 0;
  virtual int resample_fd() const noexcept = 0;
};

/// A wire into the in-kernel interrupt controllers, for the devices of the PC (serial, RTC, SCI).
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  /// Any thread; cheap; never blocks.
  virtual void set(bool level) noexcept = 0;
};

/// Hands out interrupts. Nothing is set up in KVM before it is asked for.
class InterruptSource {
 public:
  virtual ~InterruptSource() = default;
  /// Throws std::system_error when the host has no descriptors left.
  virtual std::unique_ptr<MsiVector> make_msi() = 0;
  virtual std::unique_ptr<LevelLine> make_level(Gsi gsi) = 0;
  virtual std::unique_ptr<IrqLine> make_line(Gsi gsi) = 0;
};

/// Makes guest writes to an address wake the I/O loop without an exit (KVM_IOEVENTFD).
class Doorbells {
 public:
  virtual ~Doorbells() = default;
  /// A guest write of any value and width at `address` signals `eventfd`. False when the host
  /// refuses: writes then reach the bus as ordinary exits. Under the bus mutex.
  virtual bool add(GuestAddr address, int eventfd) noexcept = 0;
  /// Takes that back; waits for an RCU grace period (5 to 8 ms). Under the bus mutex.
  virtual void remove(GuestAddr address, int eventfd) noexcept = 0;
};

}  // namespace ringlet
