// Split virtqueue, driver side (virtio 1.3, 2.7): descriptors out, used elements back.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/span.h"

namespace guest {

// One piece of memory of a request. The device may write to it, or else only reads it.
struct Segment {
  uint64_t address;
  uint32_t length;
  bool writable;
};

struct UsedElement {
  uint16_t head;    // as add() gave it
  uint32_t length;  // bytes the device says it has written
};

class Virtqueue {
 public:
  struct Options {
    bool event_idx = false;         // VIRTIO_F_EVENT_IDX was negotiated
    uint16_t indirect_entries = 0;  // length of each request's own table; 0: use the ring itself
  };

  static constexpr uint16_t kMaxSize = 1024;

  // `size` is a power of two. Memory comes from the heap and is never given back.
  Virtqueue(uint16_t size, Options options);

  uint16_t size() const { return size_; }
  uint16_t free_descriptors() const { return free_count_; }
  uint64_t descriptor_area() const;
  uint64_t driver_area() const;
  uint64_t device_area() const;
  size_t device_area_bytes() const;  // all that the device may write to

  // Puts a request into the ring without showing it to the device yet. Readable segments come
  // before writable ones. It takes a descriptor for each segment, or just one that points to a
  // table of its own (2.7.5.3). Returns its head, or nothing when there is no room.
  std::optional<uint16_t> add(Span<const Segment> segments);

  // Shows the device all that was added. Returns whether it wants to be notified (2.7.10).
  bool publish();

  // The next request that the device has finished, if any.
  std::optional<UsedElement> take_used();

  // Asks for no interrupts; a hint that the device may ignore.
  void disable_interrupts();
  // Asks for an interrupt once `more` further requests are used. Returns false, asking for none,
  // when so many are used already: take them first.
  bool enable_interrupts(uint16_t more = 1);

  // Forgets every request, as after a reset of the device or of the queue.
  void reset(Options options);

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
  Options options_;
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
