// How long the I/O loop looks around for work before it goes to sleep.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringlet {

/// A bounded time for polling that follows what it would have gained. Polling pays where the next
/// event comes sooner than a sleeping thread could be woken, and wastes a CPU everywhere else; so
/// short sleeps widen the window, up to the bound, and long ones close it. A bound of 0 turns
/// polling off. For one kind of event; on the loop.
class PollWindow {
 public:
  explicit constexpr PollWindow(uint64_t max_ns) : max_ns_(max_ns) {}

  constexpr uint64_t ns() const { return ns_; }
  /// The last wait for such an event, polled or slept, took that long.
  constexpr void waited(uint64_t ns) {
    if (ns > max_ns_) {
      ns_ = ns_ <= kSmallest ? 0 : ns_ / 2;
    } else if (ns > ns_) {
      ns_ = std::clamp(ns_ * 2, std::min(kSmallest, max_ns_), max_ns_);
    }
  }

 private:
  /// Below that a look around is not worth its clock reads.
  static constexpr uint64_t kSmallest = 4'000;

  uint64_t max_ns_;
  uint64_t ns_ = 0;
};

}  // namespace ringlet
