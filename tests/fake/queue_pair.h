// A split virtqueue with a driver on one side and the device's Queue on the other.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include <catch2/catch.hpp>

#include "tests/fake/split_driver_queue.h"
#include "virtio/queue.h"

namespace ringlet {

struct QueuePair {
  static constexpr AddrRange kMemory{0, 4 << 20};

  explicit QueuePair(uint16_t size, Features features = {}, QueuePosition position = {})
      : driver(heap, size, features) {
    driver.restart(position);
    std::string_view why;
    device = Queue::create(memory, QueueIndex(0), driver.config(), features, position, why);
    REQUIRE(device);
  }

  /// Makes one descriptor, as given, the only chain available, and pops it.
  std::string_view break_with(const ring::Descriptor& descriptor) {
    driver.put_descriptor(0, descriptor);
    driver.put_avail(0, 0);
    driver.set_avail_index(1);
    CHECK_FALSE(device->pop());
    return device->broken();
  }

  /// Adds `chains` of one writable descriptor each; true when a kick is due.
  bool offer(unsigned chains) {
    for (unsigned i = 0; i < chains; ++i) {
      const std::array<Segment, 1> chain{{{buffer, 64, true}}};
      REQUIRE(driver.add(chain));
    }
    return driver.publish();
  }

  /// Takes up to `chains` and completes them; true when the driver wants an interrupt.
  bool serve(unsigned chains) {
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
  SplitDriverQueue driver;
  std::unique_ptr<Queue> device;
};

}  // namespace ringlet
