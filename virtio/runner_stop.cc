// How a device on the I/O loop comes to rest: resets of it and of its queues, pauses.
#include <utility>

#include "virtio/runner.h"

namespace ringlet {

// Resets --------------------------------------------------------------------------------------

void Runner::begin_reset() noexcept {
  if (phase_ == Phase::Stopping || phase_ == Phase::Stopped) return;
  if (phase_ == Phase::Inactive) {
    events_.reset_done();
    return;
  }
  phase_ = Phase::Stopping;
  for (const auto& lane : lanes_) {
    if (lane->queue && lane->queue->in_flight() > 0) device_.cancel(lane->index);
  }
  if (phase_ == Phase::Stopping) chain_came_home(*lanes_.front());
}

void Runner::begin_queue_reset(Lane& lane) noexcept {
  if (phase_ != Phase::Active || lane.resetting) {
    if (phase_ == Phase::Inactive) events_.queue_reset_done(lane.index);
    return;
  }
  lane.resetting = true;
  if (lane.queue && lane.queue->in_flight() > 0) device_.cancel(lane.index);
  if (lane.resetting) chain_came_home(lane);
}

bool Runner::idle() const noexcept {
  for (const auto& lane : lanes_) {
    if (lane->queue && lane->queue->in_flight() > 0) return false;
  }
  return true;
}

void Runner::chain_came_home(Lane& lane) noexcept {
  const bool idle_lane = !lane.queue || lane.queue->in_flight() == 0;
  if (lane.resetting && !lane.drained && idle_lane) {
    lane.queue.reset();
    lane.drained = true;
    raise_barrier();
  }
  if (phase_ == Phase::Stopping && idle()) {
    for (const auto& other : lanes_) {
      other->queue.reset();
      other->resetting = other->drained = false;
    }
    device_.reset();
    phase_ = Phase::Stopped;
    raise_barrier();
  }
  if (quiesce_done_ != nullptr && quiet()) loop_.defer(*std::exchange(quiesce_done_, nullptr));
}

// 2.4.1, 2.6.1.1.1: no notification may follow the end of a reset, but those sent before are still
// on their way to the kernel. What is submitted behind them completes behind them.
void Runner::raise_barrier() noexcept {
  barrier_.again = barrier_.under_way;
  if (std::exchange(barrier_.under_way, true)) return;
  loop_.timeout(0, barrier_);
}

void Runner::announce_resets() noexcept {
  barrier_.under_way = false;
  if (std::exchange(barrier_.again, false)) return raise_barrier();
  for (const auto& lane : lanes_) {
    if (!std::exchange(lane->drained, false)) continue;
    lane->resetting = false;
    events_.queue_reset_done(lane->index);
  }
  if (phase_ == Phase::Stopped) {
    phase_ = Phase::Inactive;
    failed_ = false;
    events_.reset_done();
  }
  if (quiesce_done_ != nullptr && quiet()) loop_.defer(*std::exchange(quiesce_done_, nullptr));
}

// Pausing -------------------------------------------------------------------------------------

void Runner::quiesce(Task& done) noexcept {
  quiesced_ = true;
  if (quiet()) {
    loop_.defer(done);
  } else {
    quiesce_done_ = &done;
  }
}

void Runner::resume() noexcept {
  quiesced_ = false;
  serve_all();
}

void Runner::serve_all() noexcept {
  for (const auto& lane : lanes_) {
    if (lane->queue) loop_.post(lane->serve);
  }
}

std::vector<QueuePosition> Runner::positions() const {
  std::vector<QueuePosition> positions;
  for (const auto& lane : lanes_) {
    positions.push_back(lane->queue ? lane->queue->position() : QueuePosition{});
  }
  return positions;
}

}  // namespace ringlet
