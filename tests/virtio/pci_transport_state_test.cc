// Tests of saving a virtio PCI device and carrying on with another one over the same memory.
#include "virtio/pci_transport_state.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_pci.h>

#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"
#include "tests/fake/fake_machine.h"
#include "tests/fake/save_restore.h"

namespace ringlet {
namespace {

constexpr uint64_t kWriteback = offsetof(BlkConfigLayout, writeback);

/// A machine under load, with what its disk is to hold.
class Load {
 public:
  explicit Load(uint64_t seed) : random_(seed) {}

  void submit(BlkMachine& machine) {
    const auto queue = static_cast<uint16_t>(random_() % machine.queues.size());
    if (machine.queues[queue]->free_descriptors() < 4) return;
    const uint64_t sector = next_sector_;
    next_sector_ += 2;
    const auto data = pattern(1024, static_cast<uint8_t>(random_()));
    machine.submit({.type = VIRTIO_BLK_T_OUT, .sector = sector, .data = data, .queue = queue});
    expected_.insert(expected_.end(), data.begin(), data.end());
  }
  uint64_t requests() const { return next_sector_ / 2; }
  const std::vector<std::byte>& expected() const { return expected_; }
  uint64_t random(uint64_t below) { return random_() % below; }

 private:
  std::mt19937_64 random_;
  uint64_t next_sector_ = 0;
  std::vector<std::byte> expected_;
};

BlkMachineOptions options(uint64_t seed, GuestMemory* memory) {
  return {.settings = {.name = "disk", .queues = 2},
          .loop = {.seed = seed, .adversarial = true, .short_percent = 20},
          .memory = memory};
}

TEST_CASE("a device saved under load carries on elsewhere: nothing lost, nothing twice") {
  const auto seed = GENERATE(range(1, 60));
  Load load(static_cast<uint64_t>(seed));
  BlkMachine first(options(static_cast<uint64_t>(seed), nullptr));
  first.packed = seed % 2 == 0;
  first.start();
  for (int i = 0; i < 60; ++i) {
    load.submit(first);
    first.loop.step();
    first.collect();
  }
  Noted quiet;
  first.transport.quiesce(quiet);
  // The guest goes on for a moment; what it offers now is for the second machine.
  for (int i = 0; i < 10; ++i) {
    load.submit(first);
    first.loop.step();
  }
  first.loop.run_until_idle();
  REQUIRE(quiet.runs == 1);

  BlkMachine second(options(static_cast<uint64_t>(seed) + 1000, &first.memory));
  second.disk().bytes = first.disk().bytes;
  restore(second, first.transport.save(), first);
  second.queues = std::move(first.queues);
  second.requests = std::move(first.requests);
  for (int i = 0; i < 60; ++i) {
    load.submit(second);
    second.loop.step();
    second.collect();
  }
  second.run();
  CHECK(second.requests.size() == load.requests());
  CHECK(std::ranges::all_of(second.requests,
                            [](const BlkRequest& request) { return request.used == 1; }));
  CHECK(second.queues[0]->out() + second.queues[1]->out() == 0);
  CHECK(second.on_disk(0, load.expected().size()) == load.expected());
  CHECK(second.driver.status() == 15);
}

TEST_CASE("registers, configuration and BAR are the same after a restore") {
  FakeMachine first;
  first.change_traits().config_writable.assign(8, std::byte{0xf0});
  first.start_now(Feature::EventIdx, 8);
  first.driver.set_device_config(0, 4, 0xffffffff);
  first.driver.move_bar(first.driver.bar_base() + 0x10'0000);
  first.driver.set_common(VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
  first.driver.set_common(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
  first.driver.select_queue(QueueIndex(1));
  CHECK(first.driver.device_config(0, 4) ==
        0xf4f3f2f1);  // a change unread would move the generation
  const PciTransportState state = quiesce_and_save(first);

  FakeDevice device;
  device.change_traits().config_writable.assign(8, std::byte{0xf0});
  PciMachine second(device, {}, &first.memory);
  restore(second, state, first);
  CHECK(second.driver.bar_base() == first.driver.bar_base());
  for (uint64_t at = 0; at < 64; at += 4) {
    CHECK(second.driver.common(at, 4) == first.driver.common(at, 4));
  }
  CHECK(second.driver.device_config(0, 8) == first.driver.device_config(0, 8));
  for (uint16_t at = 0; at < 256; at = static_cast<uint16_t>(at + 4)) {
    CHECK(second.driver.config_read(at, 4) == first.driver.config_read(at, 4));
  }
  second.loop.run_until_idle();
  CHECK(device.accepted == first.accepted);
  CHECK(device.configs.size() == 1);
  CHECK(second.doorbells.present.contains(GuestAddr(second.driver.bar_base() + 0x3004)));
}

TEST_CASE("interrupts arrive after a restore as the guest set them up") {
  FakeMachine first;
  first.start_now();
  const PciTransportState state = quiesce_and_save(first);
  FakeDevice device;
  PciMachine second(device, {}, &first.memory);
  restore(second, state, first);
  second.queues = std::move(first.queues);
  second.loop.run_until_idle();
  CHECK(second.driver.take_interrupts(1) == 0);
  const std::array<Segment, 1> chain{{{GuestAddr(0x1000), 64, true}}};
  second.queues[1]->add(chain);
  second.kick(1);
  second.loop.run_until_idle();
  CHECK(second.driver.take_interrupts(2) == 1);
}

TEST_CASE("an interrupt that waits behind a mask is restored with it") {
  FakeMachine first;
  first.start_now();
  first.driver.mask_vector(1, true);
  first.offer(0);
  first.run();
  const PciTransportState state = quiesce_and_save(first);
  CHECK(state.msix.vectors[1].pending);
  FakeDevice device;
  PciMachine second(device, {}, &first.memory);
  restore(second, state, first);
  second.loop.run_until_idle();
  CHECK(second.driver.bar_read(0x5000, 8) == 2);
  CHECK(second.driver.take_interrupts(1) == 0);
  second.driver.mask_vector(1, false);
  CHECK(second.driver.take_interrupts(1) == 1);
}

TEST_CASE("a pending INTx interrupt is raised again after a restore") {
  FakeMachine first;
  first.negotiated = Feature::Version1;
  first.driver.negotiate(first.negotiated);
  first.queues.push_back(make_driver_queue(first.heap, 16, first.negotiated));
  first.driver.enable_queue(QueueIndex(0), first.queues[0]->config(), PciDriver::kNoVector);
  first.driver.driver_ok();
  first.offer(0);
  first.run();
  const PciTransportState state = quiesce_and_save(first);
  FakeDevice device;
  PciMachine second(device, {}, &first.memory);
  restore(second, state, first);
  second.loop.run_until_idle();
  CHECK(second.interrupts.levels[0]->take_raised());
  CHECK(second.driver.read_isr() == 1);
}

TEST_CASE("a device that needs a reset still does after a restore") {
  FakeMachine first;
  first.start_now();
  first.split_queue().set_avail_index(1000);
  first.driver.kick(QueueIndex(0));
  first.run();
  const PciTransportState state = quiesce_and_save(first);
  FakeDevice device;
  PciMachine second(device, {}, &first.memory);
  restore(second, state, first);
  first.offer(1);
  second.loop.run_until_idle();
  CHECK(second.driver.status() == (15 | status::kNeedsReset));
  CHECK(device.handled.empty());
  second.driver.start_reset();
  second.loop.run_until_idle();
  CHECK(second.driver.status() == 0);
}

TEST_CASE("a device that no driver has found is restored as such") {
  FakeMachine first;
  const PciTransportState state = quiesce_and_save(first);
  FakeMachine second;
  second.transport.restore(state);
  second.run();
  CHECK(second.driver.status() == 0);
  second.start_now();
  second.offer(0);
  second.run();
  CHECK(second.take_used(0) == 1);
}

TEST_CASE("a configuration written before DRIVER_OK counts after a restore") {
  BlkMachine first;
  first.driver.negotiate(first.driver.offered());
  first.driver.set_device_config(kWriteback, 1, 0);
  const PciTransportState state = quiesce_and_save(first);
  BlkMachine second({.memory = &first.memory});
  restore(second, state, first);
  second.negotiated = second.driver.offered();
  second.queues.push_back(make_driver_queue(second.heap, 16, second.negotiated));
  second.driver.enable_queue(QueueIndex(0), second.queues[0]->config(), PciDriver::kNoVector);
  second.driver.driver_ok();
  CHECK(second.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == VIRTIO_BLK_S_OK);
  CHECK(second.disk().stable == second.disk().bytes);
}

TEST_CASE("a disk's cache mode is restored as the driver left it, without a notification") {
  // A driver that cannot flush finds write-through, and may have changed what it reads since.
  const auto without = GENERATE(Features(), Features(BlkFeature::Flush));
  const auto mode = GENERATE(as<uint8_t>{}, 0, 1);
  BlkMachine first;
  first.start(without);
  first.loop.run_until_idle();
  first.driver.set_device_config(kWriteback, 1, mode);
  const PciTransportState state = quiesce_and_save(first);
  BlkMachine second({.memory = &first.memory});
  restore(second, state, first);
  second.loop.run_until_idle();
  CHECK(second.driver.device_config(kWriteback, 1) == mode);
  CHECK(second.driver.take_interrupts(0) == 0);
}

TEST_CASE("a cache mode that the driver sets right after a restore is not undone by it") {
  BlkMachine first;
  first.start();
  const PciTransportState state = quiesce_and_save(first);
  BlkMachine second({.memory = &first.memory});
  restore(second, state, first);
  second.queues = std::move(first.queues);
  // The loop has not turned yet.
  second.driver.set_device_config(kWriteback, 1, 0);
  CHECK(second.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == VIRTIO_BLK_S_OK);
  CHECK(second.disk().stable == second.disk().bytes);
}

TEST_CASE("what a host cannot give any more is an error of the restore") {
  FakeMachine first;
  first.start_now();
  const PciTransportState state = quiesce_and_save(first);
  FakeMachine second;
  second.interrupts.msi_left = 2;
  CHECK_THROWS_WITH(second.transport.restore(state),
                    "fake: the host has no descriptor left for interrupt vector 2");
}

}  // namespace
}  // namespace ringlet
