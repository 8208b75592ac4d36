// Tests of what breaks a virtqueue: each fault of the guest has its reason, and ends the queue.
#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/queue_pair.h"

namespace ringlet {
namespace {

constexpr uint64_t kEnd = 4 << 20;  // of guest memory

/// Offers descriptor 0, which refers to `table`, as the only chain.
std::string_view break_with_table(QueuePair& pair, std::span<const ring::Descriptor> table,
                                  uint32_t bytes) {
  const GuestAddr at = pair.heap.take(4096);
  REQUIRE(pair.memory.write(at, std::as_bytes(table)));
  return pair.break_with(
      {.address = at.value(), .length = bytes, .flags = ring::kDescIndirect, .next = 0});
}

TEST_CASE("a buffer outside of guest memory breaks the queue") {
  QueuePair pair(8);
  CHECK(pair.break_with({.address = kEnd, .length = 1, .flags = 0, .next = 0}) ==
        "a buffer lies outside guest memory");
}

TEST_CASE("a buffer that ends outside of guest memory breaks the queue") {
  QueuePair pair(8);
  CHECK(pair.break_with(
            {.address = kEnd - 512, .length = 513, .flags = ring::kDescWrite, .next = 0}) ==
        "a buffer lies outside guest memory");
}

TEST_CASE("a buffer whose end wraps around breaks the queue") {
  QueuePair pair(8);
  CHECK(
      pair.break_with({.address = UINT64_MAX - 10, .length = UINT32_MAX, .flags = 0, .next = 0}) ==
      "a buffer lies outside guest memory");
  QueuePair other(8);
  CHECK(other.break_with({.address = 16, .length = UINT32_MAX, .flags = 0, .next = 0}) ==
        "a buffer lies outside guest memory");
}

TEST_CASE("a next field outside of the table breaks the queue") {
  QueuePair pair(8);
  const GuestAddr buffer = pair.buffer;
  CHECK(pair.break_with(
            {.address = buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 8}) ==
        "a next field points outside the descriptor table");
}

TEST_CASE("a chain that loops breaks the queue") {
  QueuePair pair(8);
  CHECK(pair.break_with(
            {.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 0}) ==
        "a chain is longer than the queue, or loops");
}

TEST_CASE("a loop of descriptors without bytes breaks the queue too") {
  QueuePair pair(8);
  CHECK(pair.break_with({.address = 0, .length = 0, .flags = ring::kDescNext, .next = 0}) ==
        "a chain is longer than the queue, or loops");
}

TEST_CASE("a readable descriptor behind a writable one breaks the queue") {
  QueuePair pair(8);
  pair.driver.put_descriptor(1,
                             {.address = pair.buffer.value(), .length = 4, .flags = 0, .next = 0});
  CHECK(pair.break_with({.address = pair.buffer.value(),
                         .length = 4,
                         .flags = ring::kDescNext | ring::kDescWrite,
                         .next = 1}) ==
        "a device-readable descriptor behind a device-writable one");
}

TEST_CASE("a chain of 2^32 bytes breaks the queue") {
  const AddrRange range{0, uint64_t{3} << 30};
  const GuestMemory memory(std::span(&range, 1), {});
  GuestHeap heap(memory, {0, 1 << 20});
  SplitDriverQueue driver(heap, 8, {});
  std::string_view why;
  const auto device = Queue::create(memory, QueueIndex(0), driver.config(), {}, {}, why);
  REQUIRE(device);
  const std::array<Segment, 2> most{
      {{GuestAddr(0), 1U << 31, true}, {GuestAddr(0), (1U << 31) - 1, true}}};
  driver.add(most);
  (void)driver.publish();
  auto chain = device->pop();
  REQUIRE(chain);
  CHECK(chain->writable_bytes() == UINT32_MAX);
  Queue::abandon(std::move(*chain));
  const std::array<Segment, 2> more{
      {{GuestAddr(0), 1U << 31, true}, {GuestAddr(0), 1U << 31, true}}};
  driver.add(more);
  (void)driver.publish();
  CHECK_FALSE(device->pop());
  CHECK(device->broken() == "a chain of 2^32 bytes or more");
}

// Indirect tables -----------------------------------------------------------------------------

TEST_CASE("an indirect descriptor breaks a queue for which it was not negotiated") {
  QueuePair pair(8);
  const std::array<ring::Descriptor, 1> table{
      {{.address = pair.buffer.value(), .length = 1, .flags = 0, .next = 0}}};
  CHECK(break_with_table(pair, table, 16) == "an indirect descriptor, which was not negotiated");
}

TEST_CASE("an indirect descriptor inside an indirect table breaks the queue") {
  QueuePair pair(8, Feature::IndirectDesc);
  const std::array<ring::Descriptor, 1> first{
      {{.address = pair.buffer.value(), .length = 16, .flags = ring::kDescIndirect, .next = 0}}};
  CHECK(break_with_table(pair, first, 16) == "an indirect descriptor inside an indirect table");
  QueuePair other(8, Feature::IndirectDesc);
  const std::array<ring::Descriptor, 2> second{
      {{.address = pair.buffer.value(), .length = 16, .flags = ring::kDescNext, .next = 1},
       {.address = pair.buffer.value(), .length = 16, .flags = ring::kDescIndirect, .next = 0}}};
  CHECK(break_with_table(other, second, 32) == "an indirect descriptor inside an indirect table");
}

TEST_CASE("an indirect descriptor with a next one breaks the queue") {
  QueuePair pair(8, Feature::IndirectDesc);
  CHECK(pair.break_with({.address = pair.buffer.value(),
                         .length = 16,
                         .flags = ring::kDescIndirect | ring::kDescNext,
                         .next = 1}) == "an indirect descriptor with a next one");
}

TEST_CASE("an indirect table of no, half or too many descriptors breaks the queue") {
  const auto length = GENERATE(as<uint32_t>{}, 0, 8, 24, 144, 0xfffffff0);
  QueuePair pair(8, Feature::IndirectDesc);
  CHECK(pair.break_with({.address = pair.buffer.value(),
                         .length = length,
                         .flags = ring::kDescIndirect,
                         .next = 0}) ==
        "an indirect table's length is not that of 1 to queue-size descriptors");
}

TEST_CASE("an indirect table outside of guest memory breaks the queue") {
  const auto address = GENERATE(as<uint64_t>{}, kEnd, kEnd - 16, UINT64_MAX - 15);
  QueuePair pair(8, Feature::IndirectDesc);
  CHECK(pair.break_with(
            {.address = address, .length = 32, .flags = ring::kDescIndirect, .next = 0}) ==
        "an indirect table lies outside guest memory");
}

TEST_CASE("a next field outside of the indirect table breaks the queue") {
  QueuePair pair(8, Feature::IndirectDesc);
  const std::array<ring::Descriptor, 1> table{
      {{.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 1}}};
  CHECK(break_with_table(pair, table, 16) == "a next field points outside the descriptor table");
}

TEST_CASE("an indirect table that loops breaks the queue") {
  QueuePair pair(8, Feature::IndirectDesc);
  const std::array<ring::Descriptor, 2> table{
      {{.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 1},
       {.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 0}}};
  CHECK(break_with_table(pair, table, 32) == "a chain is longer than the queue, or loops");
}

TEST_CASE("an indirect table of full length behind a direct descriptor breaks the queue") {
  QueuePair pair(2, Feature::IndirectDesc);
  const std::array<ring::Descriptor, 2> table{
      {{.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 1},
       {.address = pair.buffer.value(), .length = 1, .flags = 0, .next = 0}}};
  const GuestAddr at = pair.heap.take(32);
  REQUIRE(pair.memory.write(at, std::as_bytes(std::span(table))));
  pair.driver.put_descriptor(
      1, {.address = at.value(), .length = 32, .flags = ring::kDescIndirect, .next = 0});
  CHECK(pair.break_with(
            {.address = pair.buffer.value(), .length = 1, .flags = ring::kDescNext, .next = 1}) ==
        "a chain is longer than the queue, or loops");
}

// The avail ring ------------------------------------------------------------------------------

TEST_CASE("a head outside of the descriptor table breaks the queue") {
  const auto head = GENERATE(as<uint16_t>{}, 8, 9, 65535);
  QueuePair pair(8);
  pair.driver.put_avail(0, head);
  pair.driver.set_avail_index(1);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken() == "a head in the avail ring is not below the queue size");
}

TEST_CASE("an avail index that jumps too far, or goes back, breaks the queue") {
  const auto index = GENERATE(as<uint16_t>{}, 9, 32768, 65535);
  QueuePair pair(8);
  pair.driver.set_avail_index(index);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken() == "the avail index jumped by more than the queue size");
}

