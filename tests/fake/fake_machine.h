// A device without a purpose, in a machine of its own.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/fake/fake_device.h"
#include "tests/fake/pci_machine.h"

namespace ringlet {

struct FakeMachine : FakeDevice, PciMachine {
  explicit FakeMachine(std::vector<uint16_t> sizes = {16, 16},
                       const SimulatedLoop::Options& loop_options = {})
      : FakeDevice(std::move(sizes)), PciMachine(*this, loop_options) {}
  ~FakeMachine() override { give_back(); }

  /// start(), and the device knows of it.
  void start_now(Features without = {}, uint16_t queue_size = 16) {
    start(without, queue_size);
    loop.run_until_idle();
  }
  /// Makes `count` chains of one writable descriptor available. Kicks if that is wanted.
  void offer(uint16_t queue, unsigned count = 1) {
    const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
    for (unsigned i = 0; i < count; ++i) REQUIRE(queues[queue]->add(chain));
    kick(queue);
  }
  /// How many used elements were there.
  unsigned take_used(uint16_t queue) {
    unsigned count = 0;
    while (queues[queue]->take_used()) ++count;
    return count;
  }
  void run() { loop.run_until_idle(); }
};

}  // namespace ringlet
