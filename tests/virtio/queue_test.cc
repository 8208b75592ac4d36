// Tests of the split virtqueue: what it accepts, what breaks it, and its notifications.
#include "virtio/queue.h"

#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/driver_queue.h"

namespace ringlet {
namespace {

constexpr AddrRange kMemory{0, 4 << 20};
constexpr GuestAddr kOutside{0x1000'0000};

/// A queue of either side, with rings in fresh guest memory.
struct Pair {
  explicit Pair(uint16_t size, Features features = {}, QueuePosition position = {})
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

  void drain() {
    while (auto chain = device->pop()) Queue::abandon(std::move(*chain));
  }

  GuestMemory memory{std::span(&kMemory, 1), MemoryBacking{}};
  GuestHeap heap{memory, kMemory};
  GuestAddr buffer = heap.take(4096);
  DriverQueue driver;
  std::unique_ptr<Queue> device;
};

std::string_view refusal(const QueueConfig& config) {
  const GuestMemory memory{std::span(&kMemory, 1), MemoryBacking{}};
  std::string_view why;
  CHECK_FALSE(Queue::create(memory, QueueIndex(0), config, {}, {}, why));
  return why;
}

constexpr QueueConfig kGoodConfig{.size = 16,
                                  .enabled = true,
                                  .descriptors = GuestAddr(0x1000),
                                  .driver_area = GuestAddr(0x2000),
                                  .device_area = GuestAddr(0x3000)};

// Configuration -------------------------------------------------------------------------------

TEST_CASE("a queue size that is zero, no power of two or above 1024 is refused") {
  QueueConfig config = kGoodConfig;
  config.size = GENERATE(as<uint16_t>{}, 0, 3, 24, 1023, 2048, 65535);
  CHECK(refusal(config) == "the queue size is not a power of two of at most 1024");
}

TEST_CASE("rings that are not aligned are refused") {
  QueueConfig config = kGoodConfig;
  config.descriptors = GuestAddr(0x1008);
  CHECK(refusal(config) == "a ring is not aligned");
  config = kGoodConfig;
  config.driver_area = GuestAddr(0x2001);
  CHECK(refusal(config) == "a ring is not aligned");
  config = kGoodConfig;
  config.device_area = GuestAddr(0x3002);
  CHECK(refusal(config) == "a ring is not aligned");
}

TEST_CASE("rings that reach outside of guest memory are refused") {
  // Of 16 descriptors: 256 bytes, 38 bytes, 134 bytes. The memory ends at 0x400000.
  QueueConfig config = kGoodConfig;
  config.descriptors = GuestAddr(0x3fff10);
  CHECK(refusal(config) == "a ring lies outside guest memory");
  config = kGoodConfig;
  config.driver_area = GuestAddr(0x3fffdc);
  CHECK(refusal(config) == "a ring lies outside guest memory");
  config = kGoodConfig;
  config.device_area = GuestAddr(0x3fff7c);
  CHECK(refusal(config) == "a ring lies outside guest memory");
  config = kGoodConfig;
  config.device_area = GuestAddr(0xffff'ffff'ffff'fff0);
  CHECK(refusal(config) == "a ring lies outside guest memory");
}

TEST_CASE("rings that end where guest memory ends are accepted") {
  const GuestMemory memory{std::span(&kMemory, 1), MemoryBacking{}};
  std::string_view why;
  QueueConfig config = kGoodConfig;
  config.descriptors = GuestAddr(0x3fff00);
  CHECK(Queue::create(memory, QueueIndex(0), config, {}, {}, why));
  config = kGoodConfig;
  config.driver_area = GuestAddr(0x3fffda);
  CHECK(Queue::create(memory, QueueIndex(0), config, {}, {}, why));
  config = kGoodConfig;
  config.device_area = GuestAddr(0x3fff78);
  CHECK(Queue::create(memory, QueueIndex(0), config, {}, {}, why));
}

// Chains --------------------------------------------------------------------------------------

TEST_CASE("an empty ring has nothing to pop, and that breaks nothing") {
  Pair pair(16);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken().empty());
}

TEST_CASE("a chain comes out with its readable and writable parts in order") {
  Pair pair(16);
  const std::array<Segment, 4> chain{{{pair.buffer, 16, false},
                                      {pair.buffer.plus(16).value(), 100, false},
                                      {pair.buffer.plus(512).value(), 1, true},
                                      {pair.buffer.plus(1024).value(), 2048, true}}};
  pair.driver.add(chain);
  CHECK(pair.driver.publish());
  auto popped = pair.device->pop();
  REQUIRE(popped);
  CHECK(popped->readable().size() == 2);
  CHECK(popped->readable_bytes() == 116);
  CHECK(popped->writable().size() == 2);
  CHECK(popped->writable_bytes() == 2049);
  std::byte* const base = pair.memory.slice(pair.buffer, 1).value().data();
  CHECK(popped->readable()[0].iov_base == base);
  CHECK(popped->writable()[1].iov_base == base + 1024);
  CHECK(pair.device->in_flight() == 1);
  Queue::abandon(std::move(*popped));
  CHECK(pair.device->in_flight() == 0);
}

TEST_CASE("a chain as long as its queue is accepted, directly and through an indirect table") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 16, 256, 1024);
  Pair pair(size, Feature::IndirectDesc);
  const std::vector<Segment> chain(size, Segment{pair.buffer, 8, true});
  pair.driver.add(chain);
  (void)pair.driver.publish();
  auto direct = pair.device->pop();
  REQUIRE(direct);
  CHECK(direct->writable().size() == size);
  pair.device->complete(std::move(*direct), 8);
  CHECK(pair.device->publish());
  CHECK(pair.driver.take_used()->length == 8);
  pair.driver.add_indirect(chain);
  (void)pair.driver.publish();
  auto indirect = pair.device->pop();
  REQUIRE(indirect);
  CHECK(indirect->writable().size() == size);
  Queue::abandon(std::move(*indirect));
}

}  // namespace
}  // namespace ringlet
