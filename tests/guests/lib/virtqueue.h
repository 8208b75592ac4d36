// Virtqueue, driver side, split or packed: descriptors out, used elements back.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/packed_virtqueue.h"
#include "lib/span.h"
#include "lib/split_virtqueue.h"
#include "lib/virtqueue_types.h"

namespace guest {

class Virtqueue {
 public:
  using Options = QueueOptions;

  // `size` is a power of two for a split queue. Memory comes from the heap and is never given
  // back.
  Virtqueue(uint16_t size, const Options& options);

  uint16_t size() const { return size_; }
  uint16_t free_descriptors() const;
  QueueAreas areas() const;
  QueueMemory written_by_device() const;

  // Puts a request into the ring without showing it to the device yet. Readable segments come
  // before writable ones. It takes a descriptor for each segment, or just one that points to a
  // table of its own (2.7.5.3, 2.8.7). Returns its head or buffer ID, or nothing when there is no
  // room.
  std::optional<uint16_t> add(Span<const Segment> segments);

  // Shows the device all that was added. Returns whether it wants to be notified (2.7.10, 2.8.10).
  bool publish();

  // The next request that the device has finished, if any.
  std::optional<UsedElement> take_used();

  // Asks for no interrupts; a hint that the device may ignore.
  void disable_interrupts();
  // Asks for an interrupt once `more` further requests are used. Returns false, asking for none,
  // when so many are used already: take them first.
  bool enable_interrupts(uint16_t more = 1);

  // Forgets every request, as after a reset of the device or of the queue. The format may change.
  void reset(const Options& options);

 private:
  uint16_t size_;
  bool packed_ = false;
  std::optional<SplitVirtqueue> split_ring_;  // each made when it is first needed
  std::optional<PackedVirtqueue> packed_ring_;
};

}  // namespace guest
