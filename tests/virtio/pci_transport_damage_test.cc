// Tests of restoring a virtio PCI device from states that were damaged or made up.
#include <linux/virtio_blk.h>

#include <random>
#include <string>

#include <catch2/catch.hpp>
#include <fmt/core.h>

#include "kvm/error.h"
#include "tests/fake/blk_machine.h"
#include "tests/fake/save_restore.h"

namespace ringlet {
namespace {

/// What restore() says about a good state after `change`.
template <typename Change>
std::string refusal(Change change) {
  BlkMachine first;
  first.start();
  PciTransportState state = quiesce_and_save(first);
  change(state);
  BlkMachine second({.memory = &first.memory});
  try {
    second.transport.restore(state);
  } catch (const ConfigError& error) {
    CHECK(second.driver.status() == 0);
    CHECK(second.driver.config_read(second.driver.msix_capability(), 4) >> 31 == 0);
    const std::string_view message = error.what();
    constexpr std::string_view kStart = "disk: the saved state does not fit: ";
    CHECK(message.starts_with(kStart));
    return std::string(message.substr(kStart.size()));
  }
  return "";
}

TEST_CASE("a state that was not changed is not refused") {
  CHECK(refusal([](PciTransportState&) {}).empty());
}

TEST_CASE("states of other devices are refused, and it is said what differs") {
  CHECK(refusal([](auto& state) { state.config_space.bytes[2] = 0x41; }) ==
        "it is of PCI device 1af4:1041, not 1af4:1042");
  CHECK(refusal([](auto& state) { state.driver_features |= 1; }) ==
        "its driver uses features 0x10130006e45, 0x10530006e44 are offered");
  CHECK(refusal([](auto& state) { state.queues.pop_back(); }) ==
        "it has 0 queues, this device has 1");
  CHECK(refusal([](auto& state) { state.queues[0].size = 512; }) ==
        "queue 0 has 512 descriptors, this device's has 256 at most");
  CHECK(refusal([](auto& state) { state.msix.vectors.emplace_back(); }) ==
        "it has 3 interrupt vectors, this device has 2");
  CHECK(refusal([](auto& state) { state.device_config.push_back(0); }) ==
        "its configuration has 61 bytes, this device's has 60");
  CHECK(refusal([](auto& state) { state.device_config[1] = 0x10; }) ==
        "byte 1 of its configuration was 0x10, this device's is 0x08");
}

TEST_CASE("states that no device can have are refused, and it is said what cannot be") {
  const auto status = GENERATE(as<uint8_t>{}, 7, 8, 16, 32, 64, 11 | 64);
  CHECK(refusal([&](auto& state) { state.status = status; }) ==
        fmt::format("a device status of {:#x}, which cannot be", status));
  CHECK(refusal([](auto& state) { state.driver_features &= ~(uint64_t{1} << 32); }) ==
        "its driver was accepted with features 0x10030006e44, without VERSION_1");
  CHECK(refusal([](auto& state) { state.driver_wants_unknown = true; }) != "");
  CHECK(refusal([](auto& state) { state.isr = 4; }) ==
        "an interrupt status of 0x4, which cannot be");
  CHECK(refusal([](auto& state) { state.config_vector = 2; }) ==
        "its configuration has interrupt vector 2, this device has 2 of them");
  CHECK(refusal([](auto& state) { state.queues[0].vector = 0xfffe; }) ==
        "queue 0 has interrupt vector 65534, this device has 2 of them");
  CHECK(refusal([](auto& state) { state.queues[0].size = 0; }) ==
        "queue 0 has 0 descriptors, this device's has 256 at most");
  CHECK(refusal([](auto& state) { state.queues[0].size = 12; }) ==
        "queue 0 has 12 descriptors; expected a power of two");
  CHECK(refusal([](auto& state) { state.queues[0].next_used = 7; }) ==
        "queue 0: the next available is at 0, the next used at 7; expected the same");
  CHECK(refusal([](auto& state) { state.queues[0].device_area = UINT64_MAX - 3; }) ==
        "queue 0: a ring lies outside guest memory");
  CHECK(refusal([](auto& state) { state.queues[0].descriptors += 8; }) ==
        "queue 0: a ring is not aligned");
}

/// Changes one field, as a damaged file would.
void damage(PciTransportState& state, std::mt19937_64& random) {
  const uint64_t value = random() >> (random() % 64);
  QueueState& queue = state.queues[random() % state.queues.size()];
  MsixVectorState& vector = state.msix.vectors[random() % state.msix.vectors.size()];
  switch (random() % 20) {
    case 0: state.status = static_cast<uint8_t>(value); break;
    case 1: state.isr = static_cast<uint8_t>(value); break;
    case 2: state.generation = static_cast<uint8_t>(value); break;
    case 3: state.device_feature_select = static_cast<uint32_t>(value); break;
    case 4: state.driver_feature_select = static_cast<uint32_t>(value); break;
    case 5: state.driver_features ^= uint64_t{1} << value % 64; break;
    case 6: state.driver_wants_unknown = !state.driver_wants_unknown; break;
    case 7: state.config_vector = static_cast<uint16_t>(value); break;
    case 8: state.queue_select = static_cast<uint16_t>(value); break;
    case 9: queue.size = static_cast<uint16_t>(value); break;
    case 10: queue.enabled = !queue.enabled; break;
    case 11: queue.descriptors = value; break;
    case 12: queue.driver_area = value; break;
    case 13: queue.device_area = value; break;
    case 14: queue.vector = static_cast<uint16_t>(value); break;
    case 15: queue.next_avail = queue.next_used = static_cast<uint16_t>(value); break;
    case 16: vector = {.address = value, .data = 1, .masked = false, .pending = true}; break;
    case 17: state.config_space.bytes[value % 256] ^= static_cast<uint8_t>(random()); break;
    case 18: state.device_config[value % 60] ^= static_cast<uint8_t>(random()); break;
    default: state.status |= status::kNeedsReset; break;
  }
}

TEST_CASE("a state damaged at random is refused, or the device runs and can be reset") {
  constexpr uint64_t kDiskBytes = 65536;
  BlkMachine first({.settings = {.name = "disk", .queues = 2}, .disk_bytes = kDiskBytes});
  first.packed = GENERATE(false, true);
  first.start();
  CHECK(first.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == VIRTIO_BLK_S_OK);
  const PciTransportState good = quiesce_and_save(first);
  std::mt19937_64 random(1);
  unsigned refused = 0;
  for (int i = 0; i < 1000; ++i) {
    PciTransportState state = good;
    const uint64_t fields = 1 + random() % 3;
    for (uint64_t field = 0; field < fields; ++field) damage(state, random);
    BlkMachine second({.settings = {.name = "disk", .queues = 2},
                       .disk_bytes = kDiskBytes,
                       .memory = &first.memory});
    try {
      second.transport.restore(state);
    } catch (const ConfigError&) {
      ++refused;
      continue;
    }
    second.bridge.restore(first.bridge.save());
    second.loop.run_until_idle();
    second.driver.kick(QueueIndex(0));
    second.loop.run_until_idle();
    second.driver.config_write(kConfigCommand, 2, PciCommand::kMemory);
    second.driver.start_reset();
    second.loop.run_until_idle();
    REQUIRE(second.loop.in_flight(SimOp::Read) + second.loop.in_flight(SimOp::Write) == 0);
  }
  CHECK(refused > 250);
  CHECK(refused < 950);
}

}  // namespace
}  // namespace ringlet
