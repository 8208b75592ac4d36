// The simulated driver's side of a packed virtqueue, in borrowed memory that it keeps watch over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tests/sim/guest_ring.h"
#include "virtio/packed_format.h"

namespace ringlet {

class PackedGuestRing final : public GuestRing {
 public:
  static std::unique_ptr<GuestRing> make(GuestArena& arena, uint16_t size, Features features,
                                         SimRandom& random);

  QueueConfig config() const override;
  PackedGuestRing* as_packed() override { return this; }
  std::optional<uint16_t> add(std::span<const ChainLink> chain) override;
  std::optional<uint16_t> add_indirect(std::span<const ChainLink> chain,
                                       SimRandom& random) override;
  bool has_unpublished() const override { return waiting_ > 0; }
  bool publish() override;
  uint16_t used_index() override;
  Used take_used() override;
  void free_chain(uint16_t id) override;
  bool is_out(uint32_t id) const override { return id < size_ && buffers_[id].descriptors > 0; }
  uint16_t free_descriptors() const override { return ids_.empty() ? uint16_t{0} : free_; }
  bool interrupts(uint16_t before, uint16_t now) const override;
  void release() override;

  // For hostile acts.

  /// A descriptor with any flags but those of availability, which it has unless it is `hidden`.
  struct Raw {
    uint64_t address = 0;
    uint32_t length = 0;
    uint16_t flags = 0;
    bool hidden = false;
  };
  /// Writes a chain as it is given. All of it is out as a chain is; its ID, or nothing when there
  /// is no room. `shown`: the ID that the device gets to see, which may be any.
  std::optional<uint16_t> offer(std::span<const Raw> chain,
                                std::optional<uint16_t> shown = std::nullopt);

 private:
  using Position = packed::Position;
  struct Buffer {
    uint16_t descriptors = 0;  // 0: not out
    bool seen = false;         // it came back
  };

  PackedGuestRing(GuestArena& arena, uint16_t size, Features features);
  void write_wish(uint16_t chains) override;
  std::optional<uint16_t> take_id(size_t descriptors);
  void append(const Raw& raw, uint16_t id);
  uint16_t load(const GuestBuffer& part, size_t at) const;
  void put_flags(Position at, uint16_t flags);
  std::span<const std::byte> then_of(uint16_t index) const;
  std::span<const std::byte> now_of(uint16_t index) const;
  void check_descriptors() const;

  GuestBuffer ring_;
  GuestBuffer driver_events_;
  GuestBuffer device_events_;
  // What the device must not change, except where it may write used descriptors.
  std::vector<std::byte> ring_then_;
  std::vector<std::byte> events_then_;

  Position next_avail_;
  Position published_;
  uint16_t head_flags_ = 0;  // of the descriptor at published_, which are written last
  uint16_t waiting_ = 0;     // descriptors behind that
  Position taken_;           // where the next used descriptor to look at is
  Position seen_;            // and the next to come
  uint16_t seen_count_ = 0;
  std::vector<Position> places_;  // by used index, of those seen of late
  uint16_t free_ = 0;
  std::vector<uint16_t> ids_;
  std::vector<Buffer> buffers_;  // by ID
};

}  // namespace ringlet
