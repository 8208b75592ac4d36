// How the simulated driver breaks the rules of packed virtqueues: each must end in
// DEVICE_NEEDS_RESET.
#include <linux/virtio_blk.h>

#include <array>
#include <vector>

#include "tests/sim/disk_driver.h"
#include "tests/sim/packed_guest_ring.h"
#include "virtio/blk_layout.h"
#include "virtio/ring.h"

namespace ringlet {
namespace {

constexpr uint16_t kNext = ring::kDescNext;
constexpr uint16_t kWrite = ring::kDescWrite;
constexpr uint16_t kIndirect = ring::kDescIndirect;

using Raw = PackedGuestRing::Raw;

}  // namespace

bool DiskDriver::break_packed(Lane& lane, unsigned act) {
  PackedGuestRing& ring = *lane.ring->as_packed();
  if (ring.free_descriptors() < 2) return false;
  if (act == 2) return offer_packed_table(lane, ring);
  if (act == 4) return offer_packed_twice(lane, ring);
  const auto buffer = hostile_buffer(64);
  if (!buffer) return false;
  // But for the fault a request as any other.
  const uint64_t good = buffer->at.value();
  std::vector<Raw> chain{{.address = good, .length = 32, .flags = kNext},
                         {.address = good + 32, .length = 32, .flags = kWrite}};
  std::optional<uint16_t> shown;
  switch (act) {
    case 0: shown = static_cast<uint16_t>(random_.between<uint32_t>(ring.size(), 0xffff)); break;
    case 1: chain[random_.below(2U)].address = random_.pick(arena_.bad_addresses()).value(); break;
    case 3:
      // All that is free, and no end. What is yet to come is not to be one.
      chain.assign(ring.free_descriptors(), {.address = good, .length = 16, .flags = kNext});
      chain.back().hidden = chain.size() < ring.size();
      break;
    case 5: chain.erase(chain.begin() + (random_.percent(50) ? 1 : 0)); break;
    default:
      switch (random_.below(4)) {
        case 0: chain[1].hidden = true; break;
        case 1: chain[1].flags = kIndirect; break;
        case 2: chain[1].length = UINT32_MAX - random_.below(16U); break;
        default: chain[0].flags = kNext | kWrite; chain[1].flags = 0;
      }
  }
  // One descriptor alone is not even a request, if it is the last.
  if (act == 5) chain[0].flags &= kWrite;
  const auto id = ring.offer(chain, shown);
  if (!id) {
    arena_.give_back(*buffer);
    return false;
  }
  add_hostile(lane, *id, *buffer);
  return true;
}

bool DiskDriver::offer_packed_table(Lane& lane, PackedGuestRing& ring) {
  const auto buffer = hostile_buffer(128);
  if (!buffer) return false;
  const uint64_t at = buffer->at.value();
  std::array<ring::Descriptor, 2> table{{{at + 64, 16, 0, 0}, {at + 80, 1, 0, kWrite}}};
  Raw outer{.address = at, .length = 32, .flags = kIndirect};
  switch (random_.below(7)) {
    case 0: table[0].address = random_.pick(arena_.bad_addresses()).value(); break;
    case 1: table[1].length = UINT32_MAX; break;
    case 2: table[0].next = kWrite, table[1].next = 0; break;
    case 3: outer.length = 16 * (1U + ring.size()); break;
    case 4: outer.length = 32 + random_.between(1U, 15U); break;
    case 5: outer.length = 0; break;
    default: outer.address = random_.pick(arena_.bad_addresses()).value();
  }
  GuestView(buffer->bytes).write(0, table);
  const auto id = ring.offer(std::span(&outer, 1));
  if (!id) {
    arena_.give_back(*buffer);
    return false;
  }
  add_hostile(lane, *id, *buffer);
  return true;
}

// The same ID again while the device has it: a read, which is never done at once.
bool DiskDriver::offer_packed_twice(Lane& lane, PackedGuestRing& ring) {
  constexpr uint32_t kAnswer = kSector + 1;
  if (ring.free_descriptors() < 3) return false;
  const auto buffer = hostile_buffer(sizeof(BlkRequestHeader) + kAnswer);
  if (!buffer) return false;
  BlkRequestHeader header{};
  header.type = VIRTIO_BLK_T_IN;
  GuestView(buffer->bytes).write(0, header);
  const uint64_t at = buffer->at.value();
  const std::array<Raw, 2> chain{
      {{.address = at, .length = sizeof header, .flags = kNext},
       {.address = at + sizeof header, .length = kAnswer, .flags = kWrite}}};
  const auto id = ring.offer(chain);
  if (!id) {
    arena_.give_back(*buffer);
    return false;
  }
  add_hostile(lane, *id, *buffer);
  const Raw again{.address = at, .length = sizeof header};
  return ring.offer(std::span(&again, 1), *id).has_value();
}

}  // namespace ringlet
