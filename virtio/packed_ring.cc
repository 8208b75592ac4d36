// The device's side of a packed virtqueue's ring (virtio 1.3, 2.8).
#include "virtio/packed_ring.h"

#define VIRTIO_RING_NO_LEGACY  // leaves out an inline function that is C only
#include <linux/virtio_ring.h>

#include <atomic>
#include <cassert>
#include <cstddef>
#include <utility>

namespace ringlet {

static_assert(packed::kDescriptorSize == sizeof(vring_packed_desc));
static_assert(packed::kDescriptorFlags == offsetof(vring_packed_desc, flags) &&
              packed::kUsed == offsetof(vring_packed_desc, len));
static_assert(packed::kEventSize == sizeof(vring_packed_desc_event));
static_assert(packed::kDescAvail == 1 << VRING_PACKED_DESC_F_AVAIL &&
              packed::kDescUsed == 1 << VRING_PACKED_DESC_F_USED &&
              packed::kEventsOff == VRING_PACKED_EVENT_FLAG_DISABLE &&
              packed::kEventsAtDescriptor == VRING_PACKED_EVENT_FLAG_DESC &&
              packed::kWrapBit == 1 << VRING_PACKED_EVENT_F_WRAP_CTR);

namespace {

// See QueuePosition: the saved bit is the inverse of the wire's.
packed::Position from_saved(uint16_t value) {
  return packed::Position::from_event(value ^ packed::kWrapBit);
}
uint16_t to_saved(packed::Position position) {
  return position.event() ^ packed::kWrapBit;
}

constexpr size_t at_descriptor(packed::Position position) {
  return packed::kDescriptorSize * position.index;
}
constexpr size_t at_flags(packed::Position position) {
  return at_descriptor(position) + packed::kDescriptorFlags;
}

}  // namespace

std::string_view PackedRing::check(const GuestMemory& memory, const QueueConfig& config,
                                   QueuePosition position) {
  const uint16_t size = config.size;
  // 2.8.10.1: any size will do. The transport has offered a maximum; more is refused there.
  if (size == 0 || size > ring::kMaxQueueSize) return "the queue size is not 1 to 1024";
  // 2.8.10.1: descriptor ring 16 bytes, event suppression 4.
  if (!config.descriptors.is_aligned(16) || !config.driver_area.is_aligned(4) ||
      !config.device_area.is_aligned(4)) {
    return "a ring is not aligned";
  }
  if (!memory.view(config.descriptors, packed::descriptor_ring_size(size)) ||
      !memory.view(config.driver_area, packed::kEventSize) ||
      !memory.view(config.device_area, packed::kEventSize)) {
    return "a ring lies outside guest memory";
  }
  const packed::Position avail = from_saved(position.next_avail);
  const packed::Position used = from_saved(position.next_used);
  if (avail.index >= size || used.index >= size) {
    return "a position in the ring is not below the queue size";
  }
  if (avail.distance(used, size) > size) return "more descriptors are used than were available";
  return {};
}

PackedRing::PackedRing(const GuestMemory& memory, const QueueConfig& config, Features features,
                       QueuePosition position)
    : memory_(memory),
      size_(config.size),
      event_idx_(features.has(Feature::EventIdx)),
      ring_(memory.view(config.descriptors, packed::descriptor_ring_size(size_)).value()),
      driver_events_(memory.view(config.driver_area, packed::kEventSize).value()),
      device_events_(memory.view(config.device_area, packed::kEventSize).value()),
      next_avail_(from_saved(position.next_avail)),
      next_used_(from_saved(position.next_used)) {
  set_events(packed::kEventsOn);
}

QueuePosition PackedRing::position() const {
  return {.next_avail = to_saved(next_avail_), .next_used = to_saved(next_used_)};
}

// Those that the device has read and not yet shown as used are not the driver's to fill.
uint16_t PackedRing::free_descriptors() const {
  const Position shown = batch_length_ > 0 ? batch_ : next_used_;
  return static_cast<uint16_t>(size_ - next_avail_.distance(shown, size_));
}

bool PackedRing::has_avail() const noexcept {
  return packed::is_available(ring_.load_acquire(at_flags(next_avail_)), next_avail_.wrap);
}

std::optional<uint16_t> PackedRing::take(ChainSlots& chains, std::string_view& broken) noexcept {
  // Acquire: the driver wrote the whole chain before the flags of its first descriptor (2.8.6).
  const uint16_t flags = ring_.load_acquire(at_flags(next_avail_));
  if (!packed::is_available(flags, next_avail_.wrap)) return std::nullopt;
  const auto fail = [&broken](std::string_view why) {
    broken = why;
    return std::nullopt;
  };
  if (free_descriptors() == 0) return fail("more descriptors available than the queue has");

  chains.start();
  Position at = next_avail_;
  uint16_t id = 0;
  broken = walk(flags, chains, at, id);
  if (!broken.empty()) return std::nullopt;
  if (id >= size_) return fail("a buffer ID is not below the queue size");
  if (chains.is_out(id)) return fail("a buffer ID was made available again while in use");

  const uint16_t entries = at.distance(next_avail_, size_);
  next_avail_ = at;
  return chains.take(id, entries);
}

/// Moves `at` over the chain whose first descriptor has `flags`.
std::string_view PackedRing::walk(uint16_t flags, ChainSlots& chains, Position& at,
                                  uint16_t& id) const noexcept {
  const uint16_t most = free_descriptors();
  for (uint16_t count = 0; count < most; ++count) {
    const auto descriptor = ring_.read<packed::DescriptorBody>(at_descriptor(at));
    at.advance(1, size_);
    id = descriptor.id;  // 2.8.6: the last one's counts
    if ((flags & ring::kDescIndirect) != 0) {
      // 2.8.19: chained descriptors are all direct.
      if (count > 0) return "an indirect descriptor behind direct ones";
      return walk_table(descriptor, flags, chains);
    }
    const std::string_view why = chains.add(GuestAddr(descriptor.address), descriptor.length,
                                            (flags & ring::kDescWrite) != 0);
    if (!why.empty() || (flags & ring::kDescNext) == 0) return why;
    flags = ring_.load_relaxed(at_flags(at));
    if (count + 1 < most && !packed::is_available(flags, at.wrap)) {
      return "a chain goes on with a descriptor that is not available";
    }
  }
  return "a chain is longer than the queue, or than what is free of it";
}

std::string_view PackedRing::walk_table(const packed::DescriptorBody& descriptor, uint16_t flags,
                                        ChainSlots& chains) noexcept {
  GuestView table;
  std::string_view why =
      chains.open_table(GuestAddr(descriptor.address), descriptor.length, flags, table);
  for (size_t at = 0; why.empty() && at < table.size(); at += packed::kDescriptorSize) {
    // 2.8.7: the table's length ends it, and of its flags only this one means something.
    const auto entry = table.read<packed::DescriptorBody>(at);
    const uint16_t entry_flags = table.read<le16>(at + packed::kDescriptorFlags);
    why = chains.add(GuestAddr(entry.address), entry.length, (entry_flags & ring::kDescWrite) != 0);
  }
  return why;
}

void PackedRing::use(const ChainSlots::Slot& slot, uint32_t written) noexcept {
  ring_.write(at_descriptor(next_used_) + packed::kUsed,
              packed::Used{.length = written, .id = slot.id});
  // 2.8.3, 2.8.4: only with the write flag does the length mean something.
  const auto flags = static_cast<uint16_t>(packed::used_flags(next_used_.wrap) |
                                           (written > 0 ? ring::kDescWrite : uint16_t{0}));
  if (batch_length_ == 0) {
    // The driver looks at one descriptor only, the next: while its flags wait, so does the batch.
    batch_ = next_used_;
    batch_flags_ = flags;
  } else {
    ring_.store_release(at_flags(next_used_), flags);
  }
  batch_length_ = static_cast<uint16_t>(batch_length_ + slot.entries);
  assert(batch_length_ <= size_);
  next_used_.advance(slot.entries, size_);
}

bool PackedRing::publish() noexcept {
  if (batch_length_ == 0) return false;
  const uint16_t length = std::exchange(batch_length_, uint16_t{0});
  // Release: data and all else of the batch are visible before it.
  ring_.store_release(at_flags(batch_), batch_flags_);
  memory_.mark_dirty(ring_.bytes());
  // The driver writes what it wants to be told of and then looks at the ring; we do the reverse.
  // Without a full fence both could read the old value, and an interrupt would be lost.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Acquire: the driver wrote the position before the flags that refer to it.
  const uint16_t wanted =
      driver_events_.load_acquire(packed::kEventFlags) & packed::kEventFlagsMask;
  if (wanted == packed::kEventsAtDescriptor && event_idx_) {
    const auto event = Position::from_event(driver_events_.load_relaxed(packed::kEventPosition));
    return packed::need_event(event, batch_, length, size_);
  }
  // 2.8.10: the other values mean nothing. An interrupt too many does less harm than one too few.
  return wanted != packed::kEventsOff;
}

void PackedRing::set_events(uint16_t flags) noexcept {
  device_events_.store_release(packed::kEventFlags, flags);
  memory_.mark_dirty(device_events_.bytes());
}

void PackedRing::suppress_kicks() noexcept {
  set_events(packed::kEventsOff);
}

void PackedRing::allow_kicks() noexcept {
  if (event_idx_) device_events_.store_release(packed::kEventPosition, next_avail_.event());
  set_events(event_idx_ ? packed::kEventsAtDescriptor : packed::kEventsOn);
}

}  // namespace ringlet
