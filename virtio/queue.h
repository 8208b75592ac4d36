// A live virtqueue: what the guest programmed, checked, with the device's side of its rings.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "kvm/memory.h"
#include "virtio/chain.h"
#include "virtio/ids.h"
#include "virtio/ring.h"

namespace ringlet {

/// What the guest programs through the transport. Nothing in it has been checked.
struct QueueConfig {
  uint16_t size = 0;
  bool enabled = false;
  GuestAddr descriptors;
  GuestAddr driver_area;
  GuestAddr device_area;
};

/// Where the device stands in its rings, for save and restore.
struct QueuePosition {
  uint16_t next_avail = 0;
  uint16_t next_used = 0;
};

/// A split virtqueue (virtio 1.3, 2.7) that passed validation. All of it runs on the I/O loop.
///
/// Ring positions live here, never read back from guest memory. At most `size` chains are in
/// flight: a head that the guest offers a second time while its first chain is still out breaks
/// the queue, as does any malformed chain; broken() then stays true until the reset.
class Queue {
 public:
  /// Why the guest's configuration cannot be (size, alignment, addresses outside RAM); empty when
  /// it can. Any thread.
  static std::string_view check(const GuestMemory& memory, const QueueConfig& config);
  /// Null, with the reason in `why`, when it cannot. `position` is where to carry on after a
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
  uint16_t in_flight() const { return in_flight_; }
  /// What the guest did wrong, or empty.
  std::string_view broken() const { return broken_; }

  /// The next chain the driver made available; nothing when there is none or the queue is broken.
  std::optional<Chain> pop() noexcept;

  /// Gives a chain back to the driver: `written` bytes of its writable part, from its start, hold
  /// data (2.7.8.2). It becomes visible with the next publish().
  void complete(Chain chain, uint32_t written) noexcept;
  /// Takes a chain back without telling the driver: the queue is being reset.
  static void abandon(Chain chain) noexcept;

  /// Shows all completed chains to the driver with one store of the used index; true when the
  /// driver wants an interrupt for that (2.7.7).
  [[nodiscard]] bool publish() noexcept;

  /// Whether the driver has made chains available that were not popped yet: one load.
  bool has_avail() const noexcept;
  /// Asks the driver to skip kicks: the queue is being drained, or polled.
  void suppress_kicks() noexcept;
  /// Asks for a kick at the next chain; true when one came in meanwhile, for which no kick will
  /// come: the caller must drain again (2.7.7.2, 2.7.10).
  [[nodiscard]] bool allow_kicks() noexcept;

  QueuePosition position() const { return {.next_avail = next_avail_, .next_used = next_used_}; }

 private:
  friend class Chain;

  /// The host's copy of a chain. Its iovecs are parts()[0 .. reads) and [reads, reads + writes).
  struct Slot {
    uint16_t head = 0;
    uint16_t first_read = 0;  // what read() has taken off
    uint16_t reads = 0;
    uint16_t first_write = 0;
    uint16_t writes = 0;
    std::byte* status = nullptr;
  };
  /// Where descriptors come from while a chain is walked: the ring's table, or an indirect one.
  struct Table {
    GuestView view;
    uint16_t length;
    bool indirect;
  };

  Queue(const GuestMemory& memory, QueueIndex index, const QueueConfig& config, Features features,
        QueuePosition position);

  bool walk(uint16_t head, Slot& slot) noexcept;
  bool enter_indirect(const ring::Descriptor& descriptor, Table& table) noexcept;
  bool add_part(const ring::Descriptor& descriptor, Slot& slot, uint64_t& total) noexcept;
  std::nullopt_t fail(std::string_view why) noexcept;
  uint16_t give_back(Chain& chain) noexcept;
  iovec* parts(uint16_t slot) const { return &parts_[size_t{slot} * size_]; }

  const GuestMemory& memory_;
  const QueueIndex index_;
  const uint16_t size_;
  const bool event_idx_;
  const bool indirect_;
  GuestView descriptors_;
  GuestView avail_;
  GuestView used_;

  uint16_t next_avail_;
  uint16_t next_used_;
  uint16_t published_;  // next_used_ at the last publish()
  uint16_t in_flight_ = 0;
  bool kicks_wanted_ = true;
  std::string_view broken_;

  // Slots are reused last-in first-out, so that a shallow queue stays in few cache lines. The
  // iovecs (size of them for each slot, the longest chain there may be) are left untouched, and
  // so take no memory, until a chain of that slot needs them.
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_slots_;
  std::vector<bool> head_in_flight_;
  std::unique_ptr<iovec[]> parts_;
};

}  // namespace ringlet
