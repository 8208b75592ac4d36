// Packed virtqueue, driver side (virtio 1.3, 2.8). See Virtqueue for what the methods do.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/span.h"
#include "lib/virtqueue_types.h"

namespace guest {

class PackedVirtqueue {
 public:
  PackedVirtqueue(uint16_t size, const QueueOptions& options);

  uint16_t free_descriptors() const { return free_count_; }
  QueueAreas areas() const;
  QueueMemory written_by_device() const;
  std::optional<uint16_t> add(Span<const Segment> segments);
  bool publish();
  std::optional<UsedElement> take_used();
  void disable_interrupts();
  bool enable_interrupts(uint16_t more);
  void reset(const QueueOptions& options);

 private:
  // struct pvirtq_desc (2.8.13).
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t id;
    uint16_t flags;
  };
  static_assert(sizeof(Descriptor) == 16);
  // struct pvirtq_event_suppress (2.8.14).
  struct Events {
    volatile uint16_t position;
    volatile uint16_t flags;
  };
  static_assert(sizeof(Events) == 4);
  // Where in the ring; the wrap counter begins as 1 (2.8.1).
  struct Position {
    uint16_t index = 0;
    bool wrap = true;
    void advance(uint32_t descriptors, uint16_t size);
    uint16_t event() const { return static_cast<uint16_t>(index | (wrap ? 1u << 15 : 0u)); }
  };

  void append(uint64_t address, uint32_t length, uint16_t id, uint16_t flags);
  uint16_t count_used(uint16_t most) const;

  uint16_t size_;
  QueueOptions options_;
  Span<Descriptor> ring_;
  Events* driver_events_;
  Events* device_events_;
  Span<Descriptor> tables_;  // indirect_entries for each ID
  Span<uint16_t> free_ids_;  // the first out_ of them are taken
  Span<uint16_t> lengths_;   // by ID: descriptors to skip when it is used; 0: not out

  Position added_;
  Position published_;
  uint16_t first_flags_ = 0;  // of the descriptor at published_: written last
  uint16_t waiting_ = 0;      // descriptors behind that
  Position taken_;
  uint16_t out_ = 0;
  uint16_t free_count_ = 0;
};

}  // namespace guest
