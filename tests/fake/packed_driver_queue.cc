// The driver's side of a packed virtqueue: writes rings as Linux does, or as no driver should.
#include "tests/fake/packed_driver_queue.h"

#include <atomic>
#include <cassert>
#include <utility>

namespace ringlet {
namespace {

constexpr size_t at_flags(uint16_t index) {
  return packed::kDescriptorSize * index + packed::kDescriptorFlags;
}

uint16_t segment_flags(const Segment& segment) {
  return segment.device_writes ? ring::kDescWrite : uint16_t{0};
}

}  // namespace

PackedDriverQueue::PackedDriverQueue(GuestHeap& heap, uint16_t size, Features features)
    : heap_(heap), event_idx_(features.has(Feature::EventIdx)) {
  const GuestMemory& memory = heap.memory();
  config_ = {.size = size,
             .enabled = true,
             .descriptors = heap.take(packed::descriptor_ring_size(size), 16),
             .driver_area = heap.take(packed::kEventSize, 4),
             .device_area = heap.take(packed::kEventSize, 4)};
  ring_ = memory.view(config_.descriptors, packed::descriptor_ring_size(size)).value();
  driver_ = memory.view(config_.driver_area, packed::kEventSize).value();
  device_ = memory.view(config_.device_area, packed::kEventSize).value();
  restart();
}

void PackedDriverQueue::restart(QueuePosition position) {
  next_avail_ = Position::from_event(position.next_avail ^ packed::kWrapBit);
  published_ = next_used_ = next_avail_;
  // As if all of the ring had been used in the laps before.
  for (uint16_t index = 0; index < size(); ++index) {
    const bool wrap = index < next_avail_.index ? next_avail_.wrap : !next_avail_.wrap;
    put(index, {.flags = packed::used_flags(wrap)});
  }
  set_device_events(packed::kEventsOn);
  waiting_ = taken_ = out_ = 0;
  free_ = size();
  ids_.clear();
  for (uint16_t id = size(); id > 0; --id) ids_.push_back(static_cast<uint16_t>(id - 1));
  buffers_.resize(size());
  for (Buffer& buffer : buffers_) buffer.descriptors = 0;
  (void)interrupts_on();
}

// --- making chains available ------------------------------------------------------------------

uint16_t PackedDriverQueue::take_id() {
  const uint16_t id = ids_.back();
  ids_.pop_back();
  ++out_;
  return id;
}

void PackedDriverQueue::append(PackedDescriptor descriptor) {
  const auto flags =
      static_cast<uint16_t>(descriptor.flags | packed::available_flags(next_avail_.wrap));
  descriptor.flags = flags;
  if (waiting_ == 0) {
    // Not available yet: this is what makes all that is added visible.
    head_flags_ = flags;
    descriptor.flags = flags_at(next_avail_);
  }
  put(next_avail_.index, descriptor);
  next_avail_.advance(1, size());
  ++waiting_;
  --free_;
}

std::optional<uint16_t> PackedDriverQueue::add(std::span<const Segment> chain) {
  assert(!chain.empty());
  if (chain.size() > free_) return std::nullopt;
  const uint16_t id = take_id();
  buffers_[id].descriptors = static_cast<uint16_t>(chain.size());
  for (const Segment& segment : chain) {
    const bool last = &segment == &chain.back();
    // Only the last one's ID counts; the others' are as wrong as can be.
    append({.address = segment.at.value(),
            .length = segment.length,
            .id = last ? id : uint16_t{0xffff},
            .flags = static_cast<uint16_t>(segment_flags(segment) | (last ? 0 : ring::kDescNext))});
  }
  return id;
}

std::optional<uint16_t> PackedDriverQueue::add_indirect(std::span<const Segment> chain) {
  assert(!chain.empty() && chain.size() <= size());
  if (free_ == 0) return std::nullopt;
  const uint16_t id = take_id();
  Buffer& buffer = buffers_[id];
  buffer.descriptors = 1;
  if (!buffer.table) buffer.table = heap_.take(packed::descriptor_ring_size(size()), 16);
  const GuestView table =
      heap_.memory().view(*buffer.table, packed::descriptor_ring_size(size())).value();
  for (size_t i = 0; i < chain.size(); ++i) {
    table.write(packed::kDescriptorSize * i,
                packed::DescriptorBody{
                    .address = chain[i].at.value(), .length = chain[i].length, .id = 0xffff});
    table.write(packed::kDescriptorSize * i + packed::kDescriptorFlags,
                le16(segment_flags(chain[i])));
  }
  append({.address = buffer.table->value(),
          .length = static_cast<uint32_t>(packed::kDescriptorSize * chain.size()),
          .id = id,
          .flags = ring::kDescIndirect});
  return id;
}

bool PackedDriverQueue::publish() {
  if (waiting_ == 0) return false;
  ring_.store_release(at_flags(published_.index), head_flags_);
  const Position before = std::exchange(published_, next_avail_);
  const uint16_t moved = std::exchange(waiting_, uint16_t{0});
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint16_t wanted = device_event_flags();
  if (wanted != packed::kEventsAtDescriptor) return wanted != packed::kEventsOff;
  return packed::need_event(device_event(), before, moved, size());
}

// --- taking them back -------------------------------------------------------------------------

uint16_t PackedDriverQueue::flags_at(Position at) const {
  return ring_.load_acquire(at_flags(at.index));
}

bool PackedDriverQueue::has_used() const {
  return out_ > 0 && packed::is_used(flags_at(next_used_), next_used_.wrap);
}

uint16_t PackedDriverQueue::used_index() const {
  Position at = next_used_;
  uint16_t count = 0;
  while (count < out_ && packed::is_used(flags_at(at), at.wrap)) {
    at.advance(buffers_.at(descriptor(at.index).id).descriptors, size());
    ++count;
  }
  return static_cast<uint16_t>(taken_ + count);
}

std::optional<UsedEntry> PackedDriverQueue::take_used() {
  if (!has_used()) return std::nullopt;
  const PackedDescriptor used = descriptor(next_used_.index);
  assert(used.id < size() && buffers_[used.id].descriptors > 0 && "an ID that was not out");
  const uint16_t descriptors = std::exchange(buffers_[used.id].descriptors, uint16_t{0});
  next_used_.advance(descriptors, size());
  free_ = static_cast<uint16_t>(free_ + descriptors);
  ids_.push_back(used.id);
  --out_;
  ++taken_;
  if (interrupts_ && event_idx_) set_events(packed::kEventsAtDescriptor, next_used_);
  // 2.8.4: reserved without the write flag.
  return UsedEntry{.head = used.id,
                   .length = (used.flags & ring::kDescWrite) != 0 ? used.length : 0};
}

bool PackedDriverQueue::interrupts_on() {
  interrupts_ = true;
  set_events(event_idx_ ? packed::kEventsAtDescriptor : packed::kEventsOn, next_used_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return !has_used();
}

void PackedDriverQueue::interrupts_off() {
  interrupts_ = false;
  set_events(packed::kEventsOff);
}

void PackedDriverQueue::interrupt_after(uint16_t chains) {
  assert(event_idx_ && chains > 0);
  Position at = next_used_;
  at.advance(static_cast<uint16_t>(chains - 1), size());
  set_events(packed::kEventsAtDescriptor, at);
}

// --- raw --------------------------------------------------------------------------------------

void PackedDriverQueue::put(uint16_t index, const PackedDescriptor& descriptor) const {
  ring_.write(packed::kDescriptorSize * index,
              packed::DescriptorBody{
                  .address = descriptor.address, .length = descriptor.length, .id = descriptor.id});
  ring_.store_release(at_flags(index), descriptor.flags);
}

void PackedDriverQueue::put_available(uint16_t index, PackedDescriptor descriptor) const {
  descriptor.flags |= packed::kDescAvail;
  put(index, descriptor);
}

PackedDescriptor PackedDriverQueue::descriptor(uint16_t index) const {
  const uint16_t flags = ring_.load_acquire(at_flags(index));
  const auto body = ring_.read<packed::DescriptorBody>(packed::kDescriptorSize * index);
  return {.address = body.address, .length = body.length, .id = body.id, .flags = flags};
}

void PackedDriverQueue::set_events(uint16_t flags, Position at) const {
  driver_.store_release(packed::kEventPosition, at.event());
  driver_.store_release(packed::kEventFlags, flags);
}

void PackedDriverQueue::set_device_events(uint16_t flags) const {
  device_.store_release(packed::kEventPosition, 0);
  device_.store_release(packed::kEventFlags, flags);
}

packed::Position PackedDriverQueue::device_event() const {
  return Position::from_event(device_.load_acquire(packed::kEventPosition));
}

}  // namespace ringlet
