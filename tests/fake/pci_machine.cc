// The machine around one virtio PCI device in a test: memory, buses, the simulated loop, a driver.
#include "tests/fake/pci_machine.h"

#include <cassert>
#include <span>

namespace ringlet {

SimulatedHost::SimulatedHost(GuestMemory* given, const SimulatedLoop::Options& loop_options)
    : own_memory(given == nullptr ? std::make_unique<GuestMemory>(std::span(&PciBoard::kMemory, 1),
                                                                  MemoryBacking{})
                                  : nullptr),
      memory(given == nullptr ? *own_memory : *given),
      heap(memory, {PciBoard::kHeapStart, PciBoard::kMemory.size - PciBoard::kHeapStart}),
      loop(loop_options) {}

PciMachine::PciMachine(Device& device, const SimulatedLoop::Options& loop_options,
                       GuestMemory* given, std::span<const DevicePart> others)
    : SimulatedHost(given, loop_options), PciBoard(device, loop, memory, others) {}

PciMachine::~PciMachine() {
  loop.drain();
}

void PciMachine::start(Features without, uint16_t queue_size) {
  negotiated = driver.offered().without(packed ? without : without | Feature::RingPacked);
  driver.enable_msix();
  const bool accepted = driver.negotiate(negotiated) && driver.set_config_vector(0);
  assert(accepted);
  queues.clear();
  for (uint16_t i = 0; i < driver.queue_count(); ++i) {
    queues.push_back(make_driver_queue(heap, queue_size, negotiated));
    const bool enabled =
        driver.enable_queue(QueueIndex(i), queues.back()->config(), static_cast<uint16_t>(i + 1));
    assert(enabled);
  }
  driver.driver_ok();
}

SplitDriverQueue& PciMachine::split_queue() {
  assert(!negotiated.has(Feature::RingPacked));
  return static_cast<SplitDriverQueue&>(*queues[0]);
}

void PciMachine::kick(uint16_t queue) {
  if (queues[queue]->publish()) driver.kick(QueueIndex(queue));
}

}  // namespace ringlet
