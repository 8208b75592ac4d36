// Tests of the virtqueue's notifications: when a kick and when an interrupt is due.
#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/queue_pair.h"

namespace ringlet {
namespace {

// Kicks ---------------------------------------------------------------------------------------

TEST_CASE("without EVENT_IDX a flag keeps the driver from kicking while the device drains") {
  QueuePair pair(8);
  CHECK(pair.offer(1));
  pair.device->suppress_kicks();
  CHECK_FALSE(pair.offer(1));
  (void)pair.serve(2);
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.offer(1));
}

TEST_CASE("with EVENT_IDX the driver kicks for the first chain after a drain, and no other") {
  QueuePair pair(8, Feature::EventIdx);
  CHECK(pair.offer(1));
  CHECK_FALSE(pair.offer(1));
  pair.device->suppress_kicks();
  (void)pair.serve(2);
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.driver.avail_event() == 2);
  CHECK(pair.offer(1));
  CHECK_FALSE(pair.offer(1));
}

TEST_CASE("with EVENT_IDX the flags of the used ring stay zero") {
  QueuePair pair(8, Feature::EventIdx);
  pair.device->suppress_kicks();
  CHECK(pair.driver.used_flags() == 0);
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.driver.used_flags() == 0);
}

TEST_CASE("with EVENT_IDX the device sets the flags of the used ring to zero") {
  QueuePair pair(8, Feature::EventIdx);
  pair.driver.set_used_flags(ring::kUsedNoNotify);
  std::string_view why;
  const auto next =
      Queue::create(pair.memory, QueueIndex(0), pair.driver.config(), Feature::EventIdx, {}, why);
  REQUIRE(next);
  CHECK(pair.driver.used_flags() == 0);
}

TEST_CASE("a chain that came in while kicks were off is told of when they are allowed again") {
  const auto features = GENERATE(Features(), Features(Feature::EventIdx));
  QueuePair pair(8, features);
  (void)pair.offer(1);
  pair.device->suppress_kicks();
  (void)pair.serve(1);
  // The driver sees that no kick is wanted, just before it is.
  CHECK_FALSE(pair.offer(1));
  CHECK(pair.device->allow_kicks());
}

TEST_CASE("kicks are found due across the wrap of the avail index") {
  QueuePair pair(8, Feature::EventIdx, {.next_avail = 65534, .next_used = 65534});
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.offer(4));
  (void)pair.serve(4);
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.driver.avail_event() == 2);
  CHECK(pair.offer(1));
}

// Interrupts ----------------------------------------------------------------------------------

TEST_CASE("without EVENT_IDX every batch asks for an interrupt unless the driver wants none") {
  QueuePair pair(8);
  (void)pair.offer(3);
  CHECK(pair.serve(1));
  CHECK(pair.serve(1));
  pair.driver.interrupts_off();
  CHECK_FALSE(pair.serve(1));
}

TEST_CASE("without EVENT_IDX used_event is ignored") {
  const auto event = GENERATE(as<uint16_t>{}, 0, 1, 7, 65535);
  QueuePair pair(8);
  pair.driver.set_used_event(event);
  (void)pair.offer(2);
  CHECK(pair.serve(1));
  CHECK(pair.serve(1));
  pair.driver.interrupts_off();
  pair.driver.set_used_event(2);
  (void)pair.offer(1);
  CHECK_FALSE(pair.serve(1));
}

TEST_CASE("with EVENT_IDX one interrupt is due until the driver has looked") {
  QueuePair pair(8, Feature::EventIdx);
  (void)pair.offer(3);
  CHECK(pair.serve(1));
  CHECK_FALSE(pair.serve(1));
  CHECK(pair.driver.take_used());
  CHECK(pair.driver.take_used());
  CHECK(pair.serve(1));
}

TEST_CASE("with EVENT_IDX the interrupt comes with the batch that passes the event") {
  QueuePair pair(16, Feature::EventIdx);
  (void)pair.offer(8);
  pair.driver.interrupt_after(4);
  CHECK_FALSE(pair.serve(3));
  CHECK(pair.serve(3));
  CHECK_FALSE(pair.serve(2));
}

TEST_CASE("with EVENT_IDX the flags of the avail ring are ignored") {
  QueuePair pair(8, Feature::EventIdx);
  pair.driver.set_avail_flags(ring::kAvailNoInterrupt);
  (void)pair.offer(1);
  CHECK(pair.serve(1));
}

TEST_CASE("interrupts are found due across the wrap of the used index") {
  QueuePair pair(16, Feature::EventIdx, {.next_avail = 65530, .next_used = 65530});
  (void)pair.offer(12);
  pair.driver.interrupt_after(8);
  CHECK_FALSE(pair.serve(7));
  CHECK(pair.serve(5));
}

TEST_CASE("nothing completed, nothing published: no interrupt") {
  QueuePair pair(8);
  CHECK_FALSE(pair.device->publish());
  (void)pair.offer(1);
  CHECK(pair.serve(1));
  CHECK_FALSE(pair.device->publish());
}

TEST_CASE("a batch is shown by one move of the used index") {
  QueuePair pair(8);
  (void)pair.offer(5);
  for (int i = 0; i < 5; ++i) pair.device->complete(pair.device->pop().value(), 1);
  CHECK(pair.driver.used_index() == 0);
  CHECK(pair.device->publish());
  CHECK(pair.driver.used_index() == 5);
}

TEST_CASE("a full ring that is completed at once asks for an interrupt") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 64, 1024);
  QueuePair pair(size, Feature::EventIdx);
  CHECK(pair.offer(size));
  CHECK(pair.serve(size));
  CHECK(pair.driver.used_index() == size);
}

}  // namespace
}  // namespace ringlet
