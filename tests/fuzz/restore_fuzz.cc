// Fuzzes the restoring of a virtio PCI device from states that were damaged or made up: they are
// refused with a ConfigError, or the device can be used.
#include <array>
#include <cassert>
#include <cstdint>
#include <vector>

#include "kvm/error.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/same_machine.h"
#include "tests/fuzz/transport_machine.h"

namespace ringlet {
namespace {

struct Ignored final : Task {
  void run() noexcept override {}
};

/// Of a device that its driver brought up to some step.
PciTransportState good_state(FuzzInput& input, GuestMemory& memory) {
  BlkMachine machine(small_disk(memory, 0));
  const size_t steps = input.below(5);
  if (steps >= 1) machine.driver.enable_msix();
  if (steps >= 2) bring_up(machine, steps == 4 ? Features() : Features(Feature::RingPacked));
  if (steps >= 3) machine.driver.start_queue_reset(QueueIndex(1));
  machine.loop.run_until_idle();
  Ignored quiet;
  machine.transport.quiesce(quiet);
  machine.loop.run_until_idle();
  return machine.transport.save();
}

template <typename T>
void change_size(FuzzInput& input, std::vector<T>& list) {
  list.resize(input.below(list.size() + 3));
}

void damage_queue(FuzzInput& input, QueueState& queue) {
  switch (input.below(8)) {
    case 0: queue.size = input.take<uint16_t>(); break;
    case 1: queue.enabled = input.flag(); break;
    case 2: queue.descriptors = input.take<uint64_t>(); break;
    case 3: queue.driver_area = input.take<uint16_t>(); break;
    case 4: queue.device_area = input.take<uint64_t>(); break;
    case 5: queue.vector = input.take<uint16_t>(); break;
    case 6: queue.next_avail = queue.next_used = input.take<uint16_t>(); break;
    default: queue.next_used = input.take<uint16_t>();
  }
}

void damage_vector(FuzzInput& input, MsixVectorState& vector) {
  const uint8_t flags = input.take<uint8_t>();
  vector = {.address = input.take<uint64_t>(),
            .data = input.take<uint32_t>(),
            .masked = (flags & 1) != 0,
            .pending = (flags & 2) != 0};
}

void damage(FuzzInput& input, PciTransportState& state) {
  switch (input.below(16)) {
    case 0:
    case 1: state.config_space.bytes[input.take<uint8_t>()] = input.take<uint8_t>(); break;
    case 2: state.status = input.take<uint8_t>(); break;
    case 3: state.isr = input.take<uint8_t>(); break;
    case 4: state.generation = input.take<uint8_t>(); break;
    case 5: state.device_feature_select = input.take<uint32_t>(); break;
    case 6: state.driver_feature_select = input.take<uint32_t>(); break;
    case 7: state.driver_features ^= uint64_t{1} << input.below(64); break;
    case 8: state.driver_wants_unknown = input.flag(); break;
    case 9: state.config_vector = input.take<uint16_t>(); break;
    case 10: state.queue_select = input.take<uint16_t>(); break;
    case 11:
      if (!state.queues.empty())
        damage_queue(input, state.queues[input.below(state.queues.size())]);
      break;
    case 12:
      if (!state.msix.vectors.empty()) {
        damage_vector(input, state.msix.vectors[input.below(state.msix.vectors.size())]);
      }
      break;
    case 13:
      if (!state.device_config.empty()) {
        state.device_config[input.below(state.device_config.size())] = input.take<uint8_t>();
      }
      break;
    case 14: state.driver_features = input.take<uint64_t>(); break;
    default: {
      const size_t which = input.below(3);
      if (which == 0) change_size(input, state.queues);
      if (which == 1) change_size(input, state.msix.vectors);
      if (which == 2) change_size(input, state.device_config);
    }
  }
}

void run(FuzzInput& input, GuestMemory& memory) {
  PciTransportState state = good_state(input, memory);
  BlkMachine machine(small_disk(memory, input.take<uint8_t>()));
  if (input.take<uint8_t>() >= 0xe0) machine.interrupts.msi_left = 1;
  for (size_t count = input.below(6); count > 0; --count) damage(input, state);
  // What else is in memory, for a device that goes on at once.
  (void)memory.write(GuestAddr(0x1000), input.bytes(0x1000));
  try {
    machine.transport.restore(state);
    HostBridgeState bridge = machine.bridge.save();
    machine.bridge.restore(bridge);
    machine.loop.run_until_idle();
  } catch (const ConfigError& error) {
    check_message(error.what());
    if (machine.interrupts.msi_left == 0) return;  // refused when half of it was done
  }
  machine.interrupts.msi_left = UINT32_MAX;
  check_usable(machine, memory);
}

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringlet::GuestMemory memory(ringlet::kTransportMemory, {});
  ringlet::FuzzInput input(data, size);
  ringlet::run(input, memory);
  return 0;
}
