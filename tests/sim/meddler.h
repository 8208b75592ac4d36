// Stands between transport and disk, and lets the driver act while the device is at work.
#pragma once

#include <functional>
#include <utility>

#include "virtio/device.h"
#include "virtio/queue.h"

namespace ringlet {

/// Other vCPUs do not wait for a turn of the I/O loop to end: what they do in the midst of it is
/// what happens here after a chain was handled.
class Meddler final : public Device {
 public:
  explicit Meddler(Device& device) : device_(device) {}

  std::function<void()> meanwhile;

  const DeviceTraits& traits() const noexcept override { return device_.traits(); }
  void attach(DeviceHost& host) noexcept override { device_.attach(host); }
  void activate(Features features) noexcept override { device_.activate(features); }
  void handle(Chain chain) noexcept override {
    device_.handle(std::move(chain));
    meanwhile();
  }
  void batch_end(QueueIndex queue) noexcept override {
    device_.batch_end(queue);
    meanwhile();
  }
  void config_written(std::span<const std::byte> config) noexcept override {
    device_.config_written(config);
  }
  void cancel(QueueIndex queue) noexcept override { device_.cancel(queue); }
  void reset() noexcept override { device_.reset(); }

 private:
  Device& device_;
};

}  // namespace ringlet
