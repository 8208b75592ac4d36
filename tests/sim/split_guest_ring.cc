// The simulated driver's side of a split virtqueue, in borrowed memory that it keeps watch over.
#include "tests/sim/split_guest_ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstring>

#include "tests/sim/trace.h"

namespace ringlet {
namespace {

ring::Descriptor to_descriptor(const ChainLink& link, bool last, uint16_t next) {
  return {.address = link.at.value(),
          .length = link.length,
          .flags = static_cast<uint16_t>((last ? 0 : ring::kDescNext) |
                                         (link.device_writes ? ring::kDescWrite : 0)),
          .next = last ? uint16_t{0} : next};
}

}  // namespace

SplitGuestRing::SplitGuestRing(GuestArena& arena, uint16_t size, Features features)
    : GuestRing(arena, size, features),
      descriptors_then_(ring::descriptor_table_size(size)),
      avail_then_(ring::avail_ring_size(size)),
      chains_(size) {
  for (uint16_t index = size; index > 0; --index) free_.push_back(static_cast<uint16_t>(index - 1));
}

std::unique_ptr<GuestRing> SplitGuestRing::make(GuestArena& arena, uint16_t size, Features features,
                                                SimRandom& random) {
  const std::array<size_t, 3> lengths{ring::descriptor_table_size(size),
                                      ring::avail_ring_size(size), ring::used_ring_size(size)};
  std::array<GuestBuffer, 3> parts;
  if (!take_all(arena, random, lengths, parts)) return nullptr;
  std::unique_ptr<SplitGuestRing> made(new SplitGuestRing(arena, size, features));
  made->descriptors_ = parts[0];
  made->avail_ = parts[1];
  made->used_ = parts[2];
  return made;
}

QueueConfig SplitGuestRing::config() const {
  return {.size = size_,
          .enabled = true,
          .descriptors = descriptors_.at,
          .driver_area = avail_.at,
          .device_area = used_.at};
}

uint16_t SplitGuestRing::get16(const GuestBuffer& buffer, size_t at) const {
  return GuestView(buffer.bytes).load_acquire(at);
}

void SplitGuestRing::put_avail(size_t at, uint16_t value) {
  GuestView(avail_.bytes).store_release(at, value);
  std::memcpy(avail_then_.data() + at, &value, sizeof value);
}

ring::Descriptor SplitGuestRing::descriptor(uint16_t index) const {
  return GuestView(descriptors_.bytes).read<ring::Descriptor>(sizeof(ring::Descriptor) * index);
}

void SplitGuestRing::put_descriptor(uint16_t index, const ring::Descriptor& descriptor) {
  GuestView(descriptors_.bytes).write(sizeof descriptor * index, descriptor);
  std::memcpy(descriptors_then_.data() + sizeof descriptor * index, &descriptor, sizeof descriptor);
}

// Making chains available -----------------------------------------------------------------------

std::span<const uint16_t> SplitGuestRing::take_descriptors(size_t count) {
  assert(count > 0);
  if (count > free_.size()) return {};
  const uint16_t head = free_.back();
  std::vector<uint16_t>& taken = chains_[head];
  taken.assign(free_.rbegin(), free_.rbegin() + static_cast<ptrdiff_t>(count));
  free_.resize(free_.size() - count);
  return taken;
}

void SplitGuestRing::offer(uint16_t head) {
  put_avail(ring::kEntries + 2UL * (next_avail_ % size_), head);
  ++next_avail_;
  ++out_;
}

std::optional<uint16_t> SplitGuestRing::add(std::span<const ChainLink> chain) {
  const auto taken = take_descriptors(chain.size());
  if (taken.empty()) return std::nullopt;
  for (size_t i = 0; i < chain.size(); ++i) {
    const bool last = i + 1 == chain.size();
    put_descriptor(taken[i], to_descriptor(chain[i], last, last ? uint16_t{0} : taken[i + 1]));
  }
  offer(taken.front());
  return taken.front();
}

std::optional<uint16_t> SplitGuestRing::add_indirect(std::span<const ChainLink> chain,
                                                     SimRandom& random) {
  if (free_.empty() || chain.size() > size_) return std::nullopt;
  const auto buffer =
      arena_.take(ring::descriptor_table_size(static_cast<uint16_t>(chain.size())), 1, random);
  if (!buffer) return std::nullopt;
  for (size_t i = 0; i < chain.size(); ++i) {
    const bool last = i + 1 == chain.size();
    GuestView(buffer->bytes)
        .write(sizeof(ring::Descriptor) * i,
               to_descriptor(chain[i], last, static_cast<uint16_t>(i + 1)));
  }
  const uint16_t head = take_descriptors(1).front();
  put_descriptor(head, {.address = buffer->at.value(),
                        .length = static_cast<uint32_t>(buffer->bytes.size()),
                        .flags = ring::kDescIndirect,
                        .next = 0});
  keep_table(head, *buffer);
  offer(head);
  return head;
}

bool SplitGuestRing::publish() {
  const uint16_t before = std::exchange(published_, next_avail_);
  put_avail(ring::kIndex, published_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (before == published_) return false;
  if (!event_idx_) return (get16(used_, ring::kFlags) & ring::kUsedNoNotify) == 0;
  return ring::need_event(get16(used_, ring::avail_event(size_)), published_, before);
}

// Taking them back ------------------------------------------------------------------------------

uint16_t SplitGuestRing::used_index() {
  return get16(used_, ring::kIndex);
}

GuestRing::Used SplitGuestRing::take_used() {
  const auto element = GuestView(used_.bytes)
                           .read<ring::UsedElement>(ring::kEntries + sizeof(ring::UsedElement) *
                                                                         (next_used_ % size_));
  ++next_used_;
  --out_;
  if (wish_ == Wish::Always && event_idx_) put_avail(ring::used_event(size_), next_used_);
  return {.head = element.head, .length = element.length};
}

void SplitGuestRing::free_chain(uint16_t head) {
  assert(is_out(head));
  free_.insert(free_.end(), chains_[head].begin(), chains_[head].end());
  chains_[head].clear();
  give_back_table(head);
}

void SplitGuestRing::write_wish(uint16_t chains) {
  if (event_idx_) {
    // Of none: as far away as can be.
    put_avail(ring::used_event(size_), static_cast<uint16_t>(next_used_ + chains - 1));
  } else {
    put_avail(ring::kFlags, chains > 0 ? uint16_t{0} : ring::kAvailNoInterrupt);
  }
}

bool SplitGuestRing::interrupts(uint16_t before, uint16_t now) const {
  if (before == now) return false;
  if (!event_idx_) return (get16(avail_, ring::kFlags) & ring::kAvailNoInterrupt) == 0;
  // 2.7.7.2: an entry was written at the index that used_event names.
  const uint16_t event = get16(avail_, ring::used_event(size_));
  for (uint16_t index = before; index != now; ++index) {
    if (index == event) return true;
  }
  return false;
}

bool SplitGuestRing::intact() const {
  return std::ranges::equal(descriptors_then_, descriptors_.bytes) &&
         std::ranges::equal(avail_then_, avail_.bytes);
}

void SplitGuestRing::release() {
  expect(intact(), "the device wrote to the descriptor table or avail ring at {:#x}",
         descriptors_.at.value());
  for (uint16_t head = 0; head < size_; ++head) {
    if (is_out(head)) free_chain(head);
  }
  for (const GuestBuffer& part : {descriptors_, avail_, used_}) arena_.give_back(part);
}

}  // namespace ringlet
