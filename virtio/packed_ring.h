// The device's side of a packed virtqueue's ring (virtio 1.3, 2.8).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kvm/memory.h"
#include "virtio/chain_slots.h"
#include "virtio/ids.h"
#include "virtio/packed_format.h"
#include "virtio/queue_config.h"

namespace ringlet {

/// Has the methods of SplitRing. All on the I/O loop.
///
/// Used descriptors are written over available ones that have been read before, and never reach
/// beyond those: both positions are ours, and a chain is no longer than what is left of the lap.
class PackedRing {
 public:
  static std::string_view check(const GuestMemory& memory, const QueueConfig& config,
                                QueuePosition position);
  /// `config` and `position` have passed check().
  PackedRing(const GuestMemory& memory, const QueueConfig& config, Features features,
             QueuePosition position);

  bool has_avail() const noexcept;
  std::optional<uint16_t> take(ChainSlots& chains, std::string_view& broken) noexcept;
  void use(const ChainSlots::Slot& slot, uint32_t written) noexcept;
  bool publish() noexcept;
  void suppress_kicks() noexcept;
  void allow_kicks() noexcept;
  QueuePosition position() const;

 private:
  using Position = packed::Position;

  std::string_view walk(uint16_t flags, ChainSlots& chains, Position& at,
                        uint16_t& id) const noexcept;
  static std::string_view walk_table(const packed::DescriptorBody& descriptor, uint16_t flags,
                                     ChainSlots& chains) noexcept;
  uint16_t free_descriptors() const;
  void set_events(uint16_t flags) noexcept;

  const GuestMemory& memory_;
  const uint16_t size_;
  const bool event_idx_;
  const GuestView ring_;
  const GuestView driver_events_;
  const GuestView device_events_;

  Position next_avail_;
  Position next_used_;
  // What was used since the last publish(), which writes the first one's flags.
  Position batch_;
  uint16_t batch_flags_ = 0;
  uint16_t batch_length_ = 0;  // in descriptors
};

}  // namespace ringlet
