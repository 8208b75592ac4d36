// The simulated driver's side of a split virtqueue, in borrowed memory that it keeps watch over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tests/sim/guest_arena.h"
#include "virtio/queue.h"
#include "virtio/ring.h"

namespace ringlet {

/// One descriptor of a chain to be.
struct ChainLink {
  GuestAddr at;
  uint32_t length = 0;
  bool device_writes = false;
};

class GuestRing {
 public:
  enum class Wish : uint8_t { Always, Never, Later };
  struct Used {
    uint32_t head;
    uint32_t length;
  };

  /// Null when memory is used up. `features`: EVENT_IDX and INDIRECT_DESC matter.
  static std::unique_ptr<GuestRing> make(GuestArena& arena, uint16_t size, Features features,
                                         SimRandom& random);
  /// The memory must go back through release().
  ~GuestRing() = default;

  uint16_t size() const { return size_; }
  QueueConfig config() const;

  /// Writes a chain and its ring entry; its head, or nothing when too few descriptors are free.
  /// The device sees it after publish().
  std::optional<uint16_t> add(std::span<const ChainLink> chain);
  /// The same with a table of its own; nothing when no descriptor or no memory is left.
  std::optional<uint16_t> add_indirect(std::span<const ChainLink> chain, SimRandom& random);
  bool has_unpublished() const { return next_avail_ != published_; }
  /// Shows what was added to the device; true when it wants a kick.
  bool publish();

  /// Elements that the device has given back and nobody has looked at.
  uint16_t used_waiting() const { return static_cast<uint16_t>(used_index() - next_used_); }
  Used take_used();
  /// Its descriptors may be used again. Checks that the device left its table alone.
  void free_chain(uint16_t head);
  bool is_out(uint32_t head) const { return head < size_ && !chains_[head].empty(); }
  uint16_t free_descriptors() const { return static_cast<uint16_t>(free_.size()); }
  /// Heads made available and not yet taken back, or about to be made available.
  uint16_t out() const { return out_; }
  /// No entry is free: only after a hostile act can that be while descriptors are.
  bool is_full() const { return out_ >= size_; }
  uint16_t used_index() const;

  /// True when nothing came in before the device could know of the wish.
  bool wish_always();
  void wish_never();
  /// With EVENT_IDX: an interrupt once `chains` more have come back.
  void wish_later(uint16_t chains);
  Wish wish() const { return wish_; }
  /// Whether a step of the used index from `before` to `now` obliges the device to interrupt, and
  /// nothing else permits it to (2.7.7.2).
  bool interrupts(uint16_t before, uint16_t now) const;

  /// Checks that the device wrote to its own part only, and gives all memory back.
  void release();

  // For hostile acts.
  ring::Descriptor descriptor(uint16_t index) const;
  void put_descriptor(uint16_t index, const ring::Descriptor& descriptor);
  /// Takes free descriptors for a chain that the caller writes, head first; empty when there are
  /// too few. They are out as a chain is.
  std::span<const uint16_t> take_descriptors(size_t count);
  /// Enters any number as a head.
  void offer(uint16_t head);
  void jump(uint16_t distance) { next_avail_ = static_cast<uint16_t>(next_avail_ + distance); }

 private:
  GuestRing(GuestArena& arena, uint16_t size, Features features);
  void put_avail(size_t at, uint16_t value);
  uint16_t get16(const GuestBuffer& buffer, size_t at) const;
  bool intact() const;

  GuestArena& arena_;
  const uint16_t size_;
  const bool event_idx_;
  GuestBuffer descriptors_;
  GuestBuffer avail_;
  GuestBuffer used_;
  // What the device must not change.
  std::vector<std::byte> descriptors_then_;
  std::vector<std::byte> avail_then_;

  uint16_t next_avail_ = 0;
  uint16_t published_ = 0;
  uint16_t next_used_ = 0;
  uint16_t out_ = 0;
  Wish wish_ = Wish::Always;
  std::vector<uint16_t> free_;
  std::vector<std::vector<uint16_t>> chains_;  // by head: its descriptors
  struct Table {
    GuestBuffer buffer;
    std::vector<std::byte> then;
  };
  std::vector<std::optional<Table>> tables_;  // by head
};

}  // namespace ringlet
