// Tests of the split virtqueue: what it accepts, what breaks it, and its notifications.
#include "virtio/queue.h"

#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/queue_pair.h"

namespace ringlet {
namespace {

constexpr AddrRange kMemory = QueuePair::kMemory;

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
  QueuePair pair(16);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken().empty());
}

TEST_CASE("a chain comes out with its readable and writable parts in order") {
  QueuePair pair(16);
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
  QueuePair pair(size, Feature::IndirectDesc);
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

TEST_CASE("direct descriptors may lead to an indirect table") {
  QueuePair pair(8, Feature::IndirectDesc);
  const GuestAddr table = pair.heap.take(32);
  REQUIRE(pair.memory.write_value(
      table,
      ring::Descriptor{
          .address = pair.buffer.value(), .length = 20, .flags = ring::kDescWrite, .next = 0}));
  pair.driver.put_descriptor(
      3, {.address = pair.buffer.value(), .length = 10, .flags = ring::kDescNext, .next = 5});
  pair.driver.put_descriptor(
      5, {.address = table.value(), .length = 16, .flags = ring::kDescIndirect, .next = 0});
  pair.driver.put_avail(0, 3);
  pair.driver.set_avail_index(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  CHECK(chain->readable_bytes() == 10);
  CHECK(chain->writable_bytes() == 20);
  Queue::abandon(std::move(*chain));
}

TEST_CASE("the write flag of a descriptor that refers to an indirect table is ignored") {
  QueuePair pair(8, Feature::IndirectDesc);
  const GuestAddr table = pair.heap.take(16);
  REQUIRE(pair.memory.write_value(
      table,
      ring::Descriptor{.address = pair.buffer.value(), .length = 20, .flags = 0, .next = 0}));
  pair.driver.put_descriptor(0, {.address = table.value(),
                                 .length = 16,
                                 .flags = ring::kDescIndirect | ring::kDescWrite,
                                 .next = 0});
  pair.driver.put_avail(0, 0);
  pair.driver.set_avail_index(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  CHECK(chain->readable_bytes() == 20);
  Queue::abandon(std::move(*chain));
}

TEST_CASE("descriptors without bytes are left out of a chain") {
  QueuePair pair(8);
  const std::array<Segment, 4> chain{{{pair.buffer, 0, false},
                                      {pair.buffer, 5, false},
                                      {pair.buffer, 0, true},
                                      {pair.buffer, 6, true}}};
  pair.driver.add(chain);
  (void)pair.driver.publish();
  auto popped = pair.device->pop();
  REQUIRE(popped);
  CHECK(popped->readable().size() == 1);
  CHECK(popped->readable_bytes() == 5);
  CHECK(popped->writable().size() == 1);
  CHECK(popped->writable_bytes() == 6);
  Queue::abandon(std::move(*popped));
}

TEST_CASE("a chain is read once: what the guest changes afterwards has no effect") {
  QueuePair pair(8);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.put_descriptor(0, {.address = 0, .length = 9, .flags = 0, .next = 0});
  CHECK(chain->writable_bytes() == 64);
  CHECK(chain->readable_bytes() == 0);
  Queue::abandon(std::move(*chain));
}

TEST_CASE("chains in flight have slots of their own, below the queue size") {
  QueuePair pair(4);
  (void)pair.offer(4);
  std::vector<Chain> chains;
  std::array<bool, 4> taken{};
  for (int i = 0; i < 4; ++i) {
    chains.push_back(pair.device->pop().value());
    REQUIRE(chains.back().slot() < 4);
    CHECK_FALSE(taken[chains.back().slot()]);
    taken[chains.back().slot()] = true;
  }
  CHECK(pair.device->in_flight() == 4);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken().empty());
  for (Chain& chain : chains) Queue::abandon(std::move(chain));
}

// The used ring -------------------------------------------------------------------------------

TEST_CASE("used entries name heads and lengths in the order of completion, not of arrival") {
  QueuePair pair(8);
  (void)pair.offer(3);
  auto first = pair.device->pop();
  auto second = pair.device->pop();
  auto third = pair.device->pop();
  pair.device->complete(std::move(*third), 64);
  pair.device->complete(std::move(*first), 0);
  CHECK(pair.driver.used_index() == 0);
  CHECK(pair.device->publish());
  CHECK(pair.driver.used_index() == 2);
  CHECK(pair.driver.take_used() == UsedEntry{.head = 2, .length = 64});
  CHECK(pair.driver.take_used() == UsedEntry{.head = 0, .length = 0});
  CHECK_FALSE(pair.driver.take_used());
  pair.device->complete(std::move(*second), 7);
  CHECK(pair.device->publish());
  CHECK(pair.driver.take_used() == UsedEntry{.head = 1, .length = 7});
}

TEST_CASE("a chain that was abandoned never shows up as used") {
  QueuePair pair(8);
  (void)pair.offer(2);
  Queue::abandon(pair.device->pop().value());
  pair.device->complete(pair.device->pop().value(), 1);
  CHECK(pair.device->publish());
  CHECK(pair.driver.take_used() == UsedEntry{.head = 1, .length = 1});
  CHECK_FALSE(pair.driver.has_used());
  CHECK(pair.device->in_flight() == 0);
}

TEST_CASE("indices run through 65535 and on, over queues of any size") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 16, 1024);
  QueuePair pair(size, {}, {.next_avail = 65530, .next_used = 65530});
  for (unsigned i = 0; i < 20; ++i) {
    (void)pair.offer(1);
    CHECK(pair.serve(1));
    CHECK(pair.driver.take_used());
  }
  CHECK(pair.device->position().next_avail == 14);
  CHECK(pair.device->position().next_used == 14);
  CHECK(pair.driver.used_index() == 14);
  CHECK(pair.device->broken().empty());
}

TEST_CASE("a queue carries on from a saved position") {
  QueuePair pair(8);
  (void)pair.offer(3);
  (void)pair.serve(2);
  const QueuePosition position = pair.device->position();
  CHECK(position.next_avail == 2);
  CHECK(position.next_used == 2);
  std::string_view why;
  const auto next =
      Queue::create(pair.memory, QueueIndex(0), pair.driver.config(), {}, position, why);
  REQUIRE(next);
  next->complete(next->pop().value(), 5);
  CHECK(next->publish());
  CHECK(pair.driver.take_used()->head == 0);
  CHECK(pair.driver.take_used()->head == 1);
  CHECK(pair.driver.take_used() == UsedEntry{.head = 2, .length = 5});
}

TEST_CASE("what the device writes is marked dirty: data, used elements and index") {
  QueuePair pair(8);
  pair.memory.track_dirty();
  (void)pair.offer(2);
  auto first = pair.device->pop();
  auto second = pair.device->pop();
  pair.device->complete(std::move(*first), 64);
  Queue::abandon(std::move(*second));
  (void)pair.device->publish();
  const auto dirty = pair.memory.take_dirty(0);
  const uint64_t buffer_page = pair.buffer.value() / 4096;
  const uint64_t used_page = pair.driver.config().device_area.value() / 4096;
  CHECK(dirty[0] == (uint64_t{1} << buffer_page | uint64_t{1} << used_page));
}

TEST_CASE("an abandoned chain's buffers are marked dirty, as I/O may have reached them") {
  QueuePair pair(8);
  pair.memory.track_dirty();
  (void)pair.offer(1);
  Queue::abandon(pair.device->pop().value());
  CHECK(pair.memory.take_dirty(0)[0] == uint64_t{1} << (pair.buffer.value() / 4096));
}

}  // namespace
}  // namespace ringlet
