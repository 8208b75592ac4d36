// How the simulated driver breaks the rules. Each act must end in DEVICE_NEEDS_RESET.
#include <linux/virtio_blk.h>

#include <array>

#include "tests/sim/disk_driver.h"
#include "tests/sim/split_guest_ring.h"
#include "tests/sim/trace.h"
#include "virtio/blk_layout.h"

namespace ringlet {
namespace {

constexpr uint16_t kNext = ring::kDescNext;
constexpr uint16_t kWrite = ring::kDescWrite;
constexpr uint16_t kIndirect = ring::kDescIndirect;

}  // namespace

void DiskDriver::be_hostile() {
  Lane* const lane = up() && !tainted_ ? pick_lane(Life::Up) : nullptr;
  if (lane == nullptr || lane->ring->out() + 2 > lane->ring->size()) return;
  const unsigned act = random_.below(7U);
  const bool done =
      lane->ring->as_split() != nullptr ? break_split(*lane, act) : break_packed(*lane, act);
  if (!done) return;
  note("disk {}, queue {}: hostile act {}", disk_->number(), lane->number, act);
  taint();
  // A kick is due whatever the device thinks of it.
  [[maybe_unused]] const bool wants_kick = lane->ring->publish();
  lane->kick_owed = true;
  kick(*lane);
}

bool DiskDriver::break_split(Lane& lane, unsigned act) {
  SplitGuestRing& ring = *lane.ring->as_split();
  switch (act) {
    case 0: return offer_bad_head(ring);
    case 1: return offer_bad_descriptor(lane, ring);
    case 2: return offer_bad_table(lane, ring);
    case 3: return offer_loop(lane, ring);
    case 4: return offer_twice(lane, ring);
    case 5: return offer_torso(lane, ring);
    default: ring.jump(static_cast<uint16_t>(random_.between(ring.size() + 1, 30'000)));
  }
  return true;
}

std::optional<GuestBuffer> DiskDriver::hostile_buffer(size_t bytes) {
  return arena_.take(bytes, 16, random_);
}

// A request that may come back or not; its memory is kept until then or the reset.
void DiskDriver::add_hostile(Lane& lane, uint16_t head, const GuestBuffer& buffer) {
  DiskRequest request;
  request.hostile = true;
  request.placed.writable.push_back(buffer);
  lane.requests[head] = std::move(request);
}

bool DiskDriver::offer_bad_head(SplitGuestRing& ring) {
  const uint32_t size = ring.size();
  ring.offer(static_cast<uint16_t>(random_.between(size, uint32_t{UINT16_MAX})));
  return true;
}

bool DiskDriver::offer_bad_descriptor(Lane& lane, SplitGuestRing& ring) {
  const auto buffer = hostile_buffer(64);
  if (!buffer) return false;
  const auto taken = ring.take_descriptors(2);
  if (taken.empty()) {
    arena_.give_back(*buffer);
    return false;
  }
  const uint64_t good = buffer->at.value();
  const auto bad_addresses = arena_.bad_addresses();
  const uint64_t bad = random_.pick(bad_addresses).value();
  const uint16_t second = taken[1];
  ring::Descriptor first{.address = good, .length = 32, .flags = kNext, .next = second};
  ring::Descriptor last{.address = good + 32, .length = 32, .flags = kWrite, .next = 0};
  switch (random_.below(5)) {
    case 0: first.address = bad; break;
    case 1: last.address = bad; break;
    case 2: last.length = UINT32_MAX - random_.below(16U); break;
    case 3:  // readable behind writable
      first.flags = kNext | kWrite;
      last.flags = 0;
      break;
    default: first.next = static_cast<uint16_t>(random_.between<uint32_t>(ring.size(), 0xffff));
  }
  ring.put_descriptor(taken[0], first);
  ring.put_descriptor(second, last);
  add_hostile(lane, taken[0], *buffer);
  ring.offer(taken[0]);
  return true;
}

bool DiskDriver::offer_bad_table(Lane& lane, SplitGuestRing& ring) {
  const auto buffer = hostile_buffer(128);
  if (!buffer) return false;
  const auto taken = ring.take_descriptors(1);
  if (taken.empty()) {
    arena_.give_back(*buffer);
    return false;
  }
  // But for the fault a request as any other, so that it would go through.
  const uint64_t at = buffer->at.value();
  ring::Descriptor outer{.address = at, .length = 32, .flags = kIndirect, .next = 0};
  std::array<ring::Descriptor, 4> table{{{at + 64, 16, kNext, 1},
                                         {at + 80, 1, kWrite, 0},
                                         {at + 64, 16, kNext, 1},  // for a table in the table
                                         {at + 80, 1, kWrite, 0}}};
  switch (random_.below(7)) {
    case 0: table[0] = {at + 32, 32, kIndirect, 0}; break;
    case 1: table[1] = {at + 48, 16, kIndirect, 0}; break;
    case 2: outer.flags = kIndirect | kNext; break;
    case 3: outer.length = 16 * (1U + ring.size()); break;
    case 4: outer.length = 32 + random_.between(1U, 15U); break;
    case 5: outer.length = 0; break;
    default: outer.address = random_.pick(arena_.bad_addresses()).value();
  }
  GuestView(buffer->bytes).write(0, table);
  ring.put_descriptor(taken[0], outer);
  add_hostile(lane, taken[0], *buffer);
  ring.offer(taken[0]);
  return true;
}

bool DiskDriver::offer_loop(Lane& lane, SplitGuestRing& ring) {
  const auto buffer = hostile_buffer(64);
  if (!buffer) return false;
  const auto taken = ring.take_descriptors(random_.between<size_t>(1, 3));
  if (taken.empty()) {
    arena_.give_back(*buffer);
    return false;
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    ring.put_descriptor(taken[i], {.address = buffer->at.value(),
                                   .length = 16,
                                   .flags = kNext,
                                   .next = taken[(i + 1) % taken.size()]});
  }
  add_hostile(lane, taken[0], *buffer);
  ring.offer(taken[0]);
  return true;
}

// The same head again while the device has it: a read, which is never done at once.
bool DiskDriver::offer_twice(Lane& lane, SplitGuestRing& ring) {
  constexpr uint32_t kAnswer = kSector + 1;
  const auto buffer = hostile_buffer(sizeof(BlkRequestHeader) + kAnswer);
  if (!buffer) return false;
  const auto taken = ring.take_descriptors(2);
  if (taken.empty()) {
    arena_.give_back(*buffer);
    return false;
  }
  BlkRequestHeader header{};
  header.type = VIRTIO_BLK_T_IN;
  GuestView(buffer->bytes).write(0, header);
  const uint64_t at = buffer->at.value();
  ring.put_descriptor(taken[0], {at, sizeof header, kNext, taken[1]});
  ring.put_descriptor(taken[1], {at + sizeof header, kAnswer, kWrite, 0});
  add_hostile(lane, taken[0], *buffer);
  ring.offer(taken[0]);
  ring.offer(taken[0]);
  return true;
}

// Not even a request: without a whole header, or without a byte for the status.
bool DiskDriver::offer_torso(Lane& lane, SplitGuestRing& ring) {
  const auto buffer = hostile_buffer(64);
  if (!buffer) return false;
  const auto taken = ring.take_descriptors(1);
  if (taken.empty()) {
    arena_.give_back(*buffer);
    return false;
  }
  const bool writable = random_.percent(50);
  ring.put_descriptor(
      taken[0], {buffer->at.value(), random_.between(1U, 64U), writable ? kWrite : uint16_t{0}, 0});
  add_hostile(lane, taken[0], *buffer);
  ring.offer(taken[0]);
  return true;
}

}  // namespace ringlet
