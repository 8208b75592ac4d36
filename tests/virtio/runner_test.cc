// Tests of a device's life on the loop: batches, fairness, kicks, the mailbox, isolation.
#include "virtio/runner.h"

#include <array>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

// Life ----------------------------------------------------------------------------------------

TEST_CASE("a device hears of its activation and its reset, once each, in order") {
  FakeMachine machine;
  machine.run();
  CHECK(machine.events.empty());
  machine.start_now();
  CHECK(machine.events == std::vector<std::string>{"attach", "activate"});
  CHECK(machine.accepted == machine.negotiated);
  machine.driver.start_reset();
  machine.run();
  machine.start_now();
  CHECK(machine.events == std::vector<std::string>{"attach", "activate", "reset", "activate"});
}

TEST_CASE("a reset that overtakes the activation still comes after it") {
  FakeMachine machine;
  machine.start();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.events == std::vector<std::string>{"attach", "activate", "reset"});
  CHECK(machine.driver.status() == 0);
}

TEST_CASE("chains that were available before DRIVER_OK are served without a kick") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.start_reset();
  machine.run();
  machine.driver.negotiate(machine.negotiated);
  machine.queues[0]->restart();
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1);
  const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
  machine.queues[0]->add(chain);
  (void)machine.queues[0]->publish();
  machine.run();
  CHECK(machine.handled.empty());
  machine.driver.driver_ok();
  machine.run();
  CHECK(machine.take_used(0) == 1);
}

TEST_CASE("a queue that was not enabled is left alone") {
  FakeMachine machine;
  machine.driver.enable_msix();
  machine.driver.negotiate(Feature::Version1);
  SplitDriverQueue queue(machine.heap, 16, {});
  machine.driver.enable_queue(QueueIndex(1), queue.config(), 2);
  machine.driver.driver_ok();
  machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.handled.empty());
  CHECK(machine.driver.status() == 15);
}

// Batches -------------------------------------------------------------------------------------

TEST_CASE("a batch ends with one store of the used index and one interrupt") {
  FakeMachine machine;
  machine.start_now();
  machine.offer(0, 10);
  machine.run();
  CHECK(machine.take_used(0) == 10);
  CHECK(machine.transport.counts().interrupts == 1);
  CHECK(machine.transport.counts().kicks == 1);
  CHECK(machine.transport.counts().chains == 10);
}

TEST_CASE("chains that come home in one turn later on share an interrupt, too") {
  FakeMachine machine;
  machine.hold = true;
  machine.start();
  machine.offer(0, 5);
  machine.run();
  CHECK(machine.transport.counts().interrupts == 0);
  machine.give_back();
  machine.run();
  CHECK(machine.take_used(0) == 5);
  CHECK(machine.transport.counts().interrupts == 1);
}

TEST_CASE("a device is told of the end of each drain") {
  FakeMachine machine;
  machine.start_now();
  const unsigned before = machine.batches;
  machine.offer(1, 7);
  machine.run();
  CHECK(machine.batches == before + 1);
}

TEST_CASE("a busy queue leaves the others their turn") {
  FakeMachine machine({1024, 16});
  machine.start({}, 1024);
  machine.queues[1] = make_driver_queue(machine.heap, 16, machine.negotiated);
  machine.run();
  machine.driver.start_reset();
  machine.run();
  machine.driver.negotiate(machine.negotiated);
  machine.queues[0]->restart();
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1);
  machine.driver.enable_queue(QueueIndex(1), machine.queues[1]->config(), 2);
  machine.driver.driver_ok();
  machine.run();
  machine.offer(0, 1000);
  machine.offer(1, 1);
  machine.run();
  CHECK(machine.take_used(0) == 1000);
  CHECK(machine.take_used(1) == 1);
  const auto other = std::ranges::find(machine.handled, uint16_t{1});
  CHECK(other - machine.handled.begin() <= 256);
}

TEST_CASE("a driver that never stops offering does not keep the loop in one turn") {
  FakeMachine machine;
  machine.start_now();
  // The same head again and again, each time as soon as it was popped.
  uint16_t index = 1;
  machine.on_handle = [&] {
    machine.split_queue().put_avail(index, 0);
    machine.split_queue().set_avail_index(++index);
  };
  machine.offer(0);
  machine.loop.step();
  machine.loop.step();
  CHECK(machine.handled.size() >= 128);
  CHECK(machine.handled.size() <= 512);
  machine.on_handle = nullptr;
  machine.run();
  CHECK(machine.driver.status() == 15);
}

// Kicks ---------------------------------------------------------------------------------------

