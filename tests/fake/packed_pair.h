// A packed virtqueue with a driver on one side and the device's Queue on the other.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include <catch2/catch.hpp>

#include "tests/fake/packed_driver_queue.h"
#include "virtio/queue.h"

namespace ringlet {

struct PackedPair {
  static constexpr AddrRange kMemory{0, 4 << 20};

  explicit PackedPair(uint16_t size, Features more = {}, QueuePosition position = {})
      : features(more | Feature::RingPacked), driver(heap, size, features) {
    driver.restart(position);
    device = make_device(position);
    REQUIRE(device);
  }

  std::unique_ptr<Queue> make_device(QueuePosition position) const {
    std::string_view why;
    return Queue::create(memory, QueueIndex(0), driver.config(), features, position, why);
  }

  /// Pops a chain that must be malformed.
  std::string_view broken() const {
    CHECK_FALSE(device->pop());
    CHECK_FALSE(device->has_avail());
    return device->broken();
  }
  /// Makes one descriptor, as given, the only one available, and pops it.
  std::string_view break_with(const PackedDescriptor& descriptor) const {
    driver.put_available(0, descriptor);
    return broken();
  }

  /// Adds `chains` of one writable descriptor each; true when a kick is due.
  bool offer(unsigned chains) {
    for (unsigned i = 0; i < chains; ++i) {
      const std::array<Segment, 1> chain{{{buffer, 64, true}}};
      REQUIRE(driver.add(chain));
    }
    return driver.publish();
  }
  /// One chain of `descriptors`, all of them readable; its ID.
  uint16_t offer_long(uint16_t descriptors) {
    const uint16_t id = driver.add(std::vector<Segment>(descriptors, {buffer, 8, false})).value();
    (void)driver.publish();
    return id;
  }

  /// Takes `chains` and completes them; true when the driver wants an interrupt.
  bool serve(unsigned chains) const {
    for (unsigned i = 0; i < chains; ++i) {
      auto chain = device->pop();
      REQUIRE(chain);
      device->complete(std::move(*chain), 0);
    }
    return device->publish();
  }

  GuestMemory memory{std::span(&kMemory, 1), MemoryBacking{}};
  GuestHeap heap{memory, kMemory};
  GuestAddr buffer = heap.take(4096);
  const Features features;
  PackedDriverQueue driver;
  std::unique_ptr<Queue> device;
};

}  // namespace ringlet
