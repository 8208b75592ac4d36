// A live virtqueue: what the guest programmed, checked, with the device's side of its rings.
#include "virtio/queue.h"

#include <atomic>
#include <cassert>
#include <utility>

namespace ringlet {

std::string_view Queue::check(const GuestMemory& memory, const QueueConfig& config,
                              Features features, QueuePosition position) {
  return features.has(Feature::RingPacked) ? PackedRing::check(memory, config, position)
                                           : SplitRing::check(memory, config);
}

std::unique_ptr<Queue> Queue::create(const GuestMemory& memory, QueueIndex index,
                                     const QueueConfig& config, Features features,
                                     QueuePosition position, std::string_view& why) {
  why = check(memory, config, features, position);
  if (!why.empty()) return nullptr;
  return std::unique_ptr<Queue>(new Queue(memory, index, config, features, position));
}

Queue::Queue(const GuestMemory& memory, QueueIndex index, const QueueConfig& config,
             Features features, QueuePosition position)
    : index_(index),
      size_(config.size),
      ring_(
          features.has(Feature::RingPacked)
              ? decltype(ring_)(std::in_place_type<PackedRing>, memory, config, features, position)
              : decltype(ring_)(std::in_place_type<SplitRing>, memory, config, features, position)),
      chains_(memory, config.size, features.has(Feature::IndirectDesc)) {}

Queue::~Queue() {
  assert(in_flight() == 0);
}

bool Queue::has_avail() const noexcept {
  return broken_.empty() && with_ring([](const auto& ring) { return ring.has_avail(); });
}

std::optional<Chain> Queue::pop() noexcept {
  if (!broken_.empty()) return std::nullopt;
  const std::optional<uint16_t> slot =
      with_ring([this](auto& ring) { return ring.take(chains_, broken_); });
  if (!slot) return std::nullopt;
  return Chain(*this, *slot);
}

ChainSlots::Slot Queue::give_back(Chain& chain) noexcept {
  assert(chain.queue_ == this);
  chain.queue_ = nullptr;
  return chains_.give_back(chain.slot_);
}

void Queue::complete(Chain chain, uint32_t written) noexcept {
  const ChainSlots::Slot slot = give_back(chain);
  with_ring([&](auto& ring) { ring.use(slot, written); });
}

void Queue::abandon(Chain chain) noexcept {
  chain.queue_->give_back(chain);
}

bool Queue::publish() noexcept {
  return with_ring([](auto& ring) { return ring.publish(); });
}

void Queue::suppress_kicks() noexcept {
  if (!std::exchange(kicks_wanted_, false)) return;
  with_ring([](auto& ring) { ring.suppress_kicks(); });
}

bool Queue::allow_kicks() noexcept {
  kicks_wanted_ = true;
  with_ring([](auto& ring) { ring.allow_kicks(); });
  // As in publish(): either we see what the driver made available, or it sees that it must kick.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_avail();
}

QueuePosition Queue::position() const {
  return with_ring([](const auto& ring) { return ring.position(); });
}

}  // namespace ringlet
