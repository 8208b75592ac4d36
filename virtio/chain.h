// One request: a descriptor chain that a queue handed out.
#pragma once

#include <sys/uio.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace ringlet {

class Queue;

/// A descriptor chain, read from guest memory exactly once, checked, and turned into host
/// buffers: first those the device reads, then those it writes (virtio 1.3, 2.7.4.2, 2.8.17).
///
/// Move-only; it must be given back by Queue::complete() or, on a reset, Queue::abandon(); the
/// destructor asserts that. Lives on the I/O loop.
class Chain {
 public:
  Chain(Chain&& other) noexcept
      : queue_(std::exchange(other.queue_, nullptr)), slot_(other.slot_) {}
  Chain& operator=(Chain&& other) noexcept {
    assert(queue_ == nullptr);
    queue_ = std::exchange(other.queue_, nullptr);
    slot_ = other.slot_;
    return *this;
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() { assert(queue_ == nullptr && "a chain was neither completed nor abandoned"); }

  /// A small number below the queue's size that no other chain in flight has: devices keep
  /// their per-request state in arrays indexed by it.
  uint16_t slot() const { return slot_; }
  /// The queue it came from.
  Queue& queue() const { return *queue_; }

  /// What is left of the part the device reads, and of the part it writes. For I/O only: contents
  /// are looked at through read().
  std::span<iovec> readable() const;
  std::span<iovec> writable() const;
  uint64_t readable_bytes() const;
  uint64_t writable_bytes() const;

  /// Copies to.size() bytes from the front of the readable part and takes them off it. False,
  /// with nothing taken, when it is shorter.
  [[nodiscard]] bool read(std::span<std::byte> to);
  /// Copies to the front of the writable part and takes those bytes off it. Returns how many
  /// fitted.
  size_t write(std::span<const std::byte> from);

  /// Takes the last byte off the writable part: requests of virtio-blk end in a status byte
  /// there (5.2.6). False when there is none.
  [[nodiscard]] bool take_status();
  /// Writes that byte.
  void put_status(uint8_t value);

 private:
  friend class Queue;
  Chain(Queue& queue, uint16_t slot) : queue_(&queue), slot_(slot) {}

  Queue* queue_;  // null once it was given back or moved from
  uint16_t slot_;
};

}  // namespace ringlet
