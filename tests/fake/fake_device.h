// A virtio device without a purpose: keeps chains or gives them back, and records what it is told.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "virtio/device.h"
#include "virtio/queue.h"

namespace ringlet {

class FakeDevice : public Device {
 public:
  explicit FakeDevice(std::vector<uint16_t> queue_sizes = {16, 16}, size_t config_bytes = 8) {
    traits_ = {.id = DeviceId::Entropy,
               .name = "fake",
               .features = {},
               .queue_sizes = std::move(queue_sizes),
               .config = std::vector<std::byte>(config_bytes),
               .config_writable = std::vector<std::byte>(config_bytes)};
    for (size_t i = 0; i < config_bytes; ++i) traits_.config[i] = static_cast<std::byte>(i + 1);
  }
  /// Before a transport is made for it.
  DeviceTraits& change_traits() { return traits_; }

  const DeviceTraits& traits() const noexcept override { return traits_; }
  void attach(DeviceHost& to) noexcept override {
    host = &to;
    events.push_back("attach");
  }
  void activate(Features features) noexcept override {
    accepted = features;
    events.push_back("activate");
    if (on_activate) on_activate();
  }
  void handle(Chain chain) noexcept override {
    handled.push_back(chain.queue().index().value());
    if (on_handle) on_handle();
    if (hold) {
      held.push_back(std::move(chain));
    } else {
      host->complete(std::move(chain), 0);
    }
  }
  void batch_end(QueueIndex) noexcept override { ++batches; }
  void config_written(std::span<const std::byte> config) noexcept override {
    configs.emplace_back(config.begin(), config.end());
  }
  void cancel(QueueIndex queue) noexcept override {
    events.push_back("cancel " + std::to_string(queue.value()));
    if (give_back_on_cancel) give_back(queue);
  }
  void reset() noexcept override { events.push_back("reset"); }

  /// Completes all held chains, or those of one queue.
  void give_back() {
    while (!held.empty()) give_back_first();
  }
  void give_back(QueueIndex queue) {
    std::deque<Chain> others;
    while (!held.empty()) {
      Chain chain = std::move(held.front());
      held.pop_front();
      if (chain.queue().index() == queue) {
        host->complete(std::move(chain), 0);
      } else {
        others.push_back(std::move(chain));
      }
    }
    held.swap(others);
  }
  void give_back_first() {
    Chain chain = std::move(held.front());
    held.pop_front();
    host->complete(std::move(chain), 0);
  }

  DeviceHost* host = nullptr;
  Features accepted;
  bool hold = false;
  bool give_back_on_cancel = false;
  std::function<void()> on_activate;
  std::function<void()> on_handle;
  std::deque<Chain> held;
  std::vector<uint16_t> handled;  ///< queue numbers, in order
  std::vector<std::string> events;
  std::vector<std::vector<std::byte>> configs;
  unsigned batches = 0;

 private:
  DeviceTraits traits_{};
};

}  // namespace ringlet
