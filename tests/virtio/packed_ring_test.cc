// Tests of the packed virtqueue: what it accepts, chains in and used descriptors out, positions.
#include <array>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/fake/packed_pair.h"

namespace ringlet {
namespace {

using packed::Position;

constexpr uint16_t kSecondLap = 0x8000;  // in a QueuePosition

std::string_view refusal(const QueueConfig& config, QueuePosition position = {}) {
  const GuestMemory memory{std::span(&PackedPair::kMemory, 1), MemoryBacking{}};
  std::string_view why;
  (void)Queue::create(memory, QueueIndex(0), config, Feature::RingPacked, position, why);
  return why;
}

constexpr QueueConfig kGoodConfig{.size = 24,
                                  .enabled = true,
                                  .descriptors = GuestAddr(0x1000),
                                  .driver_area = GuestAddr(0x2000),
                                  .device_area = GuestAddr(0x3000)};

// Configuration -------------------------------------------------------------------------------

TEST_CASE("a packed queue has any size up to 1024") {
  QueueConfig config = kGoodConfig;
  config.size = GENERATE(as<uint16_t>{}, 1, 2, 3, 24, 1023, 1024);
  CHECK(refusal(config) == "");
}

TEST_CASE("a packed queue of no or too many descriptors is refused") {
  QueueConfig config = kGoodConfig;
  config.size = GENERATE(as<uint16_t>{}, 0, 1025, 32768, 65535);
  CHECK(refusal(config) == "the queue size is not 1 to 1024");
}

TEST_CASE("parts of a packed queue that are not aligned are refused") {
  QueueConfig config = kGoodConfig;
  config.descriptors = GuestAddr(0x1008);
  CHECK(refusal(config) == "a ring is not aligned");
  config = kGoodConfig;
  config.driver_area = GuestAddr(0x2002);
  CHECK(refusal(config) == "a ring is not aligned");
  config = kGoodConfig;
  config.device_area = GuestAddr(0x3002);
  CHECK(refusal(config) == "a ring is not aligned");
}

TEST_CASE("parts of a packed queue must lie in guest memory, up to its very end") {
  // Of 24 descriptors: 384 bytes, and 4 bytes for each event suppression.
  QueueConfig config = kGoodConfig;
  config.descriptors = GuestAddr(0x400000 - 384);
  config.driver_area = GuestAddr(0x400000 - 4);
  config.device_area = GuestAddr(0x400000 - 4);
  CHECK(refusal(config) == "");
  QueueConfig outside = config;
  outside.descriptors = GuestAddr(0x400000 - 368);
  CHECK(refusal(outside) == "a ring lies outside guest memory");
  outside = config;
  outside.driver_area = GuestAddr(0x400000);
  CHECK(refusal(outside) == "a ring lies outside guest memory");
  outside = config;
  outside.device_area = GuestAddr(UINT64_MAX - 3);
  CHECK(refusal(outside) == "a ring lies outside guest memory");
}

TEST_CASE("a position that a packed queue cannot have is refused") {
  CHECK(refusal(kGoodConfig, {23, 23}) == "");
  CHECK(refusal(kGoodConfig, {kSecondLap | 5, 20}) == "");
  CHECK(refusal(kGoodConfig, {24, 24}) == "a position in the ring is not below the queue size");
  CHECK(refusal(kGoodConfig, {0, kSecondLap | 24}) ==
        "a position in the ring is not below the queue size");
  CHECK(refusal(kGoodConfig, {5, 6}) == "more descriptors are used than were available");
  CHECK(refusal(kGoodConfig, {kSecondLap | 6, 5}) ==
        "more descriptors are used than were available");
}

// Chains --------------------------------------------------------------------------------------

TEST_CASE("a packed ring that is all zeroes, or all used, has nothing to pop") {
  const auto flags = GENERATE(as<uint16_t>{}, 0, 0x80 | 0x8000, 0x8000);
  PackedPair pair(4);
  pair.driver.put(0, {.flags = flags});
  CHECK_FALSE(pair.device->has_avail());
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken().empty());
}

TEST_CASE("a packed chain comes out with its readable and writable parts in order") {
  PackedPair pair(5);
  const std::array<Segment, 4> chain{{{pair.buffer, 16, false},
                                      {pair.buffer.plus(16).value(), 100, false},
                                      {pair.buffer.plus(512).value(), 1, true},
                                      {pair.buffer.plus(1024).value(), 2048, true}}};
  pair.driver.add(chain);
  CHECK_FALSE(pair.device->has_avail());
  CHECK(pair.driver.publish());
  CHECK(pair.device->has_avail());
  auto popped = pair.device->pop();
  REQUIRE(popped);
  CHECK_FALSE(pair.device->has_avail());
  CHECK(popped->readable().size() == 2);
  CHECK(popped->readable_bytes() == 116);
  CHECK(popped->writable_bytes() == 2049);
  std::byte* const base = pair.memory.slice(pair.buffer, 1).value().data();
  CHECK(popped->writable()[1].iov_base == base + 1024);
  Queue::abandon(std::move(*popped));
}

TEST_CASE(
    "a packed chain as long as its queue is accepted, directly and indirectly, at any place") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 3, 24, 1024);
  PackedPair pair(size, Feature::IndirectDesc);
  const std::vector<Segment> chain(size, Segment{pair.buffer, 8, true});
  for (int i = 0; i < 3; ++i) {
    pair.driver.add(chain);
    (void)pair.driver.publish();
    auto direct = pair.device->pop();
    REQUIRE(direct);
    CHECK(direct->writable().size() == size);
    pair.device->complete(std::move(*direct), 8);
    CHECK(pair.device->publish());
    CHECK(pair.driver.take_used()->length == 8);
    // Moves the place by one.
    pair.driver.add_indirect(chain);
    (void)pair.driver.publish();
    auto indirect = pair.device->pop();
    REQUIRE(indirect);
    CHECK(indirect->writable().size() == size);
    pair.device->complete(std::move(*indirect), 1);
    CHECK(pair.device->publish());
    CHECK(pair.driver.take_used());
  }
}

