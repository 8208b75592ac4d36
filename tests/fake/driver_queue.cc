// The driver's side of a virtqueue, whatever its format: writes rings as Linux does.
#include "tests/fake/driver_queue.h"

#include <cassert>
#include <vector>

#include "tests/fake/packed_driver_queue.h"
#include "tests/fake/split_driver_queue.h"

namespace ringlet {

GuestAddr GuestHeap::take(uint64_t bytes, uint64_t alignment) {
  const uint64_t at = (range_.base + used_ + alignment - 1) / alignment * alignment;
  assert(range_.contains(at, bytes) && "the test's guest memory is used up");
  used_ = at + bytes - range_.base;
  return GuestAddr(at);
}

GuestAddr GuestHeap::take_filled(uint64_t bytes, std::byte fill) {
  const GuestAddr at = take(bytes);
  const bool written = memory_.write(at, std::vector<std::byte>(bytes, fill));
  assert(written);
  return at;
}

std::unique_ptr<DriverQueue> make_driver_queue(GuestHeap& heap, uint16_t size, Features features) {
  if (features.has(Feature::RingPacked)) {
    return std::make_unique<PackedDriverQueue>(heap, size, features);
  }
  return std::make_unique<SplitDriverQueue>(heap, size, features);
}

}  // namespace ringlet
