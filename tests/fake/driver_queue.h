// The driver's side of a split virtqueue: writes rings as Linux does, or as no driver should.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvm/memory.h"
#include "virtio/ids.h"
#include "virtio/queue.h"
#include "virtio/ring.h"

namespace ringlet {

/// Hands out guest memory, upwards and for good. Asserts when a test wants more than there is.
class GuestHeap {
 public:
  GuestHeap(const GuestMemory& memory, AddrRange range) : memory_(memory), range_(range) {}
  const GuestMemory& memory() const { return memory_; }
  GuestAddr take(uint64_t bytes, uint64_t alignment = 16);
  /// `bytes` filled with `fill`.
  GuestAddr take_filled(uint64_t bytes, std::byte fill);
  /// Bytes handed out, from the start of its range.
  uint64_t used() const { return used_; }
  /// Goes on behind that many bytes; what lies before belongs to others, or is given up.
  void go_on_behind(uint64_t used) { used_ = used; }

 private:
  const GuestMemory& memory_;
  AddrRange range_;
  uint64_t used_ = 0;
};

/// One descriptor of a chain.
struct Segment {
  GuestAddr at;
  uint32_t length = 0;
  bool device_writes = false;
};

struct UsedEntry {
  uint16_t head = 0;
  uint32_t length = 0;
  bool operator==(const UsedEntry&) const = default;
};

class DriverQueue {
 public:
  /// Places the rings into guest memory. `features`: INDIRECT_DESC and EVENT_IDX matter.
  DriverQueue(GuestHeap& heap, uint16_t size, Features features);

  const QueueConfig& config() const { return config_; }
  uint16_t size() const { return config_.size; }

  // --- as a driver should -------------------------------------------------------------------

  /// Empties rings and free list, as a driver does before it enables the queue (again). The
  /// indices start at `position`, zero except for tests of wrap-around.
  void restart(QueuePosition position = {});
  /// Writes a chain of descriptors and its ring entry; returns its head, or nothing when too few
  /// descriptors are free. The device sees it only after publish().
  std::optional<uint16_t> add(std::span<const Segment> chain);
  /// The same through an indirect table, which takes one descriptor.
  std::optional<uint16_t> add_indirect(std::span<const Segment> chain);
  /// Moves the avail index over what was added; true when the device wants a kick for it.
  [[nodiscard]] bool publish();
  /// Takes the next used element and frees its descriptors. With interrupts on, asks for one at
  /// the next element.
  std::optional<UsedEntry> take_used();
  bool has_used() const { return used_index() != next_used_; }
  /// Linux's virtqueue_enable_cb: true when nothing came in meanwhile.
  bool interrupts_on();
  void interrupts_off();
  /// With EVENT_IDX: the interrupt shall come once `chains` more are used.
  void interrupt_after(uint16_t chains);
  /// Chains added and not yet taken back.
  uint16_t out() const { return out_; }
  uint16_t free_descriptors() const { return static_cast<uint16_t>(free_.size()); }

  // --- as it should not ---------------------------------------------------------------------

  void put_descriptor(uint16_t index, const ring::Descriptor& descriptor) const;
  ring::Descriptor descriptor(uint16_t index) const;
  /// Writes ring entry `at` (a free-running number).
  void put_avail(uint16_t at, uint16_t head) const;
  void set_avail_index(uint16_t value) const { avail_.store_release(ring::kIndex, value); }
  uint16_t avail_index() const { return avail_.load_acquire(ring::kIndex); }
  void set_used_event(uint16_t value) const;
  void set_avail_flags(uint16_t value) const { avail_.store_release(ring::kFlags, value); }
  void set_used_flags(uint16_t value) const { used_.store_release(ring::kFlags, value); }

  // --- what the device wrote ----------------------------------------------------------------

  uint16_t used_index() const { return used_.load_acquire(ring::kIndex); }
  uint16_t used_flags() const { return used_.load_acquire(ring::kFlags); }
  uint16_t avail_event() const;
  UsedEntry used_element(uint16_t at) const;

 private:
  uint16_t take_descriptor();
  GuestAddr indirect_table(uint16_t head);
  void offer(uint16_t head);

  GuestHeap& heap_;
  const bool event_idx_;
  QueueConfig config_;
  GuestView descriptors_;
  GuestView avail_;
  GuestView used_;

  uint16_t next_avail_ = 0;  // the next ring entry to fill
  uint16_t published_ = 0;   // the avail index that the device sees
  uint16_t next_used_ = 0;   // the next used element to look at
  uint16_t out_ = 0;
  bool interrupts_ = true;
  std::vector<uint16_t> free_;
  std::vector<std::vector<uint16_t>> chains_;       // by head: the descriptors it holds
  std::vector<std::optional<GuestAddr>> indirect_;  // by head: where its table is
};

}  // namespace ringlet
