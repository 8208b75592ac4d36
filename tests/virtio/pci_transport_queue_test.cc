// Tests of queues as the PCI transport programs, enables and resets them, and of device resets.
#include <linux/virtio_pci.h>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

// Programming ---------------------------------------------------------------------------------

TEST_CASE("a queue size must be a power of two and no more than was offered") {
  FakeMachine machine({16});
  const auto size = [&](uint64_t value) {
    machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, value);
    return machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2);
  };
  CHECK(size(8) == 8);
  CHECK(size(0) == 8);
  CHECK(size(3) == 8);
  CHECK(size(32) == 8);
  CHECK(size(65535) == 8);
  CHECK(size(1) == 1);
  CHECK(size(16) == 16);
}

TEST_CASE("a queue that is enabled cannot be changed or disabled") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.select_queue(QueueIndex(0));
  const auto address = machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x5000);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 16);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == address);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1);
}

TEST_CASE("only a 1 enables a queue") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 0);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1);
}

TEST_CASE("a queue that is smaller than offered works") {
  FakeMachine machine({256});
  machine.start_now({}, 2);
  machine.offer(0, 2);
  machine.run();
  CHECK(machine.take_used(0) == 2);
}

TEST_CASE("a queue may be enabled after DRIVER_OK") {
  FakeMachine machine;
  machine.driver.negotiate(Feature::Version1);
  machine.driver.driver_ok();
  machine.run();
  SplitDriverQueue queue(machine.heap, 16, {});
  machine.driver.enable_queue(QueueIndex(1), queue.config(), PciDriver::kNoVector);
  machine.run();
  const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
  queue.add(chain);
  CHECK(queue.publish());
  machine.driver.kick(QueueIndex(1));
  machine.run();
  CHECK(queue.take_used());
}

// Queue reset (2.6.1) -------------------------------------------------------------------------

TEST_CASE("a queue reset is done when the queue's last chain has come home") {
  FakeMachine machine;
  machine.hold = true;
  machine.start_now();
  machine.offer(0, 2);
  machine.offer(1, 1);
  machine.run();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1);
  CHECK(machine.events.back() == "cancel 0");
  machine.give_back(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 0);
  CHECK(machine.queues[0]->used_index() == 0);
  CHECK(machine.held.size() == 1);
}

TEST_CASE("a queue that was reset has its default registers") {
  FakeMachine machine({64});
  machine.start_now({}, 16);
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 64);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_AVAILLO, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_USEDLO, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
}

TEST_CASE("a queue that was reset is enabled again, with another size") {
  FakeMachine machine;
  machine.start_now();
  machine.offer(0, 5);
  machine.run();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  REQUIRE(machine.driver.queue_reset_done(QueueIndex(0)));
  machine.queues[0] = make_driver_queue(machine.heap, 8, machine.negotiated);
  CHECK(machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
  machine.run();
  machine.offer(0, 8);
  machine.run();
  CHECK(machine.take_used(0) == 8);
}

TEST_CASE("the other queues work on while one is reset") {
  FakeMachine machine;
  machine.hold = true;
  machine.start_now();
  machine.offer(0, 1);
  machine.run();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  machine.hold = false;
  machine.offer(1, 3);
  machine.run();
  CHECK(machine.take_used(1) == 3);
  machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.held.size() == 1);
}

TEST_CASE("a queue reset needs RING_RESET and an enabled queue") {
  FakeMachine machine;
  machine.start_now(Feature::RingReset);
  machine.driver.start_queue_reset(QueueIndex(0));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1);
  FakeMachine other;
  other.driver.negotiate(Features(Feature::Version1) | Feature::RingReset);
  other.driver.driver_ok();
  other.driver.start_queue_reset(QueueIndex(0));
  CHECK(other.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
}

TEST_CASE("a queue reset before DRIVER_OK is done at once") {
  FakeMachine machine;
  machine.driver.negotiate(Features(Feature::Version1) | Feature::RingReset);
  SplitDriverQueue queue(machine.heap, 16, {});
  machine.driver.enable_queue(QueueIndex(0), queue.config(), PciDriver::kNoVector);
  machine.driver.start_queue_reset(QueueIndex(0));
  CHECK(machine.driver.queue_reset_done(QueueIndex(0)));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
}

TEST_CASE("a device reset during a queue reset ends both") {
  FakeMachine machine;
  machine.hold = true;
  machine.start_now();
  machine.offer(0, 2);
  machine.run();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 15);
  machine.give_back();
  machine.run();
  CHECK(machine.driver.status() == 0);
  machine.hold = false;
  machine.start_now();
  machine.offer(0, 3);
  machine.run();
  CHECK(machine.take_used(0) == 3);
}

// Device reset (2.4) --------------------------------------------------------------------------

TEST_CASE("the status keeps its value until the loop has drained") {
  FakeMachine machine;
  machine.hold = true;
  machine.start_now();
  machine.offer(0, 3);
  machine.offer(1, 1);
  machine.run();
  machine.driver.start_reset();
  CHECK(machine.driver.status() == 15);
  machine.run();
  CHECK(machine.driver.status() == 15);
  machine.give_back_first();
  machine.give_back_first();
  machine.give_back_first();
  machine.run();
  CHECK(machine.driver.status() == 15);
  machine.give_back_first();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.queues[0]->used_index() == 0);
  CHECK(machine.queues[1]->used_index() == 0);
  CHECK(machine.driver.take_interrupts(1) == 0);
}

TEST_CASE("writes during a reset are ignored") {
  FakeMachine machine;
  machine.hold = true;
  machine.start_now();
  machine.offer(0, 1);
  machine.run();
  machine.driver.start_reset();
  machine.driver.add_status(status::kFailed);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
  machine.driver.start_reset();
  CHECK(machine.driver.status() == 15);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SELECT, 2) == 0);
  machine.give_back();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.events.back() == "reset");
}

TEST_CASE("a reset brings all registers back") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_MSIX, 2) == 0xffff);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_GF, 4) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 16);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
}

TEST_CASE("a reset before DRIVER_OK is done at once") {
  FakeMachine machine;
  machine.driver.negotiate(Feature::Version1);
  machine.driver.start_reset();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_GF, 4) == 0);
}

TEST_CASE("a reset before DRIVER_OK takes back what was written into the configuration") {
  FakeMachine machine;
  machine.change_traits().config_writable.assign(8, std::byte{0xf0});
  machine.driver.negotiate(Feature::Version1);
  machine.driver.set_device_config(0, 1, 0xff);
  CHECK(machine.driver.device_config(0, 1) == 0xf1);
  machine.driver.start_reset();
  CHECK(machine.driver.device_config(0, 1) == 1);
  machine.run();
  CHECK(machine.configs.back().front() == std::byte{1});
}

}  // namespace
}  // namespace ringlet
