// Tests of the virtio PCI transport: capabilities, registers by every width, negotiation, status.
#include "virtio/pci_transport.h"

#include <linux/virtio_pci.h>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

constexpr uint8_t kAcknowledge = status::kAcknowledge;
constexpr uint8_t kDriver = status::kDriver;
constexpr uint8_t kFeaturesOk = status::kFeaturesOk;
constexpr uint8_t kDriverOk = status::kDriverOk;

// Capabilities (4.1.4) ------------------------------------------------------------------------

TEST_CASE("the capabilities name BAR 0, aligned and apart from each other") {
  FakeMachine machine;
  const auto& common = machine.driver.common_structure();
  const auto& device = machine.driver.device_structure();
  const auto& notify = machine.driver.notify_structure();
  CHECK(common.bar == 0);
  CHECK(common.offset == 0);
  CHECK(common.length == 64);
  CHECK(device.offset == 0x2000);
  CHECK(device.length == 8);
  CHECK(notify.offset == 0x3000);
  CHECK(notify.length == 8);
  CHECK(machine.driver.window_capability() != 0);
  CHECK(machine.driver.msix_capability() != 0);
  CHECK(machine.driver.msix_table() == 0x4000);
}

TEST_CASE("the identity is that of a modern device of its type") {
  FakeMachine machine;
  CHECK(machine.driver.config_read(0x00, 2) == 0x1af4);
  CHECK(machine.driver.config_read(0x02, 2) == 0x1044);
  CHECK(machine.driver.config_read(0x08, 1) == 1);
  CHECK(machine.driver.config_read(0x2e, 2) == 0x44);
}

TEST_CASE("a device without configuration has no capability for it") {
  FakeDevice device({16}, 0);
  PciMachine machine(device, {});
  CHECK(machine.driver.device_structure().capability == 0);
}

TEST_CASE("there is a vector for each queue and one for the configuration") {
  FakeMachine machine({8, 8, 8});
  const auto control = static_cast<uint16_t>(machine.driver.msix_capability() + 2);
  CHECK((machine.driver.config_read(control, 2) & 0x7ff) == 3);
}

// Registers (4.1.4.3) -------------------------------------------------------------------------

TEST_CASE("registers have their reset values") {
  FakeMachine machine({16, 32});
  const auto reg = [&](uint64_t offset, size_t width) {
    return machine.driver.common(offset, width);
  };
  CHECK(reg(VIRTIO_PCI_COMMON_DFSELECT, 4) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_GFSELECT, 4) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_GF, 4) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_MSIX, 2) == 0xffff);
  CHECK(reg(VIRTIO_PCI_COMMON_NUMQ, 2) == 2);
  CHECK(reg(VIRTIO_PCI_COMMON_STATUS, 1) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_SELECT, 2) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 16);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_NOFF, 2) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_AVAILLO, 8) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_USEDLO, 8) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_NDATA, 2) == 0);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
  machine.driver.select_queue(QueueIndex(1));
  CHECK(reg(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 32);
  CHECK(reg(VIRTIO_PCI_COMMON_Q_NOFF, 2) == 1);
}

TEST_CASE("an address is written as one, as two halves, or byte by byte") {
  const auto width = GENERATE(as<size_t>{}, 1, 2, 4, 8);
  FakeMachine machine;
  constexpr uint64_t kAddress = 0x1122'3344'5566'7788;
  for (uint64_t at = 0; at < 8; at += width) {
    machine.driver.set_common(VIRTIO_PCI_COMMON_Q_AVAILLO + at, width, kAddress >> (8 * at));
  }
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_AVAILLO, 8) == kAddress);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_AVAILHI, 4) == 0x11223344);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_AVAILLO + 3, 1) == 0x55);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCHI, 8) == 0x5566778800000000);
}

TEST_CASE("accesses across registers give each its part") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 4, 0x0001'0008);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 8);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_MSIX, 4) == 0x0002ffff);
}

TEST_CASE("read-only registers stay as they are") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_DF, 4, 0xffffffff);
  machine.driver.set_common(VIRTIO_PCI_COMMON_NUMQ, 2, 77);
  machine.driver.set_common(VIRTIO_PCI_COMMON_CFGGENERATION, 1, 77);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_NOFF, 2, 77);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_NUMQ, 2) == 2);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_NOFF, 2) == 0);
}

TEST_CASE("what lies behind the registers reads as ones and is written in vain") {
  FakeMachine machine;
  machine.driver.bar_write(64, 8, 0);
  CHECK(machine.driver.bar_read(64, 4) == 0xffffffff);
  CHECK(machine.driver.bar_read(0xffc, 4) == 0xffffffff);
  CHECK(machine.driver.bar_read(0x7ffc, 4) == 0xffffffff);
  CHECK(machine.driver.bar_read(0x3000, 4) == 0xffffffff);
  CHECK(machine.driver.bar_read(60, 8) == 0xffffffff00000000);
}

TEST_CASE("a queue that is not there reads as zero and cannot be changed") {
  const auto index = GENERATE(as<uint16_t>{}, 2, 100, 65535);
  FakeMachine machine({16, 16});
  machine.driver.select_queue(QueueIndex(index));
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x1000);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SELECT, 2) == index);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_RESET, 2) == 0);
}

// Negotiation ---------------------------------------------------------------------------------

TEST_CASE("features are offered in halves, and above them there are none") {
  FakeMachine machine;
  CHECK(machine.driver.offered().bits() == 0x105'3000'0000);
  machine.driver.set_common(VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_DF, 4) == 0);
  machine.driver.set_common(VIRTIO_PCI_COMMON_DFSELECT, 4, 0xffffffff);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_DF, 4) == 0);
}

