// How a device's notifications leave the I/O loop towards the driver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "virtio/ids.h"

namespace ringlet {

/// The transport as the I/O loop sees it. Every method is called on the loop while the transport
/// serves register accesses on vCPU threads; none takes the bus mutex.
class TransportEvents {
 public:
  /// An eventfd to signal for a notification. `key` is a small number that is the same for the
  /// same eventfd for ever, so that the loop registers each once. No notification when fd < 0.
  struct Target {
    uint16_t key = 0;
    int fd = -1;
  };

  /// Where a used-buffer notification of this queue goes now. Sets the ISR bit for INTx.
  virtual Target queue_interrupt(QueueIndex queue) noexcept = 0;
  /// Where a configuration change notification goes now. Sets the ISR bit for INTx.
  virtual Target config_interrupt() noexcept = 0;
  /// The INTx line was acknowledged (resample) or enabled: itself when there is still a reason to
  /// raise it. Leaves the ISR alone.
  virtual Target pending_intx() noexcept = 0;
  /// Becomes readable on that acknowledgement; -1 when the transport has no line.
  virtual int resample_fd() noexcept = 0;

  /// Changes what the driver reads (2.5.3).
  virtual void config_changed(size_t offset, std::span<const std::byte> bytes) noexcept = 0;
  /// Adds DEVICE_NEEDS_RESET to the status.
  virtual void needs_reset() noexcept = 0;
  /// The reset that the driver asked for is done: no guest memory will be touched any more.
  virtual void reset_done() noexcept = 0;
  virtual void queue_reset_done(QueueIndex queue) noexcept = 0;

  /// Keys for Target: MSI-X vectors are their own, the INTx line comes after them.
  static constexpr uint16_t kIntxKey = 0xffff;

 protected:
  ~TransportEvents() = default;
};

}  // namespace ringlet
