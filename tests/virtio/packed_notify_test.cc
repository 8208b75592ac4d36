// Tests of the packed virtqueue's notifications: when a kick and when an interrupt is due.
#include <catch2/catch.hpp>

#include "tests/fake/packed_pair.h"

namespace ringlet {
namespace {

using packed::Position;

// Positions -----------------------------------------------------------------------------------

TEST_CASE("an event is due when the move passes its descriptor in its lap, not otherwise") {
  // In a ring of 10: from descriptor 8 of lap 1 over four, to 2 of lap 0.
  constexpr Position kFrom{.index = 8, .wrap = true};
  CHECK(packed::need_event({8, true}, kFrom, 4, 10));
  CHECK(packed::need_event({9, true}, kFrom, 4, 10));
  CHECK(packed::need_event({0, false}, kFrom, 4, 10));
  CHECK(packed::need_event({1, false}, kFrom, 4, 10));
  CHECK_FALSE(packed::need_event({2, false}, kFrom, 4, 10));
  CHECK_FALSE(packed::need_event({7, true}, kFrom, 4, 10));
  CHECK_FALSE(packed::need_event({8, false}, kFrom, 4, 10));
  CHECK_FALSE(packed::need_event({0, true}, kFrom, 4, 10));
}

TEST_CASE("a whole lap passes every descriptor once") {
  constexpr Position kFrom{.index = 3, .wrap = false};
  CHECK(packed::need_event({3, false}, kFrom, 10, 10));
  CHECK(packed::need_event({2, true}, kFrom, 10, 10));
  CHECK_FALSE(packed::need_event({3, true}, kFrom, 10, 10));
  CHECK_FALSE(packed::need_event({2, false}, kFrom, 10, 10));
}

TEST_CASE("an event at an offset that no descriptor has is never due") {
  CHECK_FALSE(packed::need_event({10, true}, {9, true}, 10, 10));
  CHECK_FALSE(packed::need_event({32767, false}, {0, true}, 10, 10));
}

// Kicks ---------------------------------------------------------------------------------------

TEST_CASE("a packed queue's driver is kept from kicking while the device drains") {
  const auto features = GENERATE(Features(), Features(Feature::EventIdx));
  PackedPair pair(8, features);
  CHECK(pair.offer(1));
  pair.device->suppress_kicks();
  CHECK(pair.driver.device_event_flags() == 1);
  CHECK_FALSE(pair.offer(1));
  (void)pair.serve(2);
  CHECK_FALSE(pair.device->allow_kicks());
  CHECK(pair.offer(1));
}

TEST_CASE("a packed queue with EVENT_IDX asks for a kick at the next descriptor, and no other") {
  PackedPair pair(4, Feature::EventIdx);
  for (int i = 0; i < 5; ++i) {
    CHECK_FALSE(pair.device->allow_kicks());
    CHECK(pair.driver.device_event_flags() == 2);
    CHECK(pair.driver.device_event() ==
          Position{static_cast<uint16_t>(i * 3 % 4), i * 3 / 4 % 2 == 0});
    CHECK(pair.offer(1));
    CHECK_FALSE(pair.offer(2));
    pair.device->suppress_kicks();
    (void)pair.serve(3);
    while (pair.driver.take_used()) {
    }
  }
}

TEST_CASE("a packed queue without EVENT_IDX never names a descriptor") {
  PackedPair pair(4);
  CHECK(pair.driver.device_event_flags() == 0);
  (void)pair.device->allow_kicks();
  CHECK(pair.driver.device_event_flags() == 0);
  CHECK(pair.offer(1));
  CHECK(pair.offer(1));
}

TEST_CASE("a new packed queue wants kicks, whatever the driver left in its device area") {
  PackedPair pair(4);
  pair.driver.set_device_events(packed::kEventsOff);
  REQUIRE(pair.make_device({}));
  CHECK(pair.driver.device_event_flags() == 0);
}

TEST_CASE("a packed chain that came in while kicks were off is told of when they are allowed") {
  const auto features = GENERATE(Features(), Features(Feature::EventIdx));
  PackedPair pair(8, features);
  (void)pair.offer(1);
  pair.device->suppress_kicks();
  (void)pair.serve(1);
  CHECK_FALSE(pair.offer(1));
  CHECK(pair.device->allow_kicks());
}

// Interrupts ----------------------------------------------------------------------------------

TEST_CASE("every batch of a packed queue asks for an interrupt unless the driver wants none") {
  const auto features = GENERATE(Features(), Features(Feature::EventIdx));
  PackedPair pair(8, features);
  pair.driver.set_events(packed::kEventsOn);
  (void)pair.offer(3);
  CHECK(pair.serve(1));
  CHECK(pair.serve(1));
  pair.driver.interrupts_off();
  CHECK_FALSE(pair.serve(1));
  CHECK_FALSE(pair.device->publish());
}

TEST_CASE("reserved bits of a packed queue's event suppression are ignored") {
  PackedPair pair(8);
  (void)pair.offer(2);
  pair.driver.set_events(0xfffc);
  CHECK(pair.serve(1));
  pair.driver.set_events(0xfffd);
  CHECK_FALSE(pair.serve(1));
}

TEST_CASE("a packed queue interrupts when the driver's wish means nothing") {
  PackedPair pair(8);
  (void)pair.offer(2);
  // Without EVENT_IDX this names no descriptor.
  pair.driver.set_events(packed::kEventsAtDescriptor, {.index = 7});
  CHECK(pair.serve(1));
  pair.driver.set_events(3);
  CHECK(pair.serve(1));
}

TEST_CASE("in a packed queue with EVENT_IDX one interrupt is due until the driver has looked") {
  PackedPair pair(8, Feature::EventIdx);
  (void)pair.offer(3);
  CHECK(pair.serve(1));
  CHECK_FALSE(pair.serve(1));
  CHECK(pair.driver.take_used());
  CHECK(pair.driver.take_used());
  CHECK(pair.serve(1));
}

TEST_CASE(
    "in a packed queue the interrupt comes with the batch that passes the event, over the wrap") {
  PackedPair pair(10, Feature::EventIdx, {.next_avail = 7, .next_used = 7});
  (void)pair.offer(10);
  pair.driver.interrupt_after(6);
  CHECK_FALSE(pair.serve(5));
  CHECK(pair.serve(2));
  CHECK_FALSE(pair.serve(3));
}

TEST_CASE("the event of a packed queue counts descriptors, not chains") {
  PackedPair pair(10, Feature::EventIdx);
  (void)pair.offer_long(4);
  (void)pair.offer_long(4);
  pair.driver.set_events(packed::kEventsAtDescriptor, {.index = 6});
  CHECK_FALSE(pair.serve(1));
  CHECK(pair.serve(1));
}

TEST_CASE("a full packed ring that is completed at once asks for an interrupt") {
  const auto size = GENERATE(as<uint16_t>{}, 1, 2, 63, 1024);
  PackedPair pair(size, Feature::EventIdx);
  CHECK(pair.offer(size));
  CHECK(pair.serve(size));
  CHECK(pair.driver.used_index() == size);
}

}  // namespace
}  // namespace ringlet
