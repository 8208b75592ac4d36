// Tests of a device whose queues are dealt out to several loops.
#include "virtio/runners.h"

#include <algorithm>
#include <array>
#include <memory>
#include <thread>

#include <catch2/catch.hpp>

#include "kvm/uring_loop.h"
#include "tests/fake/fake_device.h"
#include "tests/fake/pci_machine.h"

namespace ringlet {
namespace {

constexpr std::array<Segment, 1> kChain{{{GuestAddr(0x1000), 64, true}}};

struct Flag final : Task {
  void run() noexcept override { raised = true; }
  bool raised = false;
};

struct PartOfDevice : FakeDevice {
  explicit PartOfDevice(size_t queues) : FakeDevice(std::vector<uint16_t>(queues, 16)) {
    change_traits().config_writable[0] = std::byte{0xff};
  }
};

/// A device with four queues in two parts, each on a loop that turns when the test wants it to.
struct TwoLoops {
  TwoLoops() { machine.start(); }
  ~TwoLoops() {
    for (PartOfDevice* device : {&first, &second}) device->give_back();
    other_loop.drain();
  }

  void offer(uint16_t queue) {
    REQUIRE(machine.queues[queue]->add(kChain));
    machine.kick(queue);
  }
  void run() {
    // What one loop posts to the other is done as well.
    for (int i = 0; i < 3; ++i) {
      machine.loop.run_until_idle();
      other_loop.run_until_idle();
    }
  }