TEST_CASE("no chain is left behind when the driver kicks only as it must") {
  const auto seed = GENERATE(range(1, 40));
  const auto without = GENERATE(Features(), Features(Feature::EventIdx));
  FakeMachine machine({16, 16}, {.seed = static_cast<uint64_t>(seed), .adversarial = true});
  machine.start(without);
  unsigned offered = 0;
  unsigned taken = 0;
  for (unsigned i = 0; i < 300; ++i) {
    const auto queue = static_cast<uint16_t>(i % 2);
    const unsigned free = machine.queues[queue]->free_descriptors();
    const unsigned count = std::min(free, (i * 7 + static_cast<unsigned>(seed)) % 5);
    machine.offer(queue, count);
    offered += count;
    machine.loop.step();
    taken += machine.take_used(queue);
  }
  machine.run();
  taken += machine.take_used(0) + machine.take_used(1);
  CHECK(taken == offered);
}

TEST_CASE("a kick that the host could not register arrives as an exit") {
  FakeMachine machine;
  machine.doorbells.refuse = true;
  machine.start_now();
  CHECK(machine.doorbells.present.empty());
  machine.offer(0, 3);
  machine.run();
  CHECK(machine.take_used(0) == 3);
}

TEST_CASE("kicks of a queue that is not live do nothing") {
  FakeMachine machine;
  machine.driver.kick(QueueIndex(0));
  machine.start_now();
  machine.driver.start_reset();
  machine.run();
  machine.driver.kick(QueueIndex(0));
  machine.driver.kick(QueueIndex(1));
  machine.run();
  CHECK(machine.handled.empty());
}

// The mailbox ---------------------------------------------------------------------------------

TEST_CASE("the mailbox keeps the last state, however much the guest writes") {
  FakeMachine machine;
  machine.change_traits().config_writable.assign(8, std::byte{0xff});
  machine.start_now();
  for (uint64_t i = 0; i < 10'000; ++i) machine.driver.set_device_config(0, 4, i);
  CHECK(machine.configs.empty());
  machine.run();
  CHECK(machine.configs.size() == 1);
  CHECK(machine.configs[0][0] == std::byte{0x0f});
  CHECK(machine.configs[0][1] == std::byte{0x27});
}

TEST_CASE("writes that change nothing are not told to the device") {
  FakeMachine machine;
  machine.start();
  machine.driver.set_device_config(0, 4, 0xffffffff);
  machine.run();
  CHECK(machine.configs.empty());
}

// Failures ------------------------------------------------------------------------------------

TEST_CASE("a broken queue ends its device with NEEDS_RESET and a configuration interrupt") {
  FakeMachine machine;
  machine.start_now();
  machine.split_queue().set_avail_index(1000);
  machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
  CHECK(machine.driver.take_interrupts(0) == 1);
  machine.offer(1);
  machine.run();
  CHECK(machine.handled.empty());
  CHECK(machine.transport.counts().failures == 1);
}

TEST_CASE("what a failed device still has out is given back") {
  FakeMachine machine;
  machine.hold = true;
  machine.start();
  machine.offer(1, 2);
  machine.run();
  machine.split_queue().set_avail_index(1000);
  machine.driver.kick(QueueIndex(0));
  machine.run();
  machine.give_back();
  machine.run();
  CHECK(machine.take_used(1) == 2);
}

TEST_CASE("a failed device works again after a reset") {
  FakeMachine machine;
  machine.start_now();
  machine.split_queue().set_avail_index(1000);
  machine.driver.kick(QueueIndex(0));
  machine.run();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  machine.start();
  machine.offer(0, 4);
  machine.run();
  CHECK(machine.take_used(0) == 4);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("a queue that cannot be ends its device, not the others on the loop") {
  FakeMachine machine;
  FakeDevice other;
  PciTransport second(other, {.interrupts = machine.interrupts,
                              .doorbells = machine.doorbells,
                              .loop = machine.loop,
                              .memory = machine.memory,
                              .pin = IntxPin::A,
                              .intx_gsi = Gsi(11)});
  machine.driver.negotiate(Feature::Version1);
  QueueConfig config;
  config.size = 16;
  config.descriptors = GuestAddr(0xfff'ffff'f000);
  machine.driver.enable_queue(QueueIndex(0), config, PciDriver::kNoVector);
  machine.driver.driver_ok();
  machine.run();
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
  CHECK(other.events.empty());
}

TEST_CASE("a host without room for a doorbell fails the device, and says so") {
  FakeMachine machine({16}, {.max_files = 0});
  machine.start_now();
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
}

TEST_CASE("a device that fails in the middle of a batch gets no more chains") {
  FakeMachine machine;
  machine.start_now();
  machine.on_handle = [&] {
    if (machine.handled.size() == 3) machine.host->fail("for the test");
  };
  machine.offer(0, 10);
  machine.run();
  CHECK(machine.handled.size() == 3);
  CHECK(machine.take_used(0) == 3);
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
}

}  // namespace
}  // namespace ringlet
