// The simulated driver's side of a virtqueue, in borrowed memory that it keeps watch over.
#include "tests/sim/guest_ring.h"

#include <algorithm>
#include <atomic>
#include <cassert>

#include "tests/sim/packed_guest_ring.h"
#include "tests/sim/split_guest_ring.h"
#include "tests/sim/trace.h"

namespace ringlet {

GuestRing::GuestRing(GuestArena& arena, uint16_t size, Features features)
    : arena_(arena), size_(size), event_idx_(features.has(Feature::EventIdx)), tables_(size) {}

std::unique_ptr<GuestRing> GuestRing::make(GuestArena& arena, uint16_t size, Features features,
                                           SimRandom& random) {
  if (features.has(Feature::RingPacked)) {
    return PackedGuestRing::make(arena, size, features, random);
  }
  return SplitGuestRing::make(arena, size, features, random);
}

bool GuestRing::take_all(GuestArena& arena, SimRandom& random, std::span<const size_t> lengths,
                         std::span<GuestBuffer> parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto part = arena.take(lengths[i], 16, random);
    if (!part) {
      for (const GuestBuffer& taken : parts.first(i)) arena.give_back(taken);
      return false;
    }
    parts[i] = *part;
    std::ranges::fill(part->bytes, std::byte{0});
  }
  return true;
}

void GuestRing::keep_table(uint16_t head, const GuestBuffer& buffer) {
  tables_[head] = Table{.buffer = buffer, .then = {buffer.bytes.begin(), buffer.bytes.end()}};
}

void GuestRing::give_back_table(uint16_t head) {
  if (!tables_[head]) return;
  expect(std::ranges::equal(tables_[head]->then, tables_[head]->buffer.bytes),
         "the device wrote to the indirect table of head {}", head);
  arena_.give_back(tables_[head]->buffer);
  tables_[head].reset();
}

bool GuestRing::wish_always() {
  wish_ = Wish::Always;
  write_wish(1);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return used_waiting() == 0;
}

void GuestRing::wish_never() {
  wish_ = Wish::Never;
  write_wish(0);
}

void GuestRing::wish_later(uint16_t chains) {
  assert(event_idx_ && chains > 0);
  wish_ = Wish::Later;
  write_wish(chains);
}

}  // namespace ringlet
