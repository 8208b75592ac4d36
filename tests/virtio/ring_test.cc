// Tests of the split virtqueue's wire format.
#include "virtio/ring.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

TEST_CASE("the three parts of a ring have the sizes that the specification gives") {
  CHECK(ring::descriptor_table_size(256) == 4096);
  CHECK(ring::avail_ring_size(256) == 518);
  CHECK(ring::used_ring_size(256) == 2054);
  CHECK(ring::used_event(256) == 516);
  CHECK(ring::avail_event(256) == 2052);
}

TEST_CASE("an event is due when the index moves over it") {
  CHECK(ring::need_event(0, 1, 0));
  CHECK(ring::need_event(4, 5, 4));
  CHECK_FALSE(ring::need_event(5, 5, 4));
  CHECK_FALSE(ring::need_event(3, 5, 4));
}

TEST_CASE("an event is due when several entries at once move over it") {
  CHECK(ring::need_event(10, 20, 10));
  CHECK(ring::need_event(15, 20, 10));
  CHECK(ring::need_event(19, 20, 10));
  CHECK_FALSE(ring::need_event(20, 20, 10));
  CHECK_FALSE(ring::need_event(9, 20, 10));
}

TEST_CASE("events are found across the wrap of the index") {
  CHECK(ring::need_event(65535, 0, 65535));
  CHECK(ring::need_event(65534, 2, 65530));
  CHECK(ring::need_event(1, 2, 65530));
  CHECK_FALSE(ring::need_event(2, 2, 65530));
  CHECK_FALSE(ring::need_event(65529, 2, 65530));
}

TEST_CASE("no event is due when the index did not move") {
  CHECK_FALSE(ring::need_event(7, 8, 8));
  CHECK_FALSE(ring::need_event(8, 8, 8));
}

}  // namespace
}  // namespace ringlet
