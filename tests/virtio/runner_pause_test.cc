// Tests of pausing a device on the loop.
#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"
#include "tests/fake/save_restore.h"

namespace ringlet {
namespace {

TEST_CASE("a quiesced device pops nothing until it is resumed, and loses nothing") {
  FakeMachine machine;
  machine.start_now();
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.run();
  CHECK(quiet.runs == 1);
  machine.offer(0, 3);
  machine.run();
  CHECK(machine.handled.empty());
  machine.transport.resume();
  machine.run();
  CHECK(machine.handled.size() == 3);
  CHECK(machine.queues[0]->used_index() == 3);
}

TEST_CASE("a device is quiet only when its last chain has come home and is published") {
  FakeMachine machine;
  machine.hold = true;
  machine.start();
  machine.offer(0, 2);
  machine.run();
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.run();
  CHECK(quiet.runs == 0);
  machine.give_back_first();
  machine.run();
  CHECK(quiet.runs == 0);
  machine.give_back_first();
  machine.run();
  CHECK(quiet.runs == 1);
  CHECK(machine.queues[0]->used_index() == 2);
}

TEST_CASE("a device that is being reset becomes quiet with the end of the reset") {
  FakeMachine machine;
  machine.hold = true;
  machine.start();
  machine.offer(0, 2);
  machine.run();
  machine.driver.start_reset();
  machine.run();
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.run();
  CHECK(quiet.runs == 0);
  CHECK(machine.driver.status() == 15);
  machine.give_back();
  machine.run();
  CHECK(quiet.runs == 1);
  CHECK(machine.driver.status() == 0);
}

TEST_CASE("a device may be activated, reset and reconfigured while it is quiesced") {
  FakeMachine machine;
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.start_now();
  machine.offer(0, 1);
  machine.run();
  CHECK(machine.handled.empty());
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  machine.start();
  machine.offer(0, 2);
  machine.run();
  machine.transport.resume();
  machine.run();
  CHECK(machine.handled.size() == 2);
}

}  // namespace
}  // namespace ringlet
