// A live virtqueue: what the guest programmed, checked, with the device's side of its rings.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>

#include "kvm/memory.h"
#include "virtio/chain.h"
#include "virtio/chain_slots.h"
#include "virtio/ids.h"
#include "virtio/packed_ring.h"
#include "virtio/queue_config.h"
#include "virtio/split_ring.h"

namespace ringlet {

/// A virtqueue that passed validation, split or packed (virtio 1.3, 2.7 and 2.8) as was
/// negotiated. All of it runs on the I/O loop.
///
/// Ring positions live here, never read back from guest memory. At most `size` chains are in
/// flight: a head or buffer ID that the guest offers a second time while its first chain is still
/// out breaks the queue, as does any malformed chain; broken() then stays true until the reset.
class Queue {
 public:
  /// Why the guest's configuration cannot be (size, alignment, addresses outside RAM), or the
  /// position of a saved state; empty when they can. Any thread.
  static std::string_view check(const GuestMemory& memory, const QueueConfig& config,
                                Features features, QueuePosition position);
  /// Null, with the reason in `why`, when they cannot. `position` is where to carry on after a
  /// restore.
  static std::unique_ptr<Queue> create(const GuestMemory& memory, QueueIndex index,
                                       const QueueConfig& config, Features features,
                                       QueuePosition position, std::string_view& why);
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue();

  QueueIndex index() const { return index_; }
  uint16_t size() const { return size_; }
  /// Chains popped and not yet given back.
  uint16_t in_flight() const { return chains_.in_flight(); }
  /// What the guest did wrong, or empty.
  std::string_view broken() const { return broken_; }

  /// Whether the driver has made a chain available that was not popped: one load, for a polling
  /// loop. False for a broken queue.
  bool has_avail() const noexcept;
  /// The next chain the driver made available; nothing when there is none or the queue is broken.
  std::optional<Chain> pop() noexcept;

  /// Gives a chain back to the driver: `written` bytes of its writable part, from its start, hold
  /// data (2.7.8.2, 2.8.4). It becomes visible with the next publish().
  void complete(Chain chain, uint32_t written) noexcept;
  /// Takes a chain back without telling the driver: the queue is being reset.
  static void abandon(Chain chain) noexcept;

  /// Shows all completed chains to the driver with one store; true when the driver wants an
  /// interrupt for that (2.7.7, 2.8.10).
  [[nodiscard]] bool publish() noexcept;

  /// Asks the driver to skip kicks: the queue is being drained, or polled.
  void suppress_kicks() noexcept;
  /// Asks for a kick at the next chain; true when one came in meanwhile, for which no kick will
  /// come: the caller must drain again (2.7.10, 2.8.10).
  [[nodiscard]] bool allow_kicks() noexcept;

  QueuePosition position() const;

 private:
  friend class Chain;

  Queue(const GuestMemory& memory, QueueIndex index, const QueueConfig& config, Features features,
        QueuePosition position);

  /// Calls `use` with the ring that it has.
  template <typename Use>
  auto with_ring(Use use) noexcept {
    if (auto* const packed = std::get_if<PackedRing>(&ring_)) return use(*packed);
    return use(*std::get_if<SplitRing>(&ring_));
  }
  template <typename Use>
  auto with_ring(Use use) const noexcept {
    if (const auto* const packed = std::get_if<PackedRing>(&ring_)) return use(*packed);
    return use(*std::get_if<SplitRing>(&ring_));
  }
  ChainSlots::Slot give_back(Chain& chain) noexcept;

  const QueueIndex index_;
  const uint16_t size_;
  std::variant<SplitRing, PackedRing> ring_;
  ChainSlots chains_;
  bool kicks_wanted_ = true;  // as when the driver has just set up its rings
  std::string_view broken_;
};

}  // namespace ringlet
