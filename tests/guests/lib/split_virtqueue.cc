// Split virtqueue, driver side (virtio 1.3, 2.7).
#include "lib/split_virtqueue.h"

#include "lib/console.h"
#include "lib/memory.h"

namespace guest {
namespace {

// Descriptor flags (2.7.5).
constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;

// Ring flags, used without VIRTIO_F_EVENT_IDX (2.7.7, 2.7.10).
constexpr uint16_t kNoInterrupt = 1;
constexpr uint16_t kNoNotify = 1;

void store_release(volatile uint16_t& to, uint16_t value) {
  __atomic_store_n(&to, value, __ATOMIC_RELEASE);
}

uint16_t load_acquire(const volatile uint16_t& from) {
  return __atomic_load_n(&from, __ATOMIC_ACQUIRE);
}

// Orders "our index is visible" before "what did the other side ask for": both sides write one
// location and then read the other's, which only a full fence keeps in order.
void full_fence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint16_t segment_flags(const Segment& segment) {
  return segment.writable ? kWrite : 0;
}

}  // namespace

struct SplitVirtqueue::Avail {
  volatile uint16_t flags;
  volatile uint16_t index;
  volatile uint16_t ring[kMaxQueueSize + 1];  // used_event follows the last entry in use
};

struct SplitVirtqueue::Used {
  struct Element {
    uint32_t id;
    uint32_t length;
  };
  volatile uint16_t flags;
  volatile uint16_t index;
  volatile Element ring[kMaxQueueSize + 1];  // avail_event follows the last entry in use
};

SplitVirtqueue::SplitVirtqueue(uint16_t size, const QueueOptions& options) : size_(size) {
  expect(size > 0 && size <= kMaxQueueSize && (size & (size - 1)) == 0, "queue size {}", size);
  descriptors_ = allocate_array<Descriptor>(size, 16);
  avail_ = allocate_array<Avail>(1, 2).data;
  used_ = allocate_array<Used>(1, 4).data;
  chain_lengths_ = allocate_array<uint16_t>(size).data;
  reset(options);
}

void SplitVirtqueue::reset(const QueueOptions& options) {
  options_ = options;
  const size_t table_entries = size_t{size_} * options.indirect_entries;
  if (tables_.size < table_entries) {
    tables_ = allocate_array<Descriptor>(table_entries, 16);
  }
  memset(avail_, 0, sizeof(Avail));
  memset(used_, 0, sizeof(Used));
  for (uint16_t i = 0; i < size_; ++i) {
    descriptors_[i] = {.address = 0, .length = 0, .flags = 0, .next = static_cast<uint16_t>(i + 1)};
  }
  memset(chain_lengths_, 0, size_ * sizeof(chain_lengths_[0]));
  free_head_ = 0;
  free_count_ = size_;
  added_ = published_ = taken_ = 0;
}

QueueAreas SplitVirtqueue::areas() const {
  return {address_of(descriptors_.data), address_of(avail_), address_of(used_)};
}

QueueMemory SplitVirtqueue::written_by_device() const {
  return {{{reinterpret_cast<uint8_t*>(used_), 6 + 8 * size_t{size_}}, {}}};
}

volatile uint16_t& SplitVirtqueue::used_event() {
  return avail_->ring[size_];
}

const volatile uint16_t& SplitVirtqueue::avail_event() const {
  return *reinterpret_cast<const volatile uint16_t*>(&used_->ring[size_]);
}

std::optional<uint16_t> SplitVirtqueue::add(Span<const Segment> segments) {
  const bool indirect = segments.size > 1 && segments.size <= options_.indirect_entries;
  const size_t needed = indirect ? 1 : segments.size;
  if (needed == 0 || needed > free_count_) {
    return std::nullopt;
  }
  const uint16_t head = free_head_;
  if (indirect) {
    fill_table(segments, head);
  } else {
    fill_chain(segments, head);
  }
  free_count_ = static_cast<uint16_t>(free_count_ - needed);
  chain_lengths_[head] = static_cast<uint16_t>(needed);
  avail_->ring[added_ % size_] = head;
  ++added_;
  return head;
}

// Free descriptors are linked by their `next` already; what is left is to fill them.
void SplitVirtqueue::fill_chain(Span<const Segment> segments, uint16_t head) {
  uint16_t at = head;
  for (size_t i = 0; i < segments.size; ++i) {
    Descriptor& descriptor = descriptors_[at];
    const bool last = i + 1 == segments.size;
    descriptor.address = segments[i].address;
    descriptor.length = segments[i].length;
    descriptor.flags = static_cast<uint16_t>(segment_flags(segments[i]) | (last ? 0 : kNext));
    at = descriptor.next;
  }
  free_head_ = at;
}

void SplitVirtqueue::fill_table(Span<const Segment> segments, uint16_t head) {
  Descriptor* table = &tables_[size_t{head} * options_.indirect_entries];
  for (size_t i = 0; i < segments.size; ++i) {
    const bool last = i + 1 == segments.size;
    table[i] = {.address = segments[i].address,
                .length = segments[i].length,
                .flags = static_cast<uint16_t>(segment_flags(segments[i]) | (last ? 0 : kNext)),
                .next = static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  Descriptor& descriptor = descriptors_[head];
  free_head_ = descriptor.next;
  descriptor.address = address_of(table);
  descriptor.length = static_cast<uint32_t>(segments.size * sizeof(Descriptor));
  descriptor.flags = kIndirect;
}

bool SplitVirtqueue::publish() {
  const uint16_t before = published_;
  published_ = added_;
  store_release(avail_->index, published_);
  full_fence();
  if (!options_.event_idx) {
    return (load_acquire(used_->flags) & kNoNotify) == 0;
  }
  // Whether avail_event lies in [before, published): then its entry has just become available.
  const auto distance = static_cast<uint16_t>(published_ - load_acquire(avail_event()) - 1);
  return distance < static_cast<uint16_t>(published_ - before);
}

uint16_t SplitVirtqueue::load_used_index() const {
  return load_acquire(used_->index);
}

std::optional<UsedElement> SplitVirtqueue::take_used() {
  const uint16_t index = load_used_index();
  expect(static_cast<uint16_t>(index - taken_) <= size_, "used index {} is ahead of {}", index,
         published_);
  if (index == taken_) {
    return std::nullopt;
  }
  const volatile Used::Element& element = used_->ring[taken_ % size_];
  const uint32_t id = element.id;
  const uint32_t length = element.length;
  expect(id < size_ && chain_lengths_[id] != 0, "used element names request {}", id);
  ++taken_;

  // Back to the free list, behind the chain's last descriptor.
  const auto head = static_cast<uint16_t>(id);
  uint16_t last = head;
  for (uint16_t i = 1; i < chain_lengths_[head]; ++i) {
    last = descriptors_[last].next;
  }
  descriptors_[last].next = free_head_;
  free_head_ = head;
  free_count_ = static_cast<uint16_t>(free_count_ + chain_lengths_[head]);
  chain_lengths_[head] = 0;
  return UsedElement{head, length};
}

void SplitVirtqueue::disable_interrupts() {
  avail_->flags = kNoInterrupt;
  // The flag must not be relied on with event_idx: an entry that was just taken comes round last.
  used_event() = static_cast<uint16_t>(taken_ - 1);
}

bool SplitVirtqueue::enable_interrupts(uint16_t more) {
  avail_->flags = 0;
  used_event() = static_cast<uint16_t>(taken_ + more - 1);
  full_fence();
  if (static_cast<uint16_t>(load_used_index() - taken_) >= more) {
    disable_interrupts();
    return false;
  }
  return true;
}

}  // namespace guest
