// Packed virtqueue, driver side (virtio 1.3, 2.8).
#include "lib/packed_virtqueue.h"

#include "lib/console.h"
#include "lib/memory.h"

namespace guest {
namespace {

// Descriptor flags (2.8.1, 2.8.3 to 2.8.7).
constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;
constexpr uint16_t kAvail = 1 << 7;
constexpr uint16_t kUsed = 1 << 15;

// Event flags (2.8.10).
constexpr uint16_t kEnable = 0;
constexpr uint16_t kDisable = 1;
constexpr uint16_t kAtDescriptor = 2;

uint16_t load_acquire(const volatile uint16_t& from) {
  return __atomic_load_n(&from, __ATOMIC_ACQUIRE);
}

// Orders "our descriptor is visible" before "what did the other side ask for".
void full_fence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint16_t segment_flags(const Segment& segment) {
  return segment.writable ? kWrite : 0;
}

bool is_used(uint16_t flags, bool wrap) {
  return ((flags & kAvail) != 0) == wrap && ((flags & kUsed) != 0) == wrap;
}

}  // namespace

void PackedVirtqueue::Position::advance(uint32_t descriptors, uint16_t size) {
  const uint32_t next = index + descriptors;
  wrap = next >= size ? !wrap : wrap;
  index = static_cast<uint16_t>(next >= size ? next - size : next);
}

PackedVirtqueue::PackedVirtqueue(uint16_t size, const QueueOptions& options) : size_(size) {
  expect(size > 0 && size <= kMaxQueueSize, "queue size {}", size);
  ring_ = allocate_array<Descriptor>(size, 16);
  driver_events_ = allocate_array<Events>(1, 4).data;
  device_events_ = allocate_array<Events>(1, 4).data;
  free_ids_ = allocate_array<uint16_t>(size);
  lengths_ = allocate_array<uint16_t>(size);
  reset(options);
}

void PackedVirtqueue::reset(const QueueOptions& options) {
  options_ = options;
  const size_t table_entries = size_t{size_} * options.indirect_entries;
  if (tables_.size < table_entries) {
    tables_ = allocate_array<Descriptor>(table_entries, 16);
  }
  memset(ring_.data, 0, ring_.size * sizeof(Descriptor));
  memset(driver_events_, 0, sizeof(Events));
  memset(device_events_, 0, sizeof(Events));
  for (uint16_t i = 0; i < size_; ++i) {
    free_ids_[i] = i;
    lengths_[i] = 0;
  }
  added_ = published_ = taken_ = {};
  waiting_ = out_ = 0;
  free_count_ = size_;
}

QueueAreas PackedVirtqueue::areas() const {
  return {address_of(ring_.data), address_of(driver_events_), address_of(device_events_)};
}

QueueMemory PackedVirtqueue::written_by_device() const {
  return {{{reinterpret_cast<uint8_t*>(ring_.data), ring_.size * sizeof(Descriptor)},
           {reinterpret_cast<uint8_t*>(device_events_), sizeof(Events)}}};
}

std::optional<uint16_t> PackedVirtqueue::add(Span<const Segment> segments) {
  const bool indirect = segments.size > 1 && segments.size <= options_.indirect_entries;
  const size_t needed = indirect ? 1 : segments.size;
  if (needed == 0 || needed > free_count_) {
    return std::nullopt;
  }
  const uint16_t id = free_ids_[out_++];
  lengths_[id] = static_cast<uint16_t>(needed);
  free_count_ = static_cast<uint16_t>(free_count_ - needed);
  if (indirect) {
    Descriptor* const table = &tables_[size_t{id} * options_.indirect_entries];
    for (size_t i = 0; i < segments.size; ++i) {
      table[i] = {segments[i].address, segments[i].length, 0, segment_flags(segments[i])};
    }
    append(address_of(table), static_cast<uint32_t>(segments.size * sizeof(Descriptor)), id,
           kIndirect);
    return id;
  }
  for (size_t i = 0; i < segments.size; ++i) {
    const bool last = i + 1 == segments.size;
    append(segments[i].address, segments[i].length, id,
           static_cast<uint16_t>(segment_flags(segments[i]) | (last ? 0 : kNext)));
  }
  return id;
}

// Nothing that was added can be seen before publish() writes the first one's flags.
void PackedVirtqueue::append(uint64_t address, uint32_t length, uint16_t id, uint16_t flags) {
  Descriptor& descriptor = ring_[added_.index];
  descriptor.address = address;
  descriptor.length = length;
  descriptor.id = id;
  const auto all = static_cast<uint16_t>(flags | (added_.wrap ? kAvail : kUsed));
  if (waiting_ == 0) {
    first_flags_ = all;
  } else {
    __atomic_store_n(&descriptor.flags, all, __ATOMIC_RELAXED);
  }
  added_.advance(1, size_);
  ++waiting_;
}

bool PackedVirtqueue::publish() {
  const uint16_t moved = waiting_;
  if (moved == 0) {
    return false;
  }
  __atomic_store_n(&ring_[published_.index].flags, first_flags_, __ATOMIC_RELEASE);
  const Position before = published_;
  published_ = added_;
  waiting_ = 0;
  full_fence();
  const uint16_t wanted = load_acquire(device_events_->flags) & 3;
  if (wanted != kAtDescriptor || !options_.event_idx) {
    return wanted != kDisable;
  }
  // Whether the descriptor that is named is one of those that have just become available.
  const uint16_t event = load_acquire(device_events_->position);
  const uint32_t index = event & 0x7fffu;
  const uint32_t ahead = index + (((event >> 15) != 0) == before.wrap ? 0u : size_);
  return ahead >= before.index && ahead - before.index < moved;
}

std::optional<UsedElement> PackedVirtqueue::take_used() {
  Descriptor& descriptor = ring_[taken_.index];
  const uint16_t flags = __atomic_load_n(&descriptor.flags, __ATOMIC_ACQUIRE);
  if (out_ == 0 || !is_used(flags, taken_.wrap)) {
    return std::nullopt;
  }
  const uint16_t id = descriptor.id;
  expect(id < size_ && lengths_[id] != 0, "used descriptor names request {}", id);
  // Whether the write flag says that the length counts is not looked at: QEMU 7.2 never sets it.
  const UsedElement used{id, descriptor.length};
  taken_.advance(lengths_[id], size_);
  free_count_ = static_cast<uint16_t>(free_count_ + lengths_[id]);
  lengths_[id] = 0;
  free_ids_[--out_] = id;
  return used;
}

void PackedVirtqueue::disable_interrupts() {
  driver_events_->flags = kDisable;
}

// Requests that were used and not taken, up to `most`.
uint16_t PackedVirtqueue::count_used(uint16_t most) const {
  Position at = taken_;
  uint16_t count = 0;
  while (count < most && count < out_ &&
         is_used(__atomic_load_n(&ring_[at.index].flags, __ATOMIC_ACQUIRE), at.wrap)) {
    at.advance(lengths_[ring_[at.index].id], size_);
    ++count;
  }
  return count;
}

// Which descriptor the last of `more` requests takes is not known: with more than one wanted, the
// interrupt may come early, but not late, as each request takes at least one.
bool PackedVirtqueue::enable_interrupts(uint16_t more) {
  if (options_.event_idx) {
    Position at = taken_;
    at.advance(more - 1u, size_);
    driver_events_->position = at.event();
    __atomic_store_n(&driver_events_->flags, kAtDescriptor, __ATOMIC_RELEASE);
  } else {
    driver_events_->flags = kEnable;
  }
  full_fence();
  if (count_used(more) >= more) {
    disable_interrupts();
    return false;
  }
  return true;
}

}  // namespace guest