TEST_CASE("in a packed queue's indirect table only the write flag counts, and its length ends it") {
  PackedPair pair(8, Feature::IndirectDesc);
  const GuestAddr table = pair.heap.take(48);
  for (uint64_t i = 0; i < 3; ++i) {
    // NEXT, INDIRECT, AVAIL and USED in every one, WRITE in the last.
    REQUIRE(pair.memory.write_value(
        table.plus(16 * i).value(),
        ring::Descriptor{.address = pair.buffer.value(),
                         .length = 20,
                         .flags = 0xffff,  // the ID, where a split ring has its flags
                         .next = static_cast<uint16_t>(0x8085 | (i == 2 ? 2 : 0))}));
  }
  // The write flag of what refers to the table is ignored.
  pair.driver.put_available(0, {.address = table.value(),
                                .length = 48,
                                .id = 3,
                                .flags = ring::kDescIndirect | ring::kDescWrite});
  auto chain = pair.device->pop();
  REQUIRE(chain);
  CHECK(chain->readable_bytes() == 40);
  CHECK(chain->writable_bytes() == 20);
  pair.device->complete(std::move(*chain), 20);
  CHECK(pair.device->publish());
  CHECK(pair.driver.descriptor(0).id == 3);
}

TEST_CASE("packed descriptors without bytes are left out of a chain") {
  PackedPair pair(8);
  const std::array<Segment, 4> chain{{{pair.buffer, 0, false},
                                      {pair.buffer, 5, false},
                                      {pair.buffer, 0, true},
                                      {pair.buffer, 6, true}}};
  pair.driver.add(chain);
  (void)pair.driver.publish();
  auto popped = pair.device->pop();
  REQUIRE(popped);
  CHECK(popped->readable_bytes() == 5);
  CHECK(popped->writable_bytes() == 6);
  pair.device->complete(std::move(*popped), 0);
  CHECK(pair.device->position().next_used == 4);
}

TEST_CASE("a packed chain is read once: what the guest changes afterwards has no effect") {
  PackedPair pair(8);
  (void)pair.offer(1);
  auto chain = pair.device->pop();
  REQUIRE(chain);
  pair.driver.put_available(0, {.address = 0, .length = 9, .id = 5});
  CHECK(chain->writable_bytes() == 64);
  pair.device->complete(std::move(*chain), 1);
  CHECK(pair.device->publish());
  CHECK(pair.driver.descriptor(0).id == 0);
}

TEST_CASE("packed chains are taken in the order of the ring, as many as it holds") {
  PackedPair pair(6);
  const std::array<uint16_t, 3> ids{pair.offer_long(3), pair.offer_long(1), pair.offer_long(2)};
  std::vector<Chain> chains;
  for (int i = 0; i < 3; ++i) chains.push_back(pair.device->pop().value());
  CHECK(chains[0].readable_bytes() == 24);
  CHECK(chains[1].readable_bytes() == 8);
  CHECK(chains[2].readable_bytes() == 16);
  CHECK_FALSE(pair.device->pop());
  CHECK(pair.device->broken().empty());
  for (Chain& chain : chains) pair.device->complete(std::move(chain), 0);
  CHECK(pair.device->publish());
  for (const uint16_t id : ids) CHECK(pair.driver.take_used()->head == id);
}

// Used descriptors ----------------------------------------------------------------------------

TEST_CASE(
    "used descriptors are written in the order of completion, each where the last chain ended") {
  PackedPair pair(8);
  const uint16_t long_id = pair.offer_long(3);
  const uint16_t short_id = pair.offer_long(1);
  auto first = pair.device->pop();
  auto second = pair.device->pop();
  pair.device->complete(std::move(*second), 0);
  pair.device->complete(std::move(*first), 0);
  CHECK(pair.device->publish());
  // The short one skips one descriptor, so the long one's stands in the middle of its old place.
  CHECK(pair.driver.descriptor(0).id == short_id);
  CHECK(pair.driver.descriptor(0).flags == 0x8080);
  CHECK(pair.driver.descriptor(1).id == long_id);
  CHECK(pair.driver.descriptor(1).flags == 0x8080);
  CHECK(pair.device->position().next_used == 4);
  CHECK(pair.driver.take_used()->head == short_id);
  CHECK(pair.driver.take_used()->head == long_id);
  CHECK_FALSE(pair.driver.take_used());
}

