// A live virtqueue: what the guest programmed, checked, with the device's side of its rings.
#include "virtio/queue.h"

#define VIRTIO_RING_NO_LEGACY  // leaves out an inline function that is C only
#include <linux/virtio_ring.h>

#include <atomic>
#include <bit>
#include <cassert>
#include <limits>

namespace ringlet {

static_assert(sizeof(ring::Descriptor) == sizeof(vring_desc));
static_assert(sizeof(ring::UsedElement) == sizeof(vring_used_elem));
static_assert(ring::kDescNext == VRING_DESC_F_NEXT && ring::kDescWrite == VRING_DESC_F_WRITE &&
              ring::kDescIndirect == VRING_DESC_F_INDIRECT &&
              ring::kAvailNoInterrupt == VRING_AVAIL_F_NO_INTERRUPT &&
              ring::kUsedNoNotify == VRING_USED_F_NO_NOTIFY);

std::string_view Queue::check(const GuestMemory& memory, const QueueConfig& config) {
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

std::unique_ptr<Queue> Queue::create(const GuestMemory& memory, QueueIndex index,
                                     const QueueConfig& config, Features features,
                                     QueuePosition position, std::string_view& why) {
  why = check(memory, config);
  if (!why.empty()) return nullptr;
  return std::unique_ptr<Queue>(new Queue(memory, index, config, features, position));
}

Queue::Queue(const GuestMemory& memory, QueueIndex index, const QueueConfig& config,
             Features features, QueuePosition position)
    : memory_(memory),
      index_(index),
      size_(config.size),
      event_idx_(features.has(Feature::EventIdx)),
      indirect_(features.has(Feature::IndirectDesc)),
      descriptors_(memory.view(config.descriptors, ring::descriptor_table_size(size_)).value()),
      avail_(memory.view(config.driver_area, ring::avail_ring_size(size_)).value()),
      used_(memory.view(config.device_area, ring::used_ring_size(size_)).value()),
      next_avail_(position.next_avail),
      next_used_(position.next_used),
      published_(position.next_used),
      slots_(size_),
      head_in_flight_(size_),
      parts_(new iovec[size_t{size_} * size_]) {
  free_slots_.reserve(size_);
  for (uint16_t slot = size_; slot > 0; --slot) {
    free_slots_.push_back(static_cast<uint16_t>(slot - 1));
  }
  // 2.7.10.2: zero with EVENT_IDX, whatever the driver left there; kicks are wanted without it.
  used_.store_release(ring::kFlags, 0);
}

Queue::~Queue() {
  assert(in_flight_ == 0);
}

std::nullopt_t Queue::fail(std::string_view why) noexcept {
  broken_ = why;
  return std::nullopt;
}

std::optional<Chain> Queue::pop() noexcept {
  if (!broken_.empty()) return std::nullopt;
  // Acquire: the ring entry and the descriptors were written before the index moved (2.7.13.3).
  const uint16_t avail = avail_.load_acquire(ring::kIndex);
  const auto ready = static_cast<uint16_t>(avail - next_avail_);
  if (ready == 0) return std::nullopt;
  if (ready > size_) return fail("the avail index jumped by more than the queue size");
  if (free_slots_.empty()) return fail("more chains available than the queue has descriptors");

  const size_t entry = ring::kEntries + 2UL * (next_avail_ % size_);
  const uint16_t head = avail_.read<le16>(entry);
  if (head >= size_) return fail("a head in the avail ring is not below the queue size");
  if (head_in_flight_[head]) return fail("a head was made available again while in use");

  const uint16_t number = free_slots_.back();
  Slot& slot = slots_[number];
  slot = Slot{.head = head};
  if (!walk(head, slot)) return std::nullopt;

  free_slots_.pop_back();
  head_in_flight_[head] = true;
  ++in_flight_;
  ++next_avail_;
  return Chain(*this, number);
}

bool Queue::walk(uint16_t head, Slot& slot) noexcept {
  Table table{.view = descriptors_, .length = size_, .indirect = false};
  uint16_t at = head;
  uint64_t total = 0;
  // A chain has at most as many descriptors as the queue (2.7.5.3.1): this bound ends loops. The
  // one that refers to an indirect table is not counted; a second such ends the walk.
  for (uint16_t count = 0; count < size_; ++count) {
    auto descriptor = table.view.read<ring::Descriptor>(sizeof(ring::Descriptor) * at);
    while ((descriptor.flags & ring::kDescIndirect) != 0) {
      if (!enter_indirect(descriptor, table)) return false;
      descriptor = table.view.read<ring::Descriptor>(0);
    }
    const uint16_t flags = descriptor.flags;
    if (!add_part(descriptor, slot, total)) return false;
    if ((flags & ring::kDescNext) == 0) return true;
    at = descriptor.next;
    if (at >= table.length) {
      fail("a next field points outside the descriptor table");
      return false;
    }
  }
  fail("a chain is longer than the queue, or loops");
  return false;
}

bool Queue::enter_indirect(const ring::Descriptor& descriptor, Table& table) noexcept {
  const uint32_t length = descriptor.length;
  constexpr uint32_t kEntry = sizeof(ring::Descriptor);
  if (!indirect_) {
    fail("an indirect descriptor, which was not negotiated");
  } else if (table.indirect) {
    fail("an indirect descriptor inside an indirect table");
  } else if ((descriptor.flags & ring::kDescNext) != 0) {
    fail("an indirect descriptor with a next one");
  } else if (length == 0 || length % kEntry != 0 || length / kEntry > size_) {
    fail("an indirect table's length is not that of 1 to queue-size descriptors");
  } else {
    const auto view = memory_.view(GuestAddr(descriptor.address), length);
    if (!view) {
      fail("an indirect table lies outside guest memory");
      return false;
    }
    table = {.view = *view, .length = static_cast<uint16_t>(length / kEntry), .indirect = true};
    return true;
  }
  return false;
}

bool Queue::add_part(const ring::Descriptor& descriptor, Slot& slot, uint64_t& total) noexcept {
  const bool writable = (descriptor.flags & ring::kDescWrite) != 0;
  if (!writable && slot.writes > 0) {
    fail("a device-readable descriptor behind a device-writable one");
    return false;
  }
  const uint32_t length = descriptor.length;
  if (length == 0) return true;
  const auto bytes = memory_.slice(GuestAddr(descriptor.address), length);
  if (!bytes) {
    fail("a buffer lies outside guest memory");
    return false;
  }
  total += length;
  // 2.7.5.2 allows for one byte more, which used lengths could not tell from none.
  if (total > std::numeric_limits<uint32_t>::max()) {
    fail("a chain of 2^32 bytes or more");
    return false;
  }
  iovec* const part =
      parts(static_cast<uint16_t>(&slot - slots_.data())) + slot.reads + slot.writes;
  *part = {.iov_base = bytes->data(), .iov_len = length};
  ++(writable ? slot.writes : slot.reads);
  return true;
}

uint16_t Queue::give_back(Chain& chain) noexcept {
  assert(chain.queue_ == this);
  // Also without a used entry for it: I/O that failed half-way, or was cancelled, may have written.
  for (const iovec& part : chain.writable()) {
    memory_.mark_dirty({static_cast<const std::byte*>(part.iov_base), part.iov_len});
  }
  const uint16_t head = slots_[chain.slot_].head;
  free_slots_.push_back(chain.slot_);  // within the capacity reserved: never allocates
  head_in_flight_[head] = false;
  --in_flight_;
  chain.queue_ = nullptr;
  return head;
}

void Queue::complete(Chain chain, uint32_t written) noexcept {
  ring::UsedElement element;
  element.head = give_back(chain);
  element.length = written;
  used_.write(ring::kEntries + sizeof(element) * (next_used_ % size_), element);
  ++next_used_;
}

void Queue::abandon(Chain chain) noexcept {
  chain.queue_->give_back(chain);
}

bool Queue::publish() noexcept {
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

bool Queue::has_avail() const noexcept {
  return broken_.empty() && avail_.load_relaxed(ring::kIndex) != next_avail_;
}

void Queue::suppress_kicks() noexcept {
  if (!kicks_wanted_) return;
  kicks_wanted_ = false;
  if (event_idx_) {
    // Behind the index: no move of it passes there before it has gone all the way round.
    used_.store_release(ring::avail_event(size_), static_cast<uint16_t>(next_avail_ - 1));
  } else {
    used_.store_release(ring::kFlags, ring::kUsedNoNotify);
  }
}

bool Queue::allow_kicks() noexcept {
  kicks_wanted_ = true;
  if (event_idx_) {
    used_.store_release(ring::avail_event(size_), next_avail_);
  } else {
    used_.store_release(ring::kFlags, 0);
  }
  // As in publish(): either we see the new avail index, or the driver sees that it must kick.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return broken_.empty() && avail_.load_acquire(ring::kIndex) != next_avail_;
}

}  // namespace ringlet
