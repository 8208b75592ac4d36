// The simulated driver's side of a packed virtqueue, in borrowed memory that it keeps watch over.
#include "tests/sim/packed_guest_ring.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstring>
#include <utility>

#include "tests/sim/trace.h"
#include "virtio/ring.h"

namespace ringlet {
namespace {

constexpr size_t at_descriptor(uint16_t index) {
  return packed::kDescriptorSize * index;
}
constexpr size_t at_flags(uint16_t index) {
  return at_descriptor(index) + packed::kDescriptorFlags;
}

}  // namespace

PackedGuestRing::PackedGuestRing(GuestArena& arena, uint16_t size, Features features)
    : GuestRing(arena, size, features),
      ring_then_(packed::descriptor_ring_size(size)),
      places_(size_t{2} * size),
      free_(size),
      buffers_(size) {
  for (uint16_t id = size; id > 0; --id) ids_.push_back(static_cast<uint16_t>(id - 1));
}

std::unique_ptr<GuestRing> PackedGuestRing::make(GuestArena& arena, uint16_t size,
                                                 Features features, SimRandom& random) {
  const std::array<size_t, 3> lengths{packed::descriptor_ring_size(size), packed::kEventSize,
                                      packed::kEventSize};
  std::array<GuestBuffer, 3> parts;
  if (!take_all(arena, random, lengths, parts)) return nullptr;
  std::unique_ptr<PackedGuestRing> made(new PackedGuestRing(arena, size, features));
  made->ring_ = parts[0];
  made->driver_events_ = parts[1];
  made->device_events_ = parts[2];
  made->write_wish(1);
  return made;
}

QueueConfig PackedGuestRing::config() const {
  return {.size = size_,
          .enabled = true,
          .descriptors = ring_.at,
          .driver_area = driver_events_.at,
          .device_area = device_events_.at};
}

uint16_t PackedGuestRing::load(const GuestBuffer& part, size_t at) const {
  return GuestView(part.bytes).load_acquire(at);
}

void PackedGuestRing::put_flags(Position at, uint16_t flags) {
  GuestView(ring_.bytes).store_release(at_flags(at.index), flags);
  std::memcpy(ring_then_.data() + at_flags(at.index), &flags, sizeof flags);
}

// Making chains available -----------------------------------------------------------------------

std::optional<uint16_t> PackedGuestRing::take_id(size_t descriptors) {
  if (ids_.empty() || descriptors > free_) return std::nullopt;
  const uint16_t id = ids_.back();
  ids_.pop_back();
  buffers_[id] = {.descriptors = static_cast<uint16_t>(descriptors)};
  ++out_;
  return id;
}

void PackedGuestRing::append(const Raw& raw, uint16_t id) {
  const uint16_t lap = raw.hidden ? packed::used_flags(!next_avail_.wrap)
                                  : packed::available_flags(next_avail_.wrap);
  const auto flags = static_cast<uint16_t>(raw.flags | lap);
  const packed::DescriptorBody body{.address = raw.address, .length = raw.length, .id = id};
  GuestView(ring_.bytes).write(at_descriptor(next_avail_.index), body);
  std::memcpy(ring_then_.data() + at_descriptor(next_avail_.index), &body, sizeof body);
  // All that is added becomes visible with the first one's flags.
  waiting_ == 0 ? void(head_flags_ = flags) : put_flags(next_avail_, flags);
  next_avail_.advance(1, size_);
  ++waiting_;
  --free_;
}

std::optional<uint16_t> PackedGuestRing::offer(std::span<const Raw> chain,
                                               std::optional<uint16_t> shown) {
  const auto id = take_id(chain.size());
  if (!id) return std::nullopt;
  for (const Raw& raw : chain) append(raw, shown.value_or(*id));
  return id;
}

std::optional<uint16_t> PackedGuestRing::add(std::span<const ChainLink> chain) {
  const auto id = take_id(chain.size());
  if (!id) return std::nullopt;
  for (const ChainLink& link : chain) {
    const bool last = &link == &chain.back();
    append({.address = link.at.value(),
            .length = link.length,
            .flags = static_cast<uint16_t>((last ? 0 : ring::kDescNext) |
                                           (link.device_writes ? ring::kDescWrite : 0))},
           last ? *id : uint16_t{0xffff});  // only the last one's counts
  }
  return id;
}

std::optional<uint16_t> PackedGuestRing::add_indirect(std::span<const ChainLink> chain,
                                                      SimRandom& random) {
  if (ids_.empty() || free_ == 0 || chain.size() > size_) return std::nullopt;
  const auto buffer =
      arena_.take(packed::descriptor_ring_size(static_cast<uint16_t>(chain.size())), 1, random);
  if (!buffer) return std::nullopt;
  for (size_t i = 0; i < chain.size(); ++i) {
    // Neither IDs nor flags but this one mean anything there (2.8.7).
    const auto noise = static_cast<uint16_t>(random.next() & ~uint64_t{ring::kDescWrite});
    GuestView(buffer->bytes)
        .write(packed::kDescriptorSize * i,
               ring::Descriptor{.address = chain[i].at.value(),
                                .length = chain[i].length,
                                .flags = noise,  // an ID
                                .next = static_cast<uint16_t>(
                                    noise | (chain[i].device_writes ? ring::kDescWrite : 0))});
  }
  const uint16_t id = take_id(1).value();
  append({.address = buffer->at.value(),
          .length = static_cast<uint32_t>(buffer->bytes.size()),
          .flags = ring::kDescIndirect},
         id);
  keep_table(id, *buffer);
  return id;
}

bool PackedGuestRing::publish() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (waiting_ == 0) return false;
  put_flags(published_, head_flags_);
  Position at = std::exchange(published_, next_avail_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint16_t count = std::exchange(waiting_, uint16_t{0});
  const uint16_t wanted = load(device_events_, packed::kEventFlags);
  expect(wanted <= (event_idx_ ? packed::kEventsAtDescriptor : packed::kEventsOff),
         "the device's event flags are {:#x}", wanted);
  if (wanted != packed::kEventsAtDescriptor) return wanted == packed::kEventsOn;
  const auto event = Position::from_event(load(device_events_, packed::kEventPosition));
  for (uint16_t i = 0; i < count; ++i, at.advance(1, size_)) {
    if (at == event) return true;
  }
  return false;
}

// Taking them back ------------------------------------------------------------------------------

std::span<const std::byte> PackedGuestRing::now_of(uint16_t index) const {
  return ring_.bytes.subspan(at_descriptor(index), packed::kDescriptorSize);
}
std::span<const std::byte> PackedGuestRing::then_of(uint16_t index) const {
  return std::span(ring_then_).subspan(at_descriptor(index), packed::kDescriptorSize);
}

uint16_t PackedGuestRing::used_index() {
  places_[seen_count_ % places_.size()] = seen_;
  while (packed::is_used(load(ring_, at_flags(seen_.index)), seen_.wrap)) {
    const auto used =
        GuestView(ring_.bytes).read<packed::DescriptorBody>(at_descriptor(seen_.index));
    const uint16_t id = used.id;
    expect(is_out(id) && !buffers_[id].seen, "buffer {:#x} came back, which is not out", id);
    buffers_[id].seen = true;
    // It is the device's no more, which must not change it again (2.8.15).
    std::ranges::copy(
        now_of(seen_.index).subspan(packed::kUsed),
        ring_then_.begin() + static_cast<ptrdiff_t>(at_descriptor(seen_.index) + packed::kUsed));
    seen_.advance(buffers_[id].descriptors, size_);
    places_[++seen_count_ % places_.size()] = seen_;
  }
  return seen_count_;
}

GuestRing::Used PackedGuestRing::take_used() {
  const auto used =
      GuestView(ring_.bytes).read<packed::DescriptorBody>(at_descriptor(taken_.index));
  const uint16_t flags = load(ring_, at_flags(taken_.index));
  const uint16_t id = used.id;
  expect(is_out(id) && buffers_[id].seen, "the descriptor of buffer {:#x} was changed again", id);
  taken_.advance(buffers_[id].descriptors, size_);
  ++next_used_;
  --out_;
  if (wish_ == Wish::Always && event_idx_) write_wish(1);
  return {.head = id, .length = (flags & ring::kDescWrite) != 0 ? uint32_t{used.length} : 0};
}

void PackedGuestRing::free_chain(uint16_t id) {
  assert(is_out(id));
  free_ = static_cast<uint16_t>(free_ + buffers_[id].descriptors);
  buffers_[id].descriptors = 0;
  ids_.push_back(id);
  give_back_table(id);
}

void PackedGuestRing::write_wish(uint16_t chains) {
  Position at = taken_;
  const bool names = event_idx_ && chains > 0;
  // Chains of one descriptor each, or fewer longer ones.
  if (names) at.advance(static_cast<uint16_t>(chains - 1), size_);
  const GuestView events(driver_events_.bytes);
  if (names) events.store_release(packed::kEventPosition, at.event());
  events.store_release(packed::kEventFlags, names        ? packed::kEventsAtDescriptor
                                            : chains > 0 ? packed::kEventsOn
                                                         : packed::kEventsOff);
  events_then_.assign(driver_events_.bytes.begin(), driver_events_.bytes.end());
}

bool PackedGuestRing::interrupts(uint16_t before, uint16_t now) const {
  if (before == now) return false;
  const uint16_t wanted = load(driver_events_, packed::kEventFlags);
  if (wanted != packed::kEventsAtDescriptor) return wanted == packed::kEventsOn;
  // 2.8.10: the descriptor that is named was used, or skipped.
  const auto event = Position::from_event(load(driver_events_, packed::kEventPosition));
  Position at = places_[before % places_.size()];
  const Position end = places_[now % places_.size()];
  do {
    if (at == event) return true;
    at.advance(1, size_);
  } while (at != end);
  return false;
}

// What the device may write is the used part of descriptors that it was given.
void PackedGuestRing::check_descriptors() const {
  Position at = seen_;
  for (uint16_t count = 0; count < size_; ++count, at.advance(1, size_)) {
    const bool given = count < published_.distance(seen_, size_);
    const size_t length = given ? packed::kUsed : packed::kDescriptorSize;
    expect(std::ranges::equal(now_of(at.index).first(length), then_of(at.index).first(length)),
           "the device wrote to descriptor {} of the ring at {:#x}", at.index, ring_.at.value());
  }
}

void PackedGuestRing::release() {
  used_index();
  check_descriptors();
  expect(std::ranges::equal(events_then_, driver_events_.bytes),
         "the device wrote to the driver's event suppression at {:#x}", driver_events_.at.value());
  for (uint16_t id = 0; id < size_; ++id) {
    if (is_out(id)) free_chain(id);
  }
  for (const GuestBuffer& part : {ring_, driver_events_, device_events_}) arena_.give_back(part);
}

}  // namespace ringlet
