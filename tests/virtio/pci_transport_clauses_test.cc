// Tests of clauses of the PCI transport that need a device brought to a rare place: capabilities
// by their bytes, resets beside notifications, interrupts as pins and messages change.
#include <linux/virtio_pci.h>

#include <array>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/fake/fake_machine.h"

namespace ringlet {
namespace {

constexpr std::array<std::byte, 1> kByte{std::byte{7}};
constexpr std::array<Segment, 1> kChain{{{GuestAddr(0x1000), 64, true}}};

// Capabilities --------------------------------------------------------------------------------

struct VirtioCap {
  uint32_t type;
  uint32_t length;  // of the capability
  bool operator==(const VirtioCap&) const = default;
};

/// Those of vendor 0x09, in the list's order.
std::vector<VirtioCap> virtio_capabilities(const PciDriver& driver) {
  std::vector<VirtioCap> found;
  auto at = static_cast<uint16_t>(driver.config_read(kConfigCapabilities, 1));
  while (at != 0) {
    const uint32_t word = driver.config_read(at, 4);
    if ((word & 0xff) == 0x09) found.push_back({word >> 24, word >> 16 & 0xff});
    at = static_cast<uint16_t>(word >> 8 & 0xff);
  }
  return found;
}

TEST_CASE("there is one capability of each kind, and its length counts all of it") {
  FakeMachine machine;
  CHECK(virtio_capabilities(machine.driver) ==
        std::vector<VirtioCap>{{VIRTIO_PCI_CAP_COMMON_CFG, 16},
                               {VIRTIO_PCI_CAP_ISR_CFG, 16},
                               {VIRTIO_PCI_CAP_DEVICE_CFG, 16},
                               {VIRTIO_PCI_CAP_NOTIFY_CFG, 20},
                               {VIRTIO_PCI_CAP_PCI_CFG, 20}});
}

TEST_CASE("each queue's doorbell lies inside the notification structure") {
  FakeMachine machine({8, 8, 8, 8, 8});
  const auto& notify = machine.driver.notify_structure();
  const auto multiplier_at = static_cast<uint16_t>(notify.capability + 16);
  CHECK(machine.driver.config_read(multiplier_at, 4) == 4);
  CHECK(notify.offset % 4 == 0);
  CHECK(notify.length == 20);
  CHECK(machine.driver.doorbell_offset(QueueIndex(0)) == notify.offset);
  CHECK(machine.driver.doorbell_offset(QueueIndex(4)) == notify.offset + 16);
}

// Negotiation ---------------------------------------------------------------------------------

TEST_CASE("the driver reads back the features it accepted, in halves") {
  FakeMachine machine;
  machine.driver.write_features(Features(uint64_t{0x101'2000'0000}));
  machine.driver.set_common(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_GF, 4) == 0x2000'0000);
  machine.driver.set_common(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_GF, 4) == 0x101);
}

TEST_CASE("features that were accepted once are accepted again after each reset") {
  FakeMachine machine;
  machine.start_now(Feature::EventIdx);
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.negotiate(machine.negotiated));
  machine.driver.start_reset();
  CHECK(machine.driver.negotiate(machine.negotiated));
}

TEST_CASE("bytes that depend on the features accepted change with FEATURES_OK, and not before") {
  FakeDevice device;
  device.change_traits().config_writable[2] = std::byte{0xff};
  device.change_traits().negotiated = {{.accepted = Feature::RingReset,
                                        .declined = Feature::EventIdx,
                                        .offset = 2,
                                        .value = std::byte{0x55}}};
  PciMachine machine(device, {});
  const auto byte_after = [&](Features accepted) {
    machine.driver.start_reset();
    machine.driver.negotiate(accepted | Feature::Version1);
    return machine.driver.device_config(2, 1);
  };
  CHECK(byte_after(Feature::RingReset) == 0x55);
  CHECK(byte_after(Features(Feature::RingReset) | Feature::EventIdx) == 3);
  CHECK(byte_after({}) == 3);
  CHECK(byte_after(Feature::RingReset) == 0x55);
  machine.driver.driver_ok();
  machine.loop.run_until_idle();
  REQUIRE(device.configs.size() == 1);
  CHECK(device.configs[0][2] == std::byte{0x55});
}

// Notifications -------------------------------------------------------------------------------

TEST_CASE("kicks that announce nothing are harmless") {
  const auto without = GENERATE(Features(), Features(Feature::EventIdx));
  FakeMachine machine;
  machine.start_now(without);
  for (int i = 0; i < 3; ++i) machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.handled.empty());
  machine.offer(0, 2);
  machine.driver.kick(QueueIndex(0));
  machine.driver.kick(QueueIndex(1));
  machine.run();
  machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.take_used(0) == 2);
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("a device whose configuration change is not mapped to a vector keeps quiet") {
  FakeMachine machine;
  machine.start_now();
  CHECK(machine.driver.set_config_vector(PciDriver::kNoVector));
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.take_interrupts(0) == 0);
  CHECK(machine.driver.take_interrupts(1) == 0);
  CHECK_FALSE(machine.interrupts.levels[0]->take_raised());
}

