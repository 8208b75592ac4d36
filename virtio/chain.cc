// One request: a descriptor chain that a queue handed out.
#include "virtio/chain.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>

#include "virtio/queue.h"

namespace ringlet {
namespace {

uint64_t total(std::span<const iovec> parts) {
  uint64_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  return bytes;
}

/// Takes `bytes` off the front of `part`.
void advance(iovec& part, size_t bytes) {
  part.iov_base = static_cast<std::byte*>(part.iov_base) + bytes;
  part.iov_len -= bytes;
}

}  // namespace

std::span<iovec> Chain::readable() const {
  const ChainSlots::Slot& slot = queue_->chains_[slot_];
  return std::span(queue_->chains_.parts(slot_), slot.reads).subspan(slot.first_read);
}

std::span<iovec> Chain::writable() const {
  const ChainSlots::Slot& slot = queue_->chains_[slot_];
  return std::span(queue_->chains_.parts(slot_) + slot.reads, slot.writes)
      .subspan(slot.first_write);
}

uint64_t Chain::readable_bytes() const {
  return total(readable());
}
uint64_t Chain::writable_bytes() const {
  return total(writable());
}

bool Chain::read(std::span<std::byte> to) {
  const std::span<iovec> parts = readable();
  if (total(parts) < to.size()) return false;
  ChainSlots::Slot& slot = queue_->chains_[slot_];
  for (iovec& part : parts) {
    const size_t bytes = std::min(part.iov_len, to.size());
    std::memcpy(to.data(), part.iov_base, bytes);
    advance(part, bytes);
    to = to.subspan(bytes);
    if (part.iov_len > 0) break;
    ++slot.first_read;
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return true;
}

size_t Chain::write(std::span<const std::byte> from) {
  ChainSlots::Slot& slot = queue_->chains_[slot_];
  size_t written = 0;
  for (iovec& part : writable()) {
    const size_t bytes = std::min(part.iov_len, from.size() - written);
    std::memcpy(part.iov_base, from.data() + written, bytes);
    queue_->chains_.memory().mark_dirty({static_cast<const std::byte*>(part.iov_base), bytes});
    advance(part, bytes);
    written += bytes;
    if (part.iov_len > 0) break;
    ++slot.first_write;
  }
  return written;
}

bool Chain::take_status() {
  const auto parts = writable();
  if (parts.empty()) return false;
  ChainSlots::Slot& slot = queue_->chains_[slot_];
  iovec& last = parts.back();
  slot.status = static_cast<std::byte*>(last.iov_base) + --last.iov_len;
  if (last.iov_len == 0) --slot.writes;
  return true;
}

void Chain::put_status(uint8_t value) {
  std::byte* const status = queue_->chains_[slot_].status;
  assert(status != nullptr);
  *status = std::byte{value};
  queue_->chains_.memory().mark_dirty({status, 1});
}

}  // namespace ringlet
