// The simulated driver's side of a split virtqueue, in borrowed memory that it keeps watch over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tests/sim/guest_ring.h"
#include "virtio/ring.h"

namespace ringlet {

class SplitGuestRing final : public GuestRing {
 public:
  static std::unique_ptr<GuestRing> make(GuestArena& arena, uint16_t size, Features features,
                                         SimRandom& random);

  QueueConfig config() const override;
  SplitGuestRing* as_split() override { return this; }
  std::optional<uint16_t> add(std::span<const ChainLink> chain) override;
  std::optional<uint16_t> add_indirect(std::span<const ChainLink> chain,
                                       SimRandom& random) override;
  bool has_unpublished() const override { return next_avail_ != published_; }
  bool publish() override;
  uint16_t used_index() override;
  Used take_used() override;
  void free_chain(uint16_t head) override;
  bool is_out(uint32_t head) const override { return head < size_ && !chains_[head].empty(); }
  uint16_t free_descriptors() const override { return static_cast<uint16_t>(free_.size()); }
  bool interrupts(uint16_t before, uint16_t now) const override;
  void release() override;

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
  SplitGuestRing(GuestArena& arena, uint16_t size, Features features);
  void write_wish(uint16_t chains) override;
  void put_avail(size_t at, uint16_t value);
  uint16_t get16(const GuestBuffer& buffer, size_t at) const;
  bool intact() const;

  GuestBuffer descriptors_;
  GuestBuffer avail_;
  GuestBuffer used_;
  // What the device must not change.
  std::vector<std::byte> descriptors_then_;
  std::vector<std::byte> avail_then_;

  uint16_t next_avail_ = 0;
  uint16_t published_ = 0;
  std::vector<uint16_t> free_;
  std::vector<std::vector<uint16_t>> chains_;  // by head: its descriptors
};

}  // namespace ringlet
