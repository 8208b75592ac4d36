// The machine around one virtio PCI device in a test: memory, buses, the simulated loop, a driver.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tests/fake/pci_board.h"
#include "tests/fake/simulated_loop.h"
#include "tests/fake/split_driver_queue.h"

namespace ringlet {

/// What a PciMachine's board works with: `given` memory, or its own.
struct SimulatedHost {
  SimulatedHost(GuestMemory* given, const SimulatedLoop::Options& loop_options);

  const std::unique_ptr<GuestMemory> own_memory;
  GuestMemory& memory;
  GuestHeap heap;
  SimulatedLoop loop;
};

class PciMachine : public SimulatedHost, public PciBoard {
 public:
  /// `memory`: another machine's, which this one carries on with. `others`: parts of the device on
  /// loops of their own, which outlive the machine.
  PciMachine(Device& device, const SimulatedLoop::Options& loop_options,
             GuestMemory* memory = nullptr, std::span<const DevicePart> others = {});
  ~PciMachine();
  PciMachine(const PciMachine&) = delete;
  PciMachine& operator=(const PciMachine&) = delete;

  /// Negotiates all that is offered but for `without` and, unless `packed`, for RING_PACKED;
  /// enables every queue with `queue_size` descriptors (MSI-X vector: its index + 1; 0 is the
  /// configuration's) and sets DRIVER_OK.
  void start(Features without = {}, uint16_t queue_size = 16);
  /// Makes what was added available, and kicks if the device wants it. The loop does not turn.
  void kick(uint16_t queue = 0);
  /// Queue 0 of a machine that is not `packed`.
  SplitDriverQueue& split_queue();

  Features negotiated;
  bool packed = false;  ///< whether start() takes packed queues
  std::vector<std::unique_ptr<DriverQueue>> queues;
};

}  // namespace ringlet