TEST_CASE("a head that is made available again while in use breaks the queue") {
  QueuePair pair(8);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.put_avail(1, 0);
  pair.driver.set_avail_index(2);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken() == "a head was made available again while in use");
  Queue::abandon(std::move(*chain));
}

TEST_CASE("more chains than descriptors break the queue") {
  QueuePair pair(1);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.set_avail_index(2);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken() == "more chains available than the queue has descriptors");
  Queue::abandon(std::move(*chain));
}

TEST_CASE("a broken queue pops nothing more, but gives back what is out") {
  QueuePair pair(8);
  (void)pair.offer(2);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.set_avail_index(100);
  CHECK_FALSE(pair.device->pop());
  pair.driver.set_avail_index(2);
  CHECK_FALSE(pair.device->pop());
  CHECK_FALSE(pair.device->broken().empty());
  CHECK_FALSE(pair.device->allow_kicks());
  pair.device->complete(std::move(*chain), 3);
  CHECK(pair.device->publish());
  CHECK(pair.driver.take_used() == UsedEntry{.head = 0, .length = 3});
}

TEST_CASE("the device keeps its own positions, whatever the guest writes into the used ring") {
  QueuePair pair(8);
  (void)pair.offer(2);
  (void)pair.serve(1);
  REQUIRE(pair.memory.write_value(pair.driver.config().device_area.plus(2).value(), le16(77)));
  (void)pair.serve(1);
  CHECK(pair.driver.used_index() == 2);
  CHECK(pair.driver.used_element(1).head == 1);
}

}  // namespace
}  // namespace ringlet
