// What is around a virtio PCI device in a test, whatever loop and memory it works with.
#pragma once

#include <cstdint>
#include <span>

#include "kvm/bus.h"
#include "kvm/io_loop.h"
#include "kvm/memory.h"
#include "pci/host_bridge.h"
#include "tests/fake/driver.h"
#include "tests/fake/fake_irq.h"
#include "virtio/pci_transport.h"

namespace ringlet {

/// Buses with one device, and a driver that has found it and lets it master the bus.
class PciBoard {
 public:
  static constexpr AddrRange kMemory{0, 16 << 20};
  /// Guest memory from here on belongs to tests.
  static constexpr uint64_t kHeapStart = 1 << 20;
  static constexpr PciLayout kLayout{.ecam = {0xc0100000, 1 << 20},
                                     .window32 = {0xd0000000, 1 << 28},
                                     .window64 = {1ULL << 32, 1ULL << 32}};

  /// `others`: parts of the device on loops of their own. All of it outlives the board.
  PciBoard(Device& device, IoLoop& io_loop, const GuestMemory& ram,
           std::span<const DevicePart> others = {})
      : bridge(buses, kLayout),
        transport(device,
                  {.interrupts = interrupts,
                   .doorbells = doorbells,
                   .loop = io_loop,
                   .memory = ram,
                   .pin = IntxPin::A,
                   .intx_gsi = Gsi(10)},
                  others),
        bdf(bridge.add(transport)),
        driver({.buses = buses,
                .ecam = GuestAddr(kLayout.ecam.base),
                .interrupts = interrupts,
                .doorbells = doorbells},
               bdf) {
    bridge.assign_bars();
    driver.find_capabilities();
    driver.set_command(PciCommand::kBusMaster, true);
  }

  FakeInterrupts interrupts;
  FakeDoorbells doorbells;
  Buses buses;
  HostBridge bridge;
  PciTransport transport;
  Bdf bdf;
  PciDriver driver;
};

}  // namespace ringlet
