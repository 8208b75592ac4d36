// The driver's side of a split virtqueue: writes rings as Linux does, or as no driver should.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tests/fake/driver_queue.h"
#include "virtio/ring.h"

namespace ringlet {

class SplitDriverQueue final : public DriverQueue {
 public:
  /// Places the rings into guest memory. `features`: INDIRECT_DESC and EVENT_IDX matter.
  SplitDriverQueue(GuestHeap& heap, uint16_t size, Features features);

  const QueueConfig& config() const override { return config_; }
  void restart(QueuePosition position = {}) override;
  std::optional<uint16_t> add(std::span<const Segment> chain) override;
  std::optional<uint16_t> add_indirect(std::span<const Segment> chain) override;
  [[nodiscard]] bool publish() override;
  std::optional<UsedEntry> take_used() override;
  bool has_used() const override { return used_index() != next_used_; }
  uint16_t used_index() const override { return used_.load_acquire(ring::kIndex); }
  bool interrupts_on() override;
  void interrupts_off() override;
  void interrupt_after(uint16_t chains) override;
  uint16_t out() const override { return out_; }
  uint16_t free_descriptors() const override { return static_cast<uint16_t>(free_.size()); }

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
