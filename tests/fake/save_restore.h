// Moving a device from one machine of a test to another.
#pragma once

#include <catch2/catch.hpp>

#include "tests/fake/pci_machine.h"
#include "virtio/pci_transport_state.h"

namespace ringlet {

/// A task that counts its runs.
struct Noted final : Task {
  void run() noexcept override { ++runs; }
  int runs = 0;
};

inline PciTransportState quiesce_and_save(PciMachine& machine) {
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.loop.run_until_idle();
  REQUIRE(quiet.runs == 1);
  return machine.transport.save();
}

/// Lets `machine` carry on with what was saved of `old`, over the same memory.
inline void restore(PciMachine& machine, const PciTransportState& state, const PciMachine& old) {
  machine.transport.restore(state);
  machine.bridge.restore(old.bridge.save());
  machine.negotiated = old.negotiated;
  machine.heap.go_on_behind(old.heap.used() + (1 << 20));
}

}  // namespace ringlet
