// Split virtqueue, driver side (virtio 1.3, 2.7). See Virtqueue for what the methods do.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/span.h"
#include "lib/virtqueue_types.h"

namespace guest {

class SplitVirtqueue {
 public:
  // `size` is a power of two.
  SplitVirtqueue(uint16_t size, const QueueOptions& options);

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
  // struct virtq_desc (2.7.5).
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };
  static_assert(sizeof(Descriptor) == 16);
  struct Avail;
  struct Used;

  void fill_chain(Span<const Segment> segments, uint16_t head);
  void fill_table(Span<const Segment> segments, uint16_t head);
  uint16_t load_used_index() const;
  volatile uint16_t& used_event();
  const volatile uint16_t& avail_event() const;

  uint16_t size_;
  QueueOptions options_;
  Span<Descriptor> descriptors_;
  Avail* avail_;
  Used* used_;
  Span<Descriptor> tables_;  // indirect_entries for each head
  uint16_t* chain_lengths_;  // by head: descriptors to free when it is used

  uint16_t free_head_ = 0;
  uint16_t free_count_ = 0;
  uint16_t added_ = 0;      // index of the next avail entry to fill
  uint16_t published_ = 0;  // what the device has been shown
  uint16_t taken_ = 0;      // used entries consumed
};

}  // namespace guest
