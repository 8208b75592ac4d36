// The device's side of a split virtqueue's rings (virtio 1.3, 2.7).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kvm/memory.h"
#include "virtio/chain_slots.h"
#include "virtio/ids.h"
#include "virtio/queue_config.h"

namespace ringlet {

/// Both ring formats have the same methods, for Queue: see there. All on the I/O loop.
class SplitRing {
 public:
  static std::string_view check(const GuestMemory& memory, const QueueConfig& config);
  /// `config` has passed check().
  SplitRing(const GuestMemory& memory, const QueueConfig& config, Features features,
            QueuePosition position);

  bool has_avail() const noexcept;
  /// Reads the next chain and returns its slot; nothing when there is none or, with the reason in
  /// `broken`, when it is malformed.
  std::optional<uint16_t> take(ChainSlots& chains, std::string_view& broken) noexcept;
  /// Notes a chain as used; publish() shows it.
  void use(const ChainSlots::Slot& slot, uint32_t written) noexcept;
  bool publish() noexcept;
  void suppress_kicks() noexcept;
  void allow_kicks() noexcept;
  QueuePosition position() const { return {.next_avail = next_avail_, .next_used = next_used_}; }

 private:
  std::string_view walk(uint16_t head, ChainSlots& chains) noexcept;
  void store_used(size_t offset, uint16_t value) noexcept;

  const GuestMemory& memory_;
  const uint16_t size_;
  const bool event_idx_;
  const GuestView descriptors_;
  const GuestView avail_;
  const GuestView used_;

  uint16_t next_avail_;
  uint16_t next_used_;
  uint16_t published_;  // next_used_ at the last publish()
};

}  // namespace ringlet
