// Tests of packed virtqueues behind the PCI transport: sizes, service, resets, saved states.
#include <linux/virtio_pci.h>

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/fake/fake_machine.h"
#include "tests/fake/packed_driver_queue.h"
#include "tests/fake/save_restore.h"

namespace ringlet {
namespace {

constexpr Features kPacked = Features(Feature::Version1) | Feature::RingPacked;

uint64_t try_size(FakeMachine& machine, uint64_t size) {
  machine.driver.set_common(VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
  return machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2);
}

/// A machine whose queue 0 has been round the ring of `size`, and a bit.
struct PackedMachine : FakeMachine {
  explicit PackedMachine(uint16_t size) {
    packed = true;
    start_now({}, size);
    for (unsigned i = 0; i < size + 1U; ++i) serve_one();
  }
  void serve_one() {
    offer(0);
    run();
    CHECK(take_used(0) == 1);
  }
};

TEST_CASE("the size of a packed queue is any up to what was offered, once that is settled") {
  FakeMachine machine({16});
  machine.driver.write_features(kPacked);
  CHECK(try_size(machine, 12) == 16);
  REQUIRE(machine.driver.negotiate(kPacked));
  CHECK(try_size(machine, 12) == 12);
  CHECK(try_size(machine, 1) == 1);
  CHECK(try_size(machine, 0) == 1);
  CHECK(try_size(machine, 17) == 1);
  CHECK(try_size(machine, 65535) == 1);
}

TEST_CASE("after a reset a split queue needs a power of two again") {
  FakeMachine machine({16});
  REQUIRE(machine.driver.negotiate(kPacked));
  CHECK(try_size(machine, 12) == 12);
  machine.driver.start_reset();
  REQUIRE(machine.driver.negotiate(Feature::Version1));
  CHECK(machine.driver.common(VIRTIO_PCI_COMMON_Q_SIZE, 2) == 16);
  CHECK(try_size(machine, 12) == 16);
}

TEST_CASE("chains of packed queues of any size are served, with one interrupt for a batch") {
  const auto without = GENERATE(Features(), Features(Feature::EventIdx));
  FakeMachine machine;
  machine.packed = true;
  machine.start_now(without, 13);
  for (unsigned i = 0; i < 8; ++i) {
    machine.offer(0, 7);
    machine.offer(1, 1);
    machine.run();
    CHECK(machine.take_used(0) == 7);
    CHECK(machine.take_used(1) == 1);
    CHECK(machine.driver.take_interrupts(1) == 1);
    CHECK(machine.driver.take_interrupts(2) == 1);
  }
}

TEST_CASE("a malformed packed queue ends its device, and a reset makes it usable") {
  PackedMachine machine(5);
  auto& queue = static_cast<PackedDriverQueue&>(*machine.queues[0]);
  // Lap 2, descriptor 1.
  queue.put(1, {.address = 1 << 30, .length = 1, .flags = 0x8000});
  machine.driver.kick(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
  machine.driver.start_reset();
  machine.run();
  CHECK(machine.driver.status() == 0);
  machine.start_now({}, 7);
  machine.serve_one();
}

TEST_CASE("a packed queue that was reset starts at descriptor 0 with a wrap counter of 1") {
  PackedMachine machine(5);
  machine.driver.start_queue_reset(QueueIndex(0));
  machine.run();
  CHECK(machine.driver.queue_reset_done(QueueIndex(0)));
  machine.queues[0]->restart();
  machine.driver.enable_queue(QueueIndex(0), machine.queues[0]->config(), 1);
  machine.serve_one();
  const auto state = quiesce_and_save(machine);
  CHECK(state.queues[0].next_avail == 1);
  CHECK(state.queues[0].next_used == 1);
}

// Saved states --------------------------------------------------------------------------------

TEST_CASE("the saved position of a packed queue has its place and its lap") {
  PackedMachine machine(5);
  const auto state = quiesce_and_save(machine);
  CHECK(state.queues[0].next_avail == (0x8000 | 1));
  CHECK(state.queues[0].next_used == (0x8000 | 1));
  CHECK(state.queues[1].next_avail == 0);
}

/// Why a machine does not carry on with what was saved of another, and changed; or empty.
template <typename Change>
std::string refusal(Change change) {
  PackedMachine first(5);
  PciTransportState state = quiesce_and_save(first);
  change(state);
  FakeMachine second;
  try {
    second.transport.restore(state);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("a saved packed queue that this device cannot have had is refused") {
  const std::string start = "fake: the saved state does not fit: ";
  CHECK(refusal([](PciTransportState&) {}) == "");
  CHECK(refusal([](PciTransportState& state) {
          state.queues[0].next_avail = state.queues[0].next_used = 5;
        }) == start + "queue 0: a position in the ring is not below the queue size");
  CHECK(refusal([](PciTransportState& state) { state.queues[0].next_used = 1; }) ==
        start + "queue 0: the next available is at 32769, the next used at 1; expected the same");
  CHECK(refusal([](PciTransportState& state) { state.queues[0].size = 0; }) ==
        start + "queue 0 has 0 descriptors, this device's has 16 at most");
  CHECK(refusal([](PciTransportState& state) { state.queues[0].size = 17; }) ==
        start + "queue 0 has 17 descriptors, this device's has 16 at most");
  CHECK(refusal([](PciTransportState& state) { state.queues[0].driver_area += 2; }) ==
        start + "queue 0: a ring is not aligned");
  // As a split one it would need a power of two.
  CHECK(refusal([](PciTransportState& state) {
          state.driver_features &= ~Features(Feature::RingPacked).bits();
        }) == start + "queue 0 has 5 descriptors; expected a power of two");
}

}  // namespace
}  // namespace ringlet