  PartOfDevice first{4};
  PartOfDevice second{4};
  SimulatedLoop other_loop;
  const DevicePart other{.device = second, .loop = other_loop};
  PciMachine machine{first, {}, nullptr, {&other, 1}};
};

TEST_CASE("each part of a device serves its share of the queues") {
  TwoLoops two;
  two.run();
  for (uint16_t queue = 0; queue < 4; ++queue) two.offer(queue);
  two.run();
  CHECK(two.first.handled == std::vector<uint16_t>{0, 2});
  CHECK(two.second.handled == std::vector<uint16_t>{1, 3});
  for (const auto& queue : two.machine.queues) CHECK(queue->take_used());
  CHECK(two.machine.transport.counts().chains == 4);
  CHECK(two.first.host->serves(QueueIndex(2)));
  CHECK_FALSE(two.second.host->serves(QueueIndex(2)));
}

TEST_CASE("a reset is done when each part has done it") {
  TwoLoops two;
  two.second.hold = true;
  two.run();
  two.offer(1);
  two.run();
  two.machine.driver.start_reset();
  two.run();
  CHECK(two.first.events.back() == "reset");
  CHECK(two.second.events.back() == "cancel 1");
  CHECK(two.machine.driver.status() != 0);
  two.second.give_back();
  two.run();
  CHECK(two.second.events.back() == "reset");
  CHECK(two.machine.driver.status() == 0);
}

TEST_CASE("the queues of one part are reset while the other works on") {
  TwoLoops two;
  two.second.hold = true;
  two.run();
  two.offer(3);
  two.run();
  two.machine.driver.start_queue_reset(QueueIndex(3));
  two.offer(0);
  two.run();
  CHECK(two.first.handled == std::vector<uint16_t>{0});
  CHECK(two.second.events.back() == "cancel 3");
  CHECK_FALSE(two.machine.driver.queue_reset_done(QueueIndex(3)));
  two.second.give_back();
  two.run();
  CHECK(two.machine.driver.queue_reset_done(QueueIndex(3)));
}

TEST_CASE("where one part fails the whole device does, until the reset") {
  TwoLoops two;
  SECTION("while all are at work") {
    two.run();
  }
  SECTION("before another has begun") {
    two.other_loop.run_until_idle();
  }
  two.second.host->fail("the driver went mad");
  CHECK((two.machine.driver.status() & status::kNeedsReset) != 0);
  two.run();
  two.offer(0);
  two.run();
  CHECK(two.first.handled.empty());
  two.machine.driver.start_reset();
  two.run();
  two.machine.start();
  two.offer(0);
  two.run();
  CHECK(two.first.handled == std::vector<uint16_t>{0});
}

TEST_CASE(
    "a failure counts for the life that it happened in, however late or early it is heard of") {
  TwoLoops two;
  SECTION("a part fails as it comes up, before the other has heard of that") {
    two.run();
    two.machine.driver.start_reset();
    two.run();
    two.second.on_activate = [&] { two.second.host->fail("it cannot"); };
    two.machine.loop.run_until_idle();
    two.machine.start();
    two.other_loop.run_until_idle();
    CHECK((two.machine.driver.status() & status::kNeedsReset) != 0);
    two.offer(0);
    two.run();
    CHECK(two.first.handled.empty());
  }
  SECTION("one of an earlier life does not") {
    two.run();
    two.second.host->fail("the driver went mad");
    two.machine.driver.start_reset();
    two.run();
    two.machine.start();
    two.run();
    two.offer(0);
    two.offer(1);
    two.run();
    CHECK(two.first.handled.size() == 1);
    CHECK(two.second.handled.size() == 1);
  }
}

TEST_CASE("each part hears of the configuration that the driver wrote") {
  TwoLoops two;
  two.run();
  two.machine.driver.set_device_config(0, 1, 0x7f);
  two.run();
  REQUIRE(two.first.configs.size() == 1);
  CHECK(two.second.configs == two.first.configs);
}

TEST_CASE("a device is quiet when each part is, and carries on with all") {
  TwoLoops two;
  two.second.hold = true;
  two.run();
  two.offer(1);
  two.run();
  Flag quiet;
  two.machine.transport.quiesce(quiet);
  two.run();
  CHECK_FALSE(quiet.raised);
  two.second.give_back();
  two.run();
  CHECK(quiet.raised);
  two.second.hold = false;
  two.offer(0);
  two.offer(1);
  two.run();
  CHECK(two.second.handled.size() == 1);
  two.machine.transport.resume();
  two.run();
  CHECK(two.first.handled.size() == 1);
  CHECK(two.second.handled.size() == 2);
}

TEST_CASE("parts on threads of their own come up and are reset together, again and again") {
  constexpr unsigned kTimes = 200;
  PartOfDevice first{2};
  PartOfDevice second{2};
  UringLoop loop;
  UringLoop other_loop;
  const DevicePart other{.device = second, .loop = other_loop};
  GuestMemory memory(std::span(&PciBoard::kMemory, 1), {});
  GuestHeap heap(memory, {PciBoard::kHeapStart, 1 << 20});
  PciBoard board(first, loop, memory, {&other, 1});
  {
    const IoThread thread(loop, "one");
    const IoThread other_thread(other_loop, "other");
    PciDriver& driver = board.driver;
    driver.enable_msix();
    for (unsigned i = 0; i < kTimes; ++i) {
      REQUIRE(driver.negotiate(Features(Feature::Version1)));
      std::array<std::unique_ptr<SplitDriverQueue>, 2> queues;
      GuestHeap fresh = heap;
      for (uint16_t q = 0; q < queues.size(); ++q) {
        queues[q] = std::make_unique<SplitDriverQueue>(fresh, 16, Features(Feature::Version1));
        REQUIRE(queues[q]->add(kChain));
        (void)queues[q]->publish();
        REQUIRE(driver.enable_queue(QueueIndex(q), queues[q]->config(), static_cast<uint16_t>(q)));
      }
      driver.driver_ok();
      for (uint16_t q = 0; q < queues.size(); ++q) driver.kick(QueueIndex(q));
      driver.start_reset();
      while (driver.status() != 0) std::this_thread::yield();
    }
  }
  for (const PartOfDevice* device : {&first, &second}) {
    CHECK(std::ranges::count(device->events, "activate") == kTimes);
    CHECK(std::ranges::count(device->events, "reset") == kTimes);
    CHECK(device->handled.size() <= kTimes);
  }
}

}  // namespace
}  // namespace ringlet
