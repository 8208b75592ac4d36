// The driver's side of a packed virtqueue: writes rings as Linux does, or as no driver should.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tests/fake/driver_queue.h"
#include "virtio/packed_format.h"
#include "virtio/ring.h"

namespace ringlet {

/// A whole descriptor as it lies in the ring.
struct PackedDescriptor {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t id = 0;
  uint16_t flags = 0;
};

class PackedDriverQueue final : public DriverQueue {
 public:
  using Position = packed::Position;

  PackedDriverQueue(GuestHeap& heap, uint16_t size, Features features);

  const QueueConfig& config() const override { return config_; }
  void restart(QueuePosition position = {}) override;
  std::optional<uint16_t> add(std::span<const Segment> chain) override;
  std::optional<uint16_t> add_indirect(std::span<const Segment> chain) override;
  [[nodiscard]] bool publish() override;
  std::optional<UsedEntry> take_used() override;
  bool has_used() const override;
  uint16_t used_index() const override;
  bool interrupts_on() override;
  void interrupts_off() override;
  void interrupt_after(uint16_t chains) override;
  uint16_t out() const override { return out_; }
  uint16_t free_descriptors() const override { return free_; }

  // --- as it should not ---------------------------------------------------------------------

  void put(uint16_t index, const PackedDescriptor& descriptor) const;
  /// Makes it available in the first lap, as the flags of put() do not.
  void put_available(uint16_t index, PackedDescriptor descriptor) const;
  PackedDescriptor descriptor(uint16_t index) const;
  /// The driver's event suppression.
  void set_events(uint16_t flags, Position at = {}) const;
  /// What the device's event suppression holds.
  uint16_t device_event_flags() const { return device_.load_acquire(packed::kEventFlags); }
  Position device_event() const;
  void set_device_events(uint16_t flags) const;

 private:
  struct Buffer {
    uint16_t descriptors = 0;  // 0: its ID is free
    std::optional<GuestAddr> table;
  };
  uint16_t take_id();
  void append(PackedDescriptor descriptor);
  uint16_t flags_at(Position at) const;

  GuestHeap& heap_;
  const bool event_idx_;
  QueueConfig config_;
  GuestView ring_;
  GuestView driver_;
  GuestView device_;

  Position next_avail_;
  Position published_;
  uint16_t head_flags_ = 0;  // of the descriptor at published_, which are written last
  uint16_t waiting_ = 0;     // descriptors behind that
  Position next_used_;
  uint16_t taken_ = 0;
  uint16_t out_ = 0;
  uint16_t free_ = 0;
  bool interrupts_ = true;
  std::vector<uint16_t> ids_;
  std::vector<Buffer> buffers_;  // by ID
};

}  // namespace ringlet