/// A driver that reads the status at every chance the loop gives it, and throws away what
/// interrupts it had got by the time the device reads as reset.
struct ImpatientDriver final : Task {
  explicit ImpatientDriver(FakeMachine& owner) : machine(owner) {}
  void run() noexcept override {
    if (machine.driver.status() != 0) return machine.loop.post(*this);
    (void)machine.driver.take_interrupts(0);
  }
  FakeMachine& machine;
};

TEST_CASE("no notification follows the end of a reset, even of what failed in the same turn") {
  FakeMachine machine;
  ImpatientDriver impatient(machine);
  machine.start_now();
  machine.on_handle = [&] {
    machine.host->fail("for the test");
    machine.driver.start_reset();
    machine.loop.post(impatient);
  };
  machine.offer(0);
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.transport.counts().interrupts == 1);
  CHECK(machine.driver.take_interrupts(0) == 0);
}

TEST_CASE("a device at rest has nothing to fail") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.start_reset();
  machine.run();
  machine.host->fail("for the test");
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.driver.take_interrupts(0) == 0);
}

// Queue reset ---------------------------------------------------------------------------------

TEST_CASE("a queue that was programmed and never enabled is reset, too") {
  FakeMachine machine({64});
  machine.driver.negotiate(Features(Feature::Version1) | Feature::RingReset);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x1000);
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
  machine.driver.start_queue_reset(QueueIndex(0));
  CHECK(machine.driver.queue_reset_done(QueueIndex(0)));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 64);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0);
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xffff);
}

TEST_CASE("a queue that was reset starts from index 0 in both rings") {
  FakeMachine machine;
  machine.start_now();
  machine.offer(0, 5);
  machine.run();
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  machine.queues[0]->restart();
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1);
  machine.offer(0, 1);
  machine.run();
  CHECK(machine.queues[0]->used_index() == 1);
  CHECK(machine.split_queue().avail_event() == 1);
  CHECK(machine.take_used(0) == 1);
}

// Pins and messages (PCI 3.0, 6.2.2, 6.8) ------------------------------------------------------

TEST_CASE("an interrupt that MSI-X has hidden raises the line when MSI-X is switched off") {
  FakeMachine machine;
  machine.start_now();
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.take_interrupts(0) == 1);
  CHECK_FALSE(machine.interrupts.levels[0]->take_raised());
  const auto control = static_cast<uint16_t>(machine.driver.msix_capability() + 2);
  machine.driver.config_write(control, 2, 0);
  machine.run();
  CHECK((machine.driver.config_read(kConfigStatus, 2) & 8) == 8);
  CHECK(machine.interrupts.levels[0]->take_raised());
  CHECK(machine.driver.read_isr() == 2);
}

TEST_CASE("a function that is no bus master takes no chains until it is one") {
  FakeMachine machine;
  machine.driver.set_command(PciCommand::kBusMaster, false);
  machine.start_now();
  machine.offer(0, 2);
  machine.run();
  CHECK(machine.handled.empty());
  CHECK(machine.queues[0]->used_index() == 0);
  machine.driver.set_command(PciCommand::kBusMaster, true);
  machine.run();
  CHECK(machine.take_used(0) == 2);
  machine.driver.set_command(PciCommand::kBusMaster, false);
  machine.offer(0, 1);
  machine.run();
  CHECK(machine.take_used(0) == 0);
  machine.driver.set_command(PciCommand::kBusMaster, true);
  machine.run();
  CHECK(machine.take_used(0) == 1);
}

TEST_CASE("a function that is no bus master sends no messages, and those due when it is one") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.set_command(PciCommand::kBusMaster, false);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.driver.take_interrupts(0) == 0);
  machine.driver.set_command(PciCommand::kBusMaster, true);
  CHECK(machine.driver.take_interrupts(0) == 1);
}

TEST_CASE("an INTx line needs no bus master") {
  FakeMachine machine;
  machine.driver.negotiate(Feature::Version1);
  machine.driver.driver_ok();
  machine.run();
  machine.driver.set_command(PciCommand::kBusMaster, false);
  machine.host->change_config(0, kByte);
  machine.run();
  CHECK(machine.interrupts.levels[0]->take_raised());
}

TEST_CASE("a reset is done with bus mastering off") {
  FakeMachine machine;
  machine.start_now();
  machine.driver.set_command(PciCommand::kBusMaster, false);
  machine.queues[0]->add(kChain);
  machine.kick(0);
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.queues[0]->used_index() == 0);
}

}  // namespace
}  // namespace ringlet
