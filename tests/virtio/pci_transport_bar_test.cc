// Tests of the transport's BAR: doorbells as it moves, and the window from configuration space.
#include <linux/virtio_pci.h>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

// Doorbells -----------------------------------------------------------------------------------

TEST_CASE("doorbells are registered with DRIVER_OK, one for each enabled queue") {
  FakeMachine machine;
  CHECK(machine.doorbells.adds == 0);
  machine.start_now();
  CHECK(machine.doorbells.adds == 2);
  const uint64_t base = machine.driver.bar_base();
  CHECK(machine.doorbells.present.contains(GuestAddr(base + 0x3000)));
  CHECK(machine.doorbells.present.contains(GuestAddr(base + 0x3004)));
}

TEST_CASE("doorbells stay across resets") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.start_reset();
  machine.run();
  machine.start_now();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1);
  machine.run();
  CHECK(machine.doorbells.adds == 2);
  CHECK(machine.doorbells.removes == 0);
}

TEST_CASE("doorbells follow a BAR that moves while the device is live") {
  FakeMachine machine;
  machine.start_now();
  const uint64_t before = machine.driver.bar_base();
  machine.driver.move_bar(before + 0x10'0000);
  CHECK(machine.driver.bar_base() == before + 0x10'0000);
  CHECK_FALSE(machine.doorbells.ring(GuestAddr(before + 0x3000)));
  CHECK(machine.doorbells.present.size() == 2);
  machine.offer(0, 2);
  machine.run();
  CHECK(machine.take_used(0) == 2);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("doorbells go with the BAR when it is not decoded, and come back with it") {
  FakeMachine machine;
  machine.start_now();
  const uint32_t command = machine.driver.config_read(kConfigCommand, 2);
  machine.driver.config_write(kConfigCommand, 2, command & ~uint32_t{PciCommand::kMemory});
  CHECK(machine.doorbells.present.empty());
  machine.driver.config_write(kConfigCommand, 2, command);
  CHECK(machine.doorbells.present.size() == 2);
  machine.offer(1, 1);
  machine.run();
  CHECK(machine.take_used(1) == 1);
}

TEST_CASE("a BAR that moves before DRIVER_OK or during a reset takes its doorbells along later") {
  FakeMachine machine;
  const uint64_t base = machine.driver.bar_base();
  machine.driver.move_bar(base + 0x10'0000);
  CHECK(machine.doorbells.adds == 0);
  machine.hold = true;
  machine.start_now();
  machine.offer(0);
  machine.run();
  machine.driver.start_reset();
  machine.driver.move_bar(base + 0x20'0000);
  CHECK(machine.doorbells.present.empty());
  machine.give_back();
  machine.hold = false;
  machine.run();
  machine.start_now();
  CHECK(machine.doorbells.present.contains(GuestAddr(base + 0x20'3000)));
  machine.offer(0, 2);
  machine.run();
  CHECK(machine.take_used(0) == 2);
}

// The window (4.1.4.9) ------------------------------------------------------------------------

struct Window {
  explicit Window(FakeMachine& machine) : driver(machine.driver) {}
  void point(uint32_t bar, uint32_t offset, uint32_t length) const {
    driver.config_write(at(4), 1, bar);
    driver.config_write(at(8), 4, offset);
    driver.config_write(at(12), 4, length);
  }
  uint32_t read(size_t width) const { return driver.config_read(at(16), width); }
  void write(size_t width, uint32_t value) const { driver.config_write(at(16), width, value); }
  uint16_t at(unsigned offset) const {
    return static_cast<uint16_t>(driver.window_capability() + offset);
  }
  PciDriver& driver;
};

TEST_CASE("registers are read and written through the window, by 1, 2 and 4 bytes") {
  FakeMachine machine;
  const Window window(machine);
  window.point(0, VIRTIO_PCI_COMMON_NUMQ, 2);
  CHECK(window.read(2) == 2);
  window.point(0, VIRTIO_PCI_COMMON_STATUS, 1);
  window.write(1, 1);
  CHECK(window.read(1) == 1);
  CHECK(machine.driver.status() == 1);
  window.point(0, VIRTIO_PCI_COMMON_Q_DESCLO, 4);
  window.write(4, 0x12345670);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0x12345670);
  window.point(0, 0x2004, 4);
  CHECK(window.read(4) == 0x08070605);
}

TEST_CASE("a queue is kicked through the window, also while the BAR is not decoded") {
  FakeMachine machine;
  machine.start_now();
  const uint32_t command = machine.driver.config_read(kConfigCommand, 2);
  machine.driver.config_write(kConfigCommand, 2, command & ~uint32_t{PciCommand::kMemory});
  const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
  machine.queues[1]->add(chain);
  CHECK(machine.queues[1]->publish());
  const Window window(machine);
  window.point(0, 0x3004, 2);
  window.write(2, 1);
  machine.run();
  CHECK(machine.take_used(1) == 1);
}

TEST_CASE("the window reaches nothing when it is pointed astray") {
  FakeMachine machine;
  const Window window(machine);
  window.point(1, VIRTIO_PCI_COMMON_STATUS, 1);
  window.write(1, 1);
  window.point(0, VIRTIO_PCI_COMMON_STATUS, 0);
  window.write(1, 1);
  window.point(0, VIRTIO_PCI_COMMON_STATUS, 3);
  window.write(4, 1);
  window.point(0, 0x8000, 1);
  window.write(1, 1);
  CHECK(window.read(1) == 1);  // what was written last, kept like any other byte
  window.point(0, 0xffff'fffc, 4);
  window.write(4, 1);
  window.point(0, VIRTIO_PCI_COMMON_STATUS, 2);
  CHECK(machine.driver.status() == 0);
}

TEST_CASE(
    "an access to the window's data is of the width that was set, however wide it is itself") {
  FakeMachine machine;
  const Window window(machine);
  window.point(0, VIRTIO_PCI_COMMON_Q_DESCLO, 4);
  window.write(4, 0x11223344);
  machine.driver.config_write(window.at(17), 1, 0x99);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0x11229944);
  window.point(0, 0x2004, 4);
  CHECK(window.read(1) == 0x05);
  CHECK(machine.driver.config_read(window.at(18), 2) == 0x0807);
  // What was read stays there.
  window.point(0, 0, 0);
  CHECK(window.read(4) == 0x08070605);
}

TEST_CASE("a notification goes through the window by a write of any width") {
  FakeMachine machine;
  machine.start_now();
  const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
  machine.queues[1]->add(chain);
  CHECK(machine.queues[1]->publish());
  const Window window(machine);
  window.point(0, 0x3004, 2);
  window.write(4, 1);
  machine.run();
  CHECK(machine.take_used(1) == 1);
}

TEST_CASE("an access of the window to the ISR clears it") {
  FakeMachine machine;
  machine.start_now();
  const std::array<std::byte, 1> byte{std::byte{7}};
  machine.host->change_config(0, byte);
  const Window window(machine);
  window.point(0, 0x1000, 1);
  CHECK(window.read(1) == 2);
  CHECK(window.read(1) == 0);
}

}  // namespace
}  // namespace ringlet
