// A device on several I/O loops: its queues are dealt out to them, each with an instance of the
// device of its own.
//
//   queue        0    1    2    3    4          ┌────────┐
//   part         0    1    0    1    0          │ Device │──┐
//                │    │                         ├────────┤  ├── host: the same file
//                │    └── loop B: Runner ───────┤ Device │──┘
//                └─────── loop A: Runner ───────┴────────┘
//
// So a queue and all that is done for it stay on one loop, and nothing there is locked. What
// concerns the device as a whole, which is rare, goes to every part: activation, configuration,
// failure; and a reset is done when the last of them has done it.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "virtio/runner.h"

namespace ringlet {

/// What serves one share of a device's queues.
struct DevicePart {
  Device& device;
  IoLoop& loop;
};

/// The same calls as Runner's, from the same threads; see there. With one part they are just that.
class Runners {
 public:
  /// Queue i goes to part i modulo their number; at least one. Every device of `parts` has the same
  /// traits. All must outlive this, and so must `events`, which is called on any of the loops.
  Runners(std::span<const DevicePart> parts, const GuestMemory& memory, TransportEvents& events);
  Runners(const Runners&) = delete;
  Runners& operator=(const Runners&) = delete;
  ~Runners();

  int kick_fd(QueueIndex queue) { return of(queue).kick_fd(queue); }
  void kick(QueueIndex queue) noexcept { of(queue).kick(queue); }
  void request_activate(Runner::Activation activation) noexcept;
  void request_reset() noexcept;
  void request_queue_enable(QueueIndex queue, const QueueConfig& config) noexcept {
    of(queue).request_queue_enable(queue, config);
  }
  void request_queue_reset(QueueIndex queue) noexcept { of(queue).request_queue_reset(queue); }
  void request_config(std::span<const std::byte> config) noexcept;
  void set_bus_master(bool on) noexcept;
  void request_serving() noexcept;
  void request_interrupt_check() noexcept;
  void request_signals(std::span<const TransportEvents::Target> targets) noexcept;

  /// On the first part's loop, where `done` runs as well.
  void quiesce(Task& done) noexcept;
  void resume() noexcept;
  std::vector<QueuePosition> positions() const;

  /// The sums of the parts' counters. Any thread.
  Runner::Counts counts() const;

 private:
  class Part;

  Runner& of(QueueIndex queue) noexcept;
  void part_was_reset() noexcept;
  void part_failed(Part& culprit) noexcept;
  void part_is_quiet() noexcept;

  TransportEvents& events_;
  std::vector<std::unique_ptr<Part>> parts_;
  uint64_t lives_ = 0;  // activations so far; under the bus mutex
  std::atomic<size_t> resets_left_{0};
  std::atomic<size_t> noisy_{0};  // parts that have yet to come to rest
  Task* quiesce_done_ = nullptr;  // the first loop's own
};

}  // namespace ringlet
