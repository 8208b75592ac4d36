// Tests of what breaks a packed virtqueue: each fault of the guest has its reason, and ends it.
#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/packed_pair.h"

namespace ringlet {
namespace {

constexpr uint64_t kEnd = 4 << 20;  // of guest memory
constexpr uint16_t kNext = ring::kDescNext;
constexpr uint16_t kWrite = ring::kDescWrite;
constexpr uint16_t kIndirect = ring::kDescIndirect;

TEST_CASE("a packed buffer outside of guest memory breaks the queue") {
  const auto [address, length] = GENERATE(table<uint64_t, uint32_t>(
      {{kEnd, 1}, {kEnd - 512, 513}, {UINT64_MAX - 10, UINT32_MAX}, {16, UINT32_MAX}}));
  PackedPair pair(8);
  CHECK(pair.break_with({.address = address, .length = length, .flags = kWrite}) ==
        "a buffer lies outside guest memory");
}

TEST_CASE("a packed chain that never ends breaks the queue, with bytes in it or without") {
  const auto length = GENERATE(as<uint32_t>{}, 0, 1);
  const auto size = GENERATE(as<uint16_t>{}, 1, 4, 24);
  PackedPair pair(size);
  for (uint16_t i = 0; i < size; ++i) {
    pair.driver.put_available(i,
                              {.address = pair.buffer.value(), .length = length, .flags = kNext});
  }
  CHECK(pair.broken() == "a chain is longer than the queue, or than what is free of it");
}

TEST_CASE("a packed chain that goes on where nothing is available breaks the queue") {
  const auto flags = GENERATE(as<uint16_t>{}, 0, 0x8000, 0x8080);
  PackedPair pair(8);
  pair.driver.put(1, {.address = pair.buffer.value(), .length = 1, .flags = flags});
  CHECK(pair.break_with({.address = pair.buffer.value(), .length = 1, .flags = kNext}) ==
        "a chain goes on with a descriptor that is not available");
}

TEST_CASE("past the end of the ring a chain goes on with the other lap's flags") {
  PackedPair pair(3);
  (void)pair.offer(2);
  CHECK(pair.serve(2));
  pair.driver.put_available(0, {.address = pair.buffer.value(), .length = 1});
  pair.driver.put_available(2, {.address = pair.buffer.value(), .length = 1, .flags = kNext});
  CHECK(pair.broken() == "a chain goes on with a descriptor that is not available");
}

TEST_CASE("a packed chain over descriptors that the device still has breaks the queue") {
  PackedPair pair(4);
  (void)pair.offer(2);
  auto first = pair.device->pop();
  auto second = pair.device->pop();
  REQUIRE(second);
  // Two are free; the third of this chain would be the first of the other lap.
  pair.driver.put_available(2, {.address = pair.buffer.value(), .length = 1, .flags = kNext});
  pair.driver.put_available(3, {.address = pair.buffer.value(), .length = 1, .flags = kNext});
  pair.driver.put(0, {.address = pair.buffer.value(), .length = 1, .id = 2, .flags = 0x8000});
  CHECK(pair.broken() == "a chain is longer than the queue, or than what is free of it");
  Queue::abandon(std::move(*first));
  Queue::abandon(std::move(*second));
}

TEST_CASE(
    "more packed chains than descriptors break the queue, also before the used ones are shown") {
  const bool completed = GENERATE(false, true);
  PackedPair pair(2);
  (void)pair.offer(2);
  auto first = pair.device->pop();
  auto second = pair.device->pop();
  REQUIRE(second);
  if (completed) {
    pair.device->complete(std::move(*first), 0);
    pair.device->complete(std::move(*second), 0);
  }
  pair.driver.put(0, {.address = pair.buffer.value(), .length = 1, .id = 1, .flags = 0x8000});
  CHECK(pair.device->allow_kicks());
  CHECK(pair.broken() == "more descriptors available than the queue has");
  if (completed) return;
  Queue::abandon(std::move(*first));
  Queue::abandon(std::move(*second));
}

TEST_CASE("a packed descriptor for reading behind one for writing breaks the queue") {
  PackedPair pair(8);
  pair.driver.put_available(1, {.address = pair.buffer.value(), .length = 4});
  CHECK(pair.break_with({.address = pair.buffer.value(), .length = 4, .flags = kNext | kWrite}) ==
        "a device-readable descriptor behind a device-writable one");
}

TEST_CASE("a packed chain of 2^32 bytes breaks the queue") {
  const AddrRange range{0, uint64_t{3} << 30};
  const GuestMemory memory(std::span(&range, 1), {});
  GuestHeap heap(memory, {0, 1 << 20});
  PackedDriverQueue driver(heap, 8, Feature::RingPacked);
  std::string_view why;
  const auto device =
      Queue::create(memory, QueueIndex(0), driver.config(), Feature::RingPacked, {}, why);
  REQUIRE(device);
  const std::array<Segment, 2> more{
      {{GuestAddr(0), 1U << 31, true}, {GuestAddr(0), 1U << 31, true}}};
  driver.add(more);
  (void)driver.publish();
  CHECK_FALSE(device->pop());
  CHECK(device->broken() == "a chain of 2^32 bytes or more");
}

TEST_CASE("a buffer ID that is not below the queue size breaks the queue") {
  const auto id = GENERATE(as<uint16_t>{}, 6, 7, 65535);
  PackedPair pair(6);
  CHECK(pair.break_with({.address = pair.buffer.value(), .length = 1, .id = id}) ==
        "a buffer ID is not below the queue size");
}

TEST_CASE("a buffer ID that is made available again while in use breaks the queue") {
  PackedPair pair(8);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.put_available(1, {.address = pair.buffer.value(), .length = 1, .id = 0});
  CHECK(pair.broken() == "a buffer ID was made available again while in use");
  Queue::abandon(std::move(*chain));
}

// Indirect tables -----------------------------------------------------------------------------

TEST_CASE("an indirect descriptor breaks a packed queue for which it was not negotiated") {
  PackedPair pair(8);
  CHECK(pair.break_with({.address = pair.buffer.value(), .length = 16, .flags = kIndirect}) ==
        "an indirect descriptor, which was not negotiated");
}

TEST_CASE("an indirect descriptor in a packed chain breaks the queue, in front and behind") {
  PackedPair pair(8, Feature::IndirectDesc);
  CHECK(
      pair.break_with({.address = pair.buffer.value(), .length = 16, .flags = kIndirect | kNext}) ==
      "an indirect descriptor with a next one");
  PackedPair other(8, Feature::IndirectDesc);
  other.driver.put_available(1,
                             {.address = other.buffer.value(), .length = 16, .flags = kIndirect});
  CHECK(other.break_with({.address = other.buffer.value(), .length = 16, .flags = kNext}) ==
        "an indirect descriptor behind direct ones");
}

TEST_CASE("a packed queue's indirect table of no, half or too many descriptors breaks it") {
  const auto length = GENERATE(as<uint32_t>{}, 0, 8, 24, 112, 0xfffffff0);
  PackedPair pair(6, Feature::IndirectDesc);
  CHECK(pair.break_with({.address = pair.buffer.value(), .length = length, .flags = kIndirect}) ==
        "an indirect table's length is not that of 1 to queue-size descriptors");
}

TEST_CASE("a packed queue's indirect table outside of guest memory breaks it") {
  const auto address = GENERATE(as<uint64_t>{}, kEnd, kEnd - 16, UINT64_MAX - 15);
  PackedPair pair(8, Feature::IndirectDesc);
  CHECK(pair.break_with({.address = address, .length = 32, .flags = kIndirect}) ==
        "an indirect table lies outside guest memory");
}

TEST_CASE("what a packed queue's indirect table refers to is checked as any chain is") {
  PackedPair pair(8, Feature::IndirectDesc);
  const std::array<Segment, 2> wrong_order{{{pair.buffer, 4, true}, {pair.buffer, 4, false}}};
  pair.driver.add_indirect(wrong_order);
  (void)pair.driver.publish();
  CHECK(pair.broken() == "a device-readable descriptor behind a device-writable one");
  PackedPair other(8, Feature::IndirectDesc);
  const std::array<Segment, 1> outside{{{GuestAddr(kEnd), 4, true}}};
  other.driver.add_indirect(outside);
  (void)other.driver.publish();
  CHECK(other.broken() == "a buffer lies outside guest memory");
}

// Afterwards ----------------------------------------------------------------------------------

TEST_CASE("a broken packed queue pops nothing more, but gives back what is out") {
  PackedPair pair(8);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.put_available(1, {.address = kEnd, .length = 1, .id = 1});
  CHECK(pair.broken() == "a buffer lies outside guest memory");
  pair.driver.put_available(1, {.address = 0, .length = 1, .id = 1});
  CHECK_FALSE(pair.device->pop());
  CHECK_FALSE(pair.device->allow_kicks());
  pair.device->complete(std::move(*chain), 3);
  CHECK(pair.device->publish());
  CHECK(pair.driver.take_used() == UsedEntry{.head = 0, .length = 3});
}

}  // namespace
}  // namespace ringlet
