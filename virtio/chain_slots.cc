// The host's copies of the chains in flight on a virtqueue: the same for both ring formats.
#include "virtio/chain_slots.h"

#include <cassert>
#include <limits>

namespace ringlet {

ChainSlots::ChainSlots(const GuestMemory& memory, uint16_t size, bool indirect)
    : memory_(memory),
      indirect_(indirect),
      slots_(size),
      id_is_out_(size),
      parts_(new iovec[size_t{size} * size]) {
  free_.reserve(size);
  for (uint16_t slot = size; slot > 0; --slot) free_.push_back(static_cast<uint16_t>(slot - 1));
}

void ChainSlots::start() noexcept {
  assert(!free_.empty());
  const uint16_t number = free_.back();
  slot_ = &slots_[number];
  *slot_ = Slot{};
  next_part_ = parts(number);
  total_ = 0;
}

std::string_view ChainSlots::add(GuestAddr address, uint32_t length, bool writable) noexcept {
  if (!writable && slot_->writes > 0) {
    return "a device-readable descriptor behind a device-writable one";
  }
  if (length == 0) return {};
  const auto bytes = memory_.slice(address, length);
  if (!bytes) return "a buffer lies outside guest memory";
  total_ += length;
  // 2.7.5.2 allows for one byte more, which used lengths could not tell from none.
  if (total_ > std::numeric_limits<uint32_t>::max()) return "a chain of 2^32 bytes or more";
  *next_part_++ = {.iov_base = bytes->data(), .iov_len = length};
  ++(writable ? slot_->writes : slot_->reads);
  return {};
}

std::string_view ChainSlots::open_table(GuestAddr address, uint32_t length, uint16_t flags,
                                        GuestView& table) const noexcept {
  constexpr uint32_t kEntry = sizeof(ring::Descriptor);
  if (!indirect_) return "an indirect descriptor, which was not negotiated";
  if ((flags & ring::kDescNext) != 0) return "an indirect descriptor with a next one";
  if (length == 0 || length % kEntry != 0 || length / kEntry > slots_.size()) {
    return "an indirect table's length is not that of 1 to queue-size descriptors";
  }
  const auto view = memory_.view(address, length);
  if (!view) return "an indirect table lies outside guest memory";
  table = *view;
  return {};
}

uint16_t ChainSlots::take(uint16_t id, uint16_t entries) noexcept {
  assert(!id_is_out_[id]);
  const uint16_t number = free_.back();
  free_.pop_back();
  slots_[number].id = id;
  slots_[number].entries = entries;
  id_is_out_[id] = true;
  ++in_flight_;
  return number;
}

ChainSlots::Slot ChainSlots::give_back(uint16_t number) noexcept {
  const Slot& slot = slots_[number];
  const iovec* const writable = parts(number) + slot.reads;
  // Also without a used entry for it: I/O that failed half-way, or was cancelled, may have written.
  for (uint16_t i = slot.first_write; i < slot.writes; ++i) {
    memory_.mark_dirty({static_cast<const std::byte*>(writable[i].iov_base), writable[i].iov_len});
  }
  free_.push_back(number);  // within the capacity reserved: never allocates
  id_is_out_[slot.id] = false;
  --in_flight_;
  return slot;
}

}  // namespace ringlet
