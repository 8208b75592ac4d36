// The device's side of a split virtqueue's rings (virtio 1.3, 2.7).
#include "virtio/split_ring.h"

#define VIRTIO_RING_NO_LEGACY  // leaves out an inline function that is C only
#include <linux/virtio_ring.h>

#include <atomic>
#include <bit>

namespace ringlet {

static_assert(sizeof(ring::Descriptor) == sizeof(vring_desc));
static_assert(sizeof(ring::UsedElement) == sizeof(vring_used_elem));
static_assert(ring::kDescNext == VRING_DESC_F_NEXT && ring::kDescWrite == VRING_DESC_F_WRITE &&
              ring::kDescIndirect == VRING_DESC_F_INDIRECT &&
              ring::kAvailNoInterrupt == VRING_AVAIL_F_NO_INTERRUPT &&
              ring::kUsedNoNotify == VRING_USED_F_NO_NOTIFY);

std::string_view SplitRing::check(const GuestMemory& memory, const QueueConfig& config) {
  const uint16_t size = config.size;
  // 2.7: the size is a power of two. The transport has offered a maximum; more is refused there.
  if (size == 0 || size > ring::kMaxQueueSize || !std::has_single_bit(size)) {
    return "the queue size is not a power of two of at most 1024";
  }
  // 2.7: descriptor table 16, avail ring 2, used ring 4 bytes.
  if (!config.descriptors.is_aligned(16) || !config.driver_area.is_aligned(2) ||
      !config.device_area.is_aligned(4)) {
    return "a ring is not aligned";
  }
  if (!memory.view(config.descriptors, ring::descriptor_table_size(size)) ||
      !memory.view(config.driver_area, ring::avail_ring_size(size)) ||
      !memory.view(config.device_area, ring::used_ring_size(size))) {
    return "a ring lies outside guest memory";
  }
  return {};
}

SplitRing::SplitRing(const GuestMemory& memory, const QueueConfig& config, Features features,
                     QueuePosition position)
    : memory_(memory),
      size_(config.size),
      event_idx_(features.has(Feature::EventIdx)),
      descriptors_(memory.view(config.descriptors, ring::descriptor_table_size(size_)).value()),
      avail_(memory.view(config.driver_area, ring::avail_ring_size(size_)).value()),
      used_(memory.view(config.device_area, ring::used_ring_size(size_)).value()),
      next_avail_(position.next_avail),
      next_used_(position.next_used),
      published_(position.next_used) {
  // 2.7.10.2: zero with EVENT_IDX, whatever the driver left there; kicks are wanted without it.
  store_used(ring::kFlags, 0);
}

void SplitRing::store_used(size_t offset, uint16_t value) noexcept {
  used_.store_release(offset, value);
  memory_.mark_dirty(used_.bytes().subspan(offset, sizeof value));
}

bool SplitRing::has_avail() const noexcept {
  return avail_.load_acquire(ring::kIndex) != next_avail_;
}

std::optional<uint16_t> SplitRing::take(ChainSlots& chains, std::string_view& broken) noexcept {
  // Acquire: the ring entry and the descriptors were written before the index moved (2.7.13.3).
  const uint16_t avail = avail_.load_acquire(ring::kIndex);
  const auto ready = static_cast<uint16_t>(avail - next_avail_);
  if (ready == 0) return std::nullopt;
  const auto fail = [&broken](std::string_view why) {
    broken = why;
    return std::nullopt;
  };
  if (ready > size_) return fail("the avail index jumped by more than the queue size");
  if (chains.is_full()) return fail("more chains available than the queue has descriptors");

  const size_t entry = ring::kEntries + 2UL * (next_avail_ % size_);
  const uint16_t head = avail_.read<le16>(entry);
  if (head >= size_) return fail("a head in the avail ring is not below the queue size");
  if (chains.is_out(head)) return fail("a head was made available again while in use");

  chains.start();
  broken = walk(head, chains);
  if (!broken.empty()) return std::nullopt;
  ++next_avail_;
  return chains.take(head, 1);
}

std::string_view SplitRing::walk(uint16_t head, ChainSlots& chains) noexcept {
  GuestView table = descriptors_;  // or the indirect one
  uint16_t length = size_;
  bool entered = false;
  uint16_t at = head;
  // A chain has at most as many descriptors as the queue (2.7.5.3.1): this bound ends loops. The
  // one that refers to an indirect table is not counted; a second such ends the walk.
  for (uint16_t count = 0; count < size_; ++count) {
    auto descriptor = table.read<ring::Descriptor>(sizeof(ring::Descriptor) * at);
    while ((descriptor.flags & ring::kDescIndirect) != 0) {
      if (entered) return "an indirect descriptor inside an indirect table";
      const std::string_view why = chains.open_table(GuestAddr(descriptor.address),
                                                     descriptor.length, descriptor.flags, table);
      if (!why.empty()) return why;
      entered = true;
      length = static_cast<uint16_t>(table.size() / sizeof(ring::Descriptor));
      descriptor = table.read<ring::Descriptor>(0);
    }
    const uint16_t flags = descriptor.flags;
    const std::string_view why = chains.add(GuestAddr(descriptor.address), descriptor.length,
                                            (flags & ring::kDescWrite) != 0);
    if (!why.empty() || (flags & ring::kDescNext) == 0) return why;
    at = descriptor.next;
    if (at >= length) return "a next field points outside the descriptor table";
  }
  return "a chain is longer than the queue, or loops";
}

void SplitRing::use(const ChainSlots::Slot& slot, uint32_t written) noexcept {
  ring::UsedElement element;
  element.head = slot.id;
  element.length = written;
  used_.write(ring::kEntries + sizeof(element) * (next_used_ % size_), element);
  ++next_used_;
}

bool SplitRing::publish() noexcept {
  const uint16_t before = published_;
  if (next_used_ == before) return false;
  published_ = next_used_;
  // Release: elements and data are visible before the index moves (2.7.8.2).
  used_.store_release(ring::kIndex, next_used_);
  memory_.mark_dirty(used_.bytes());
  // The driver writes used_event or the flag and then looks at the index; we do the reverse.
  // Without a full fence both could read the old value, and an interrupt would be lost.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (event_idx_) {
    return ring::need_event(avail_.load_relaxed(ring::used_event(size_)), next_used_, before);
  }
  return (avail_.load_relaxed(ring::kFlags) & ring::kAvailNoInterrupt) == 0;
}

void SplitRing::suppress_kicks() noexcept {
  if (event_idx_) {
    // Behind the index: no move of it passes there before it has gone all the way round.
    store_used(ring::avail_event(size_), static_cast<uint16_t>(next_avail_ - 1));
  } else {
    store_used(ring::kFlags, ring::kUsedNoNotify);
  }
}

void SplitRing::allow_kicks() noexcept {
  if (event_idx_) {
    store_used(ring::avail_event(size_), next_avail_);
  } else {
    store_used(ring::kFlags, 0);
  }
}

}  // namespace ringlet
