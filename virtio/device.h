// What a virtio device is, free of any transport.
//
// A device states its type, features, queue sizes and configuration layout, and what to do with a
// chain. Queues, kicks, batching, interrupts, resets and errors are common to all and live in
// virtio/runner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kvm/io_loop.h"
#include "kvm/memory.h"
#include "virtio/chain.h"
#include "virtio/ids.h"

namespace ringlet {

/// A byte of the configuration that depends on what the driver accepted: from FEATURES_OK on it
/// reads `value` if all of `accepted` were and none of `declined`. One the driver may write.
struct NegotiatedByte {
  Features accepted;
  Features declined;
  size_t offset = 0;
  std::byte value{};
};

/// What a device shows to the driver before anything runs.
struct DeviceTraits {
  DeviceId id;
  /// For log lines and metrics, e.g. "blk 00:01.0" or the id that the user gave.
  std::string_view name;
  /// The device's own feature bits; the common layer adds those of ring and transport.
  Features features;
  /// The maximum size of each queue; a power of two of at most 1024.
  std::vector<uint16_t> queue_sizes;
  /// The device-specific configuration, as it is at start.
  std::vector<std::byte> config;
  /// Which of its bits the driver may write; as long as `config`.
  std::vector<std::byte> config_writable;
  /// The device hears of them as if the driver had written them, before activate().
  std::vector<NegotiatedByte> negotiated{};
};

/// What a device may ask of the common layer. All on the I/O loop.
class DeviceHost {
 public:
  virtual IoLoop& loop() noexcept = 0;
  virtual const GuestMemory& memory() const noexcept = 0;
  /// Gives a chain back with `written` bytes. Publishing it and interrupting the driver happen
  /// once for all chains of a batch. While its queue is being reset the chain is taken back
  /// silently instead.
  virtual void complete(Chain chain, uint32_t written) noexcept = 0;
  /// Changes configuration bytes that the driver reads and tells it so (2.5).
  virtual void change_config(size_t offset, std::span<const std::byte> bytes) noexcept = 0;
  /// The driver broke the device's rules beyond what a request's status can say: sets
  /// DEVICE_NEEDS_RESET (2.1.2), logs `why` once, and stops popping until the reset.
  virtual void fail(std::string_view why) noexcept = 0;
  /// Whether chains of that queue come to this instance of the device: where several I/O loops
  /// share its queues, each has an instance of its own (virtio/runners.h).
  virtual bool serves(QueueIndex queue) const noexcept = 0;

 protected:
  ~DeviceHost() = default;
};

/// Every method but traits() runs on the I/O loop; none may block.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceTraits& traits() const noexcept = 0;

  /// Once, on the loop, before anything else: register files, keep `host`.
  virtual void attach(DeviceHost& host) noexcept = 0;
  /// The driver set DRIVER_OK, having negotiated `features`.
  virtual void activate(Features features) noexcept = 0;
  /// Instead of activate() after a restore: the driver negotiated `features` with the device that
  /// was saved, and left the configuration as `config`.
  virtual void restore(Features features, std::span<const std::byte> config) noexcept {
    activate(features);
    config_written(config);
  }
  /// The driver made a chain available. The device completes it now or later.
  virtual void handle(Chain chain) noexcept = 0;
  /// All chains that were waiting have been handed over: a batch ends here. Follows every handle(),
  /// with nothing but config_written() and more of that queue's chains in between.
  virtual void batch_end(QueueIndex) noexcept {}
  /// The driver changed its configuration, which now reads `config`.
  virtual void config_written(std::span<const std::byte> config) noexcept = 0;
  /// The queue is being reset: give every chain of it back soon. Those whose I/O is under way
  /// must wait for its completion, for it may still write to guest memory.
  virtual void cancel(QueueIndex queue) noexcept = 0;
  /// No chain is out any more: back to the state before activate().
  virtual void reset() noexcept = 0;
};

}  // namespace ringlet