TEST_CASE("a used descriptor has the write flag when the device wrote, and the bits of its lap") {
  PackedPair pair(2);
  for (const unsigned flags : {0x8082U, 0x8080U, 0x0002U, 0x0000U, 0x8082U}) {
    (void)pair.offer(1);
    const uint16_t place = pair.device->position().next_used & 1;
    pair.device->complete(pair.device->pop().value(), (flags & 2) != 0 ? 7 : 0);
    CHECK(pair.device->publish());
    CHECK(pair.driver.descriptor(place).flags == flags);
    CHECK(pair.driver.take_used()->length == ((flags & 2) != 0 ? 7 : 0));
  }
}

TEST_CASE(
    "a batch in a packed ring is shown by the flags of its first descriptor, which come last") {
  PackedPair pair(8);
  (void)pair.offer(3);
  for (int i = 0; i < 3; ++i) pair.device->complete(pair.device->pop().value(), 1);
  CHECK(pair.driver.used_index() == 0);
  CHECK(pair.driver.descriptor(0).flags == 0x82);
  CHECK(pair.driver.descriptor(1).flags == 0x8082);
  CHECK(pair.driver.descriptor(2).flags == 0x8082);
  CHECK(pair.device->publish());
  CHECK(pair.driver.used_index() == 3);
  CHECK_FALSE(pair.device->publish());
}

TEST_CASE("the device changes no descriptor beyond those it uses, nor one that it has used") {
  PackedPair pair(4);
  (void)pair.offer(2);
  CHECK(pair.serve(1));
  const PackedDescriptor next = pair.driver.descriptor(1);
  CHECK(next.flags == 0x82);
  CHECK(next.address == pair.buffer.value());
  CHECK(pair.driver.take_used());
  pair.driver.put(0, {.address = 1, .length = 2, .id = 3, .flags = 0x8080});
  CHECK(pair.serve(1));
  CHECK(pair.driver.descriptor(0).address == 1);
  CHECK(pair.driver.descriptor(0).length == 2);
  CHECK(pair.driver.descriptor(0).id == 3);
}

TEST_CASE("packed rings of any size are gone round again and again, with chains of any length") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 3, 7, 16, 1000);
  PackedPair pair(size);
  uint32_t descriptors = 0;
  for (uint16_t i = 0; i < 4 * size + 20; ++i) {
    const auto length = static_cast<uint16_t>(1 + i % size);
    const uint16_t id = pair.offer_long(length);
    descriptors += length;
    CHECK(pair.serve(1));
    CHECK(pair.driver.take_used() == UsedEntry{.head = id, .length = 0});
  }
  const auto place = static_cast<uint16_t>(descriptors % size);
  const uint16_t lap = descriptors / size % 2 == 0 ? uint16_t{0} : kSecondLap;
  CHECK(pair.device->position().next_avail == (place | lap));
  CHECK(pair.device->position().next_used == (place | lap));
  CHECK(pair.device->broken().empty());
}

TEST_CASE("a packed queue carries on from a saved position, in either lap") {
  const auto before = GENERATE(as<unsigned>{}, 2, 5, 6, 11);
  PackedPair pair(5);
  for (unsigned i = 0; i < before; ++i) {
    (void)pair.offer(1);
    (void)pair.serve(1);
    CHECK(pair.driver.take_used());
  }
  (void)pair.offer(2);
  const auto next = pair.make_device(pair.device->position());
  REQUIRE(next);
  auto first = next->pop();
  next->complete(next->pop().value(), 5);
  next->complete(std::move(*first), 6);
  CHECK(next->publish());
  CHECK(pair.driver.take_used()->length == 5);
  CHECK(pair.driver.take_used()->length == 6);
  CHECK_FALSE(next->pop());
  CHECK(next->broken().empty());
}

TEST_CASE("what the device writes into a packed queue is marked dirty") {
  PackedPair pair(8);
  const auto page = [](GuestAddr at) { return uint64_t{1} << at.value() / 4096; };
  (void)pair.offer(1);
  pair.memory.track_dirty();
  pair.device->complete(pair.device->pop().value(), 64);
  (void)pair.device->publish();
  CHECK(pair.memory.take_dirty(0)[0] ==
        (page(pair.buffer) | page(pair.driver.config().descriptors)));
  (void)pair.device->allow_kicks();
  CHECK(pair.memory.take_dirty(0)[0] == page(pair.driver.config().device_area));
}

TEST_CASE("a packed chain that was abandoned never shows up as used") {
  PackedPair pair(8);
  (void)pair.offer(2);
  Queue::abandon(pair.device->pop().value());
  Queue::abandon(pair.device->pop().value());
  CHECK_FALSE(pair.device->publish());
  CHECK(pair.driver.used_index() == 0);
  CHECK(pair.device->in_flight() == 0);
}

}  // namespace
}  // namespace ringlet