TEST_CASE("any subset of what is offered is accepted, with VERSION_1") {
  const auto extra = GENERATE(Features(), Features(Feature::IndirectDesc),
                              Features(Feature::EventIdx) | Feature::RingReset);
  FakeMachine machine;
  CHECK(machine.driver.negotiate(extra | Feature::Version1));
  CHECK(machine.driver.status() == (kAcknowledge | kDriver | kFeaturesOk));
}

TEST_CASE("features that were not offered are refused") {
  const auto wanted =
      GENERATE(Features(Feature::NotificationData), Features(Feature::AccessPlatform), Features(1),
               Features(Feature::InOrder), Features(uint64_t{1} << 63));
  FakeMachine machine;
  CHECK_FALSE(machine.driver.negotiate(wanted | Feature::Version1));
  CHECK(machine.driver.status() == (kAcknowledge | kDriver));
}

TEST_CASE("features above 63 are refused") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
  machine.driver.set_common(VIRTIO_PCI_COMMON_GF, 4, 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_GF, 4) == 0);
  CHECK_FALSE(machine.driver.negotiate(Feature::Version1));
  machine.driver.start_reset();
  CHECK(machine.driver.negotiate(Feature::Version1));
}

TEST_CASE("a driver without VERSION_1 is refused, and may try again") {
  FakeMachine machine;
  CHECK_FALSE(machine.driver.negotiate(Feature::EventIdx));
  machine.driver.write_features(Feature::Version1);
  machine.driver.add_status(kFeaturesOk);
  CHECK(machine.driver.status() == (kAcknowledge | kDriver | kFeaturesOk));
}

TEST_CASE("features cannot be changed once they are accepted") {
  FakeMachine machine;
  machine.driver.negotiate(Feature::Version1);
  machine.driver.write_features(Features(Feature::Version1) | Feature::EventIdx);
  machine.driver.driver_ok();
  machine.run();
  CHECK(machine.accepted == Features(Feature::Version1));
}

TEST_CASE("the features that were accepted reach the device") {
  FakeMachine machine;
  machine.start_now(Feature::EventIdx);
  CHECK(machine.accepted.has(Feature::IndirectDesc));
  CHECK(machine.accepted.has(Feature::RingReset));
  CHECK_FALSE(machine.accepted.has(Feature::EventIdx));
}

// Status (2.1, 3.1.1) -------------------------------------------------------------------------

TEST_CASE("each status bit needs those before it") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, kDriver);
  CHECK(machine.driver.status() == 0);
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, kAcknowledge);
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, kAcknowledge | kFeaturesOk);
  CHECK(machine.driver.status() == kAcknowledge);
  machine.driver.add_status(kDriver);
  machine.driver.add_status(kDriverOk);
  CHECK(machine.driver.status() == (kAcknowledge | kDriver));
  machine.run();
  CHECK(machine.events.empty());
}

TEST_CASE("several status bits may come at once") {
  FakeMachine machine;
  machine.driver.write_features(Feature::Version1);
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, 15);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("DRIVER_OK does not get past refused features") {
  FakeMachine machine;
  machine.driver.write_features(Feature::EventIdx);
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, 15);
  CHECK(machine.driver.status() == (kAcknowledge | kDriver));
  machine.run();
  CHECK(machine.events.empty());
}

TEST_CASE("status bits cannot be taken back but by a reset") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, kAcknowledge);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("FAILED is kept, and the driver cannot set NEEDS_RESET or unknown bits") {
  FakeMachine machine;
  machine.driver.set_common(VIRTIO_PCI_COMMON_STATUS, 1, 0xf0);
  CHECK(machine.driver.status() == status::kFailed);
}

// Device configuration ------------------------------------------------------------------------

TEST_CASE("the device's configuration is read by any width") {
  FakeMachine machine;
  CHECK(machine.driver.device_config(0, 1) == 0x01);
  CHECK(machine.driver.device_config(1, 2) == 0x0302);
  CHECK(machine.driver.device_config(4, 4) == 0x08070605);
  CHECK(machine.driver.device_config(0, 8) == 0x0807060504030201);
  CHECK(machine.driver.device_config(6, 4) == 0x0807);
}

TEST_CASE("only the bits that the device lets be written are") {
  FakeDevice device;
  device.change_traits().config_writable[2] = std::byte{0x0f};
  PciMachine machine(device, {});
  machine.driver.set_device_config(0, 8, UINT64_MAX);
  CHECK(machine.driver.device_config(0, 8) == 0x08070605040f0201);
  machine.loop.run_until_idle();
  REQUIRE(device.configs.size() == 1);
  CHECK(device.configs[0][2] == std::byte{0x0f});
}

TEST_CASE("the generation moves with each change that the driver reads") {
  FakeMachine machine;
  machine.start_now();
  const std::array<std::byte, 2> bytes{std::byte{0xaa}, std::byte{0xbb}};
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 0);
  for (int i = 0; i < 256; ++i) machine.host->change_config(4, bytes);
  CHECK(machine.driver.device_config(4, 2) == 0xbbaa);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 1);
  CHECK(machine.driver.device_config(0, 4) == 0x04030201);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 1);
  machine.host->change_config(4, bytes);
  CHECK(machine.driver.device_config(0, 1) == 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_CFGGENERATION, 1) == 2);
  machine.run();
  CHECK(machine.driver.take_interrupts(0) == 1);
}

}  // namespace
}  // namespace ringlet
