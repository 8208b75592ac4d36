// The simulated driver's side of a virtqueue, in borrowed memory that it keeps watch over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tests/sim/guest_arena.h"
#include "virtio/ids.h"
#include "virtio/queue_config.h"

namespace ringlet {

class PackedGuestRing;
class SplitGuestRing;

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
    uint32_t head;  // or buffer ID
    uint32_t length;
  };

  /// Split or packed, as `features` say; of the others EVENT_IDX matters. Null when memory is used
  /// up.
  static std::unique_ptr<GuestRing> make(GuestArena& arena, uint16_t size, Features features,
                                         SimRandom& random);
  GuestRing(const GuestRing&) = delete;
  GuestRing& operator=(const GuestRing&) = delete;
  /// The memory must go back through release().
  virtual ~GuestRing() = default;

  uint16_t size() const { return size_; }
  virtual QueueConfig config() const = 0;
  /// Itself, for hostile acts; null when it has the other format.
  virtual SplitGuestRing* as_split() { return nullptr; }
  virtual PackedGuestRing* as_packed() { return nullptr; }

  /// Writes a chain; its head, or nothing when too few descriptors are free. The device sees it
  /// after publish().
  virtual std::optional<uint16_t> add(std::span<const ChainLink> chain) = 0;
  /// The same with a table of its own; nothing when no descriptor or no memory is left.
  virtual std::optional<uint16_t> add_indirect(std::span<const ChainLink> chain,
                                               SimRandom& random) = 0;
  virtual bool has_unpublished() const = 0;
  /// Shows what was added to the device; true when it wants a kick.
  virtual bool publish() = 0;

  /// How many chains came back so far, of which taken() have been looked at.
  virtual uint16_t used_index() = 0;
  uint16_t used_waiting() { return static_cast<uint16_t>(used_index() - next_used_); }
  virtual Used take_used() = 0;
  /// Its descriptors may be used again. Checks that the device left its table alone.
  virtual void free_chain(uint16_t head) = 0;
  virtual bool is_out(uint32_t head) const = 0;
  virtual uint16_t free_descriptors() const = 0;
  /// Heads made available and not yet taken back, or about to be made available.
  uint16_t out() const { return out_; }
  /// No entry is free: only after a hostile act can that be while descriptors are.
  bool is_full() const { return out_ >= size_; }

  /// True when nothing came in before the device could know of the wish.
  bool wish_always();
  void wish_never();
  /// With EVENT_IDX: an interrupt once `chains` more have come back.
  void wish_later(uint16_t chains);
  Wish wish() const { return wish_; }
  /// Whether a step of used_index() from `before` to `now` obliges the device to interrupt, and
  /// nothing else permits it to (2.7.7.2, 2.8.10).
  virtual bool interrupts(uint16_t before, uint16_t now) const = 0;

  /// Checks that the device wrote to its own part only, and gives all memory back.
  virtual void release() = 0;

 protected:
  GuestRing(GuestArena& arena, uint16_t size, Features features);

  virtual void write_wish(uint16_t chains) = 0;  // of Wish::Later
  /// An indirect table, filled by `fill`, which is head's until give_back_table().
  struct Table {
    GuestBuffer buffer;
    std::vector<std::byte> then;
  };
  void keep_table(uint16_t head, const GuestBuffer& buffer);
  void give_back_table(uint16_t head);
  static bool take_all(GuestArena& arena, SimRandom& random, std::span<const size_t> lengths,
                       std::span<GuestBuffer> parts);

  GuestArena& arena_;
  const uint16_t size_;
  const bool event_idx_;
  uint16_t next_used_ = 0;  // the next to look at
  uint16_t out_ = 0;
  Wish wish_ = Wish::Always;

 private:
  std::vector<std::optional<Table>> tables_;  // by head
};

}  // namespace ringlet
