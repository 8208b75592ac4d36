// Tests of the transport's interrupts: MSI-X vectors, the ISR, INTx.
#include <linux/virtio_pci.h>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

constexpr std::array<std::byte, 1> kByte{std::byte{7}};

/// Brings the device up with INTx only.
void start_without_msix(FakeMachine& machine) {
  machine.negotiated = Features(Feature::Version1) | Feature::EventIdx;
  machine.driver.negotiate(machine.negotiated);
  machine.queues.push_back(make_driver_queue(machine.heap, 16, machine.negotiated));
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), PciDriver::kNoVector);
  machine.driver.driver_ok();
  machine.run();
}

uint32_t interrupt_status(const FakeMachine& machine) {
  return machine.driver.config_read(kConfigStatus, 2) >> 3 & 1;
}

// MSI-X ---------------------------------------------------------------------------------------

TEST_CASE("a vector that does not exist reads back as NO_VECTOR") {
  FakeMachine machine({16});
  machine.driver.enable_msix();
  CHECK(machine.driver.set_config_vector(1));
  CHECK_FALSE(machine.driver.set_config_vector(2));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_MSIX, 2) == 0xffff);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0xfffe);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
}

TEST_CASE("a vector that the host cannot give reads back as NO_VECTOR") {
  FakeMachine machine({16});
  machine.driver.enable_msix();
  machine.interrupts.msi_left = 1;
  CHECK(machine.driver.set_config_vector(0));
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0);
}

TEST_CASE("events are mapped to any vector, also to the same one, and unmapped") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.select_queue(QueueIndex(0));
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.take_interrupts(2) == 1);
  machine.driver.set_config_vector(2);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.take_interrupts(2) == 1);
  machine.driver.select_queue(QueueIndex(0));
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, PciDriver::kNoVector);
  (void)machine.take_used(0);
  machine.offer(0);
  machine.run();
  CHECK(machine.take_used(0) == 1);
  CHECK(machine.driver.take_interrupts(0) == 0);
  CHECK(machine.driver.take_interrupts(1) == 0);
  CHECK(machine.driver.take_interrupts(2) == 0);
}

TEST_CASE("an interrupt behind a mask comes when the mask goes") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.mask_vector(1, true);
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.take_interrupts(1) == 0);
  CHECK(machine.driver.bar_read(0x5000, 8) == 2);
  machine.driver.mask_vector(1, false);
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.driver.bar_read(0x5000, 8) == 0);
  (void)machine.take_used(0);
  machine.driver.mask_function(true);
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.take_interrupts(1) == 0);
  machine.driver.mask_function(false);
  CHECK(machine.driver.take_interrupts(1) == 1);
}

TEST_CASE("a reset forgets the interrupts that wait behind a mask") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.mask_vector(1, true);
  machine.offer(0);
  machine.run();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  machine.driver.mask_vector(1, false);
  CHECK(machine.driver.take_interrupts(1) == 0);
}

TEST_CASE("with MSI-X a used buffer leaves the ISR alone, a configuration change does not") {
  FakeMachine machine;
  machine.start_now();
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.driver.read_isr() == 0);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.read_isr() == 2);
  CHECK(interrupt_status(machine) == 0);
  CHECK_FALSE(machine.interrupts.levels[0]->take_raised());
}

// INTx ----------------------------------------------------------------------------------------

TEST_CASE("without MSI-X the line is raised, the ISR tells why, and reading clears it") {
  FakeMachine machine;
  start_without_msix(machine);
  machine.offer(0);
  machine.run();
  CHECK(machine.interrupts.levels[0]->take_raised());
  CHECK(interrupt_status(machine) == 1);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.read_isr() == 3);
  CHECK(machine.driver.read_isr() == 0);
  CHECK(interrupt_status(machine) == 0);
}

TEST_CASE("only its own byte is the ISR") {
  FakeMachine machine;
  start_without_msix(machine);
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.bar_read(0x1001, 1) == 0);
  CHECK(machine.driver.bar_read(0x1004, 4) == 0);
  CHECK(machine.driver.bar_read(0x1000, 4) == 1);
  CHECK(machine.driver.read_isr() == 0);
}

TEST_CASE("the line is raised again at the end of interrupt while there is a reason") {
  FakeMachine machine;
  start_without_msix(machine);
  FakeLevelLine& line = *machine.interrupts.levels[0];
  machine.offer(0);
  machine.run();
  CHECK(line.take_raised());
  line.end_of_interrupt();
  machine.run();
  CHECK(line.take_raised());
  CHECK(machine.driver.read_isr() == 1);
  line.end_of_interrupt();
  machine.run();
  CHECK_FALSE(line.take_raised());
}

TEST_CASE("a line acknowledged while a reset comes to its end is not raised again") {
  FakeMachine machine;
  start_without_msix(machine);
  machine.offer(0);
  machine.run();
  FakeLevelLine& line = *machine.interrupts.levels[0];
  CHECK(line.take_raised());
  machine.driver.start_reset();
  machine.loop.step();
  CHECK(machine.driver.status() == 15);
  line.end_of_interrupt();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK_FALSE(line.take_raised());
}

TEST_CASE("a disabled line stays low, and is raised when it is enabled") {
  FakeMachine machine;
  start_without_msix(machine);
  FakeLevelLine& line = *machine.interrupts.levels[0];
  const uint32_t command = machine.driver.config_read(kConfigCommand, 2);
  machine.driver.config_write(kConfigCommand, 2, command | PciCommand::kIntxDisable);
  machine.offer(0);
  machine.run();
  CHECK_FALSE(line.take_raised());
  CHECK(interrupt_status(machine) == 1);
  machine.driver.config_write(kConfigCommand, 2, command);
  machine.run();
  CHECK(line.take_raised());
  CHECK(machine.driver.read_isr() == 1);
}

TEST_CASE("the line is connected once it can be used, and not for a driver with MSI-X") {
  FakeMachine machine;
  machine.start_now();
  FakeLevelLine& line = *machine.interrupts.levels[0];
  machine.offer(0);
  machine.run();
  CHECK_FALSE(line.connected);
  const uint32_t command = machine.driver.config_read(kConfigCommand, 2);
  machine.driver.config_write(kConfigCommand, 2, command | PciCommand::kIntxDisable);
  machine.driver.disable_msix();
  CHECK_FALSE(line.connected);
  machine.driver.config_write(kConfigCommand, 2, command);
  CHECK(line.connected);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(line.take_raised());
}

TEST_CASE("enabling the line with nothing pending raises nothing") {
  FakeMachine machine;
  start_without_msix(machine);
  FakeLevelLine& line = *machine.interrupts.levels[0];
  const uint32_t command = machine.driver.config_read(kConfigCommand, 2);
  machine.driver.config_write(kConfigCommand, 2, command | PciCommand::kIntxDisable);
  machine.driver.config_write(kConfigCommand, 2, command);
  machine.run();
  CHECK_FALSE(line.take_raised());
  CHECK(machine.driver.read_isr() == 0);
}

TEST_CASE("a reset clears the ISR") {
  FakeMachine machine;
  start_without_msix(machine);
  machine.offer(0);
  machine.run();
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(interrupt_status(machine) == 0);
  CHECK(machine.driver.read_isr() == 0);
}

}  // namespace
}  // namespace ringlet
