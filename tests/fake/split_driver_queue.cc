// The driver's side of a split virtqueue: writes rings as Linux does, or as no driver should.
#include "tests/fake/split_driver_queue.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <vector>

namespace ringlet {

SplitDriverQueue::SplitDriverQueue(GuestHeap& heap, uint16_t size, Features features)
    : heap_(heap), event_idx_(features.has(Feature::EventIdx)) {
  const GuestMemory& memory = heap.memory();
  config_ = {.size = size,
             .enabled = true,
             .descriptors = heap.take(ring::descriptor_table_size(size), 16),
             .driver_area = heap.take(ring::avail_ring_size(size), 2),
             .device_area = heap.take(ring::used_ring_size(size), 4)};
  descriptors_ = memory.view(config_.descriptors, ring::descriptor_table_size(size)).value();
  avail_ = memory.view(config_.driver_area, ring::avail_ring_size(size)).value();
  used_ = memory.view(config_.device_area, ring::used_ring_size(size)).value();
  restart();
}

void SplitDriverQueue::restart(QueuePosition position) {
  for (size_t at = 0; at < avail_.size(); at += 2) avail_.store_release(at, 0);
  for (size_t at = 0; at < used_.size(); at += 2) used_.store_release(at, 0);
  next_avail_ = published_ = position.next_avail;
  next_used_ = position.next_used;
  avail_.store_release(ring::kIndex, next_avail_);
  used_.store_release(ring::kIndex, next_used_);
  if (event_idx_) {
    set_used_event(next_used_);
    used_.store_release(ring::avail_event(size()), next_avail_);
  }
  interrupts_ = true;
  out_ = 0;
  free_.clear();
  for (uint16_t index = size(); index > 0; --index) {
    free_.push_back(static_cast<uint16_t>(index - 1));
  }
  chains_.assign(size(), {});
  indirect_.resize(size());
}

// --- making chains available ------------------------------------------------------------------

uint16_t SplitDriverQueue::take_descriptor() {
  const uint16_t index = free_.back();
  free_.pop_back();
  return index;
}

void SplitDriverQueue::offer(uint16_t head) {
  put_avail(next_avail_++, head);
  ++out_;
}

std::optional<uint16_t> SplitDriverQueue::add(std::span<const Segment> chain) {
  assert(!chain.empty());
  if (chain.size() > free_.size()) return std::nullopt;
  std::vector<uint16_t> taken;
  for (size_t i = 0; i < chain.size(); ++i) taken.push_back(take_descriptor());
  for (size_t i = 0; i < chain.size(); ++i) {
    const bool last = i + 1 == chain.size();
    put_descriptor(taken[i],
                   {.address = chain[i].at.value(),
                    .length = chain[i].length,
                    .flags = static_cast<uint16_t>((last ? 0 : ring::kDescNext) |
                                                   (chain[i].device_writes ? ring::kDescWrite : 0)),
                    .next = last ? uint16_t{0} : taken[i + 1]});
  }
  const uint16_t head = taken.front();
  chains_[head] = std::move(taken);
  offer(head);
  return head;
}

GuestAddr SplitDriverQueue::indirect_table(uint16_t head) {
  auto& table = indirect_[head];
  if (!table) table = heap_.take(ring::descriptor_table_size(size()), 16);
  return *table;
}

std::optional<uint16_t> SplitDriverQueue::add_indirect(std::span<const Segment> chain) {
  assert(!chain.empty() && chain.size() <= size());
  if (free_.empty()) return std::nullopt;
  const uint16_t head = take_descriptor();
  const GuestAddr table = indirect_table(head);
  for (size_t i = 0; i < chain.size(); ++i) {
    const bool last = i + 1 == chain.size();
    const ring::Descriptor entry{
        .address = chain[i].at.value(),
        .length = chain[i].length,
        .flags = static_cast<uint16_t>((last ? 0 : ring::kDescNext) |
                                       (chain[i].device_writes ? ring::kDescWrite : 0)),
        .next = static_cast<uint16_t>(last ? 0 : i + 1)};
    const bool written = heap_.memory().write_value(table.plus(sizeof(entry) * i).value(), entry);
    assert(written);
  }
  put_descriptor(head, {.address = table.value(),
                        .length = static_cast<uint32_t>(sizeof(ring::Descriptor) * chain.size()),
                        .flags = ring::kDescIndirect,
                        .next = 0});
  chains_[head] = {head};
  offer(head);
  return head;
}

bool SplitDriverQueue::publish() {
  const uint16_t before = published_;
  published_ = next_avail_;
  set_avail_index(published_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (before == published_) return false;
  if (event_idx_) return ring::need_event(avail_event(), published_, before);
  return (used_flags() & ring::kUsedNoNotify) == 0;
}

// --- taking them back -------------------------------------------------------------------------

std::optional<UsedEntry> SplitDriverQueue::take_used() {
  if (!has_used()) return std::nullopt;
  const UsedEntry entry = used_element(next_used_++);
  assert(entry.head < size() && !chains_[entry.head].empty() && "a head that was not out");
  for (const uint16_t index : chains_[entry.head]) free_.push_back(index);
  chains_[entry.head].clear();
  --out_;
  if (interrupts_ && event_idx_) set_used_event(next_used_);
  return entry;
}

bool SplitDriverQueue::interrupts_on() {
  interrupts_ = true;
  if (event_idx_) {
    set_used_event(next_used_);
  } else {
    set_avail_flags(0);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return !has_used();
}

void SplitDriverQueue::interrupts_off() {
  interrupts_ = false;
  if (event_idx_) {
    set_used_event(static_cast<uint16_t>(next_used_ - 1));
  } else {
    set_avail_flags(ring::kAvailNoInterrupt);
  }
}

void SplitDriverQueue::interrupt_after(uint16_t chains) {
  assert(event_idx_ && chains > 0);
  set_used_event(static_cast<uint16_t>(next_used_ + chains - 1));
}

// --- raw --------------------------------------------------------------------------------------

void SplitDriverQueue::put_descriptor(uint16_t index, const ring::Descriptor& descriptor) const {
  descriptors_.write(sizeof(descriptor) * index, descriptor);
}

ring::Descriptor SplitDriverQueue::descriptor(uint16_t index) const {
  return descriptors_.read<ring::Descriptor>(sizeof(ring::Descriptor) * index);
}

void SplitDriverQueue::put_avail(uint16_t at, uint16_t head) const {
  avail_.write(ring::kEntries + 2UL * (at % size()), le16(head));
}

void SplitDriverQueue::set_used_event(uint16_t value) const {
  avail_.store_release(ring::used_event(size()), value);
}

uint16_t SplitDriverQueue::avail_event() const {
  return used_.load_acquire(ring::avail_event(size()));
}

UsedEntry SplitDriverQueue::used_element(uint16_t at) const {
  const auto element =
      used_.read<ring::UsedElement>(ring::kEntries + sizeof(ring::UsedElement) * (at % size()));
  const uint32_t head = element.head;
  assert(head <= UINT16_MAX);
  return {.head = static_cast<uint16_t>(head), .length = element.length};
}

}  // namespace ringlet
