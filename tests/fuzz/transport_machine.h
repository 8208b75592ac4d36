// A disk in a small machine, for fuzz targets of the PCI transport.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "tests/fake/blk_machine.h"
#include "virtio/pci_transport_state.h"

namespace ringlet {

inline constexpr std::array<AddrRange, 2> kTransportMemory{{{0, 0x4000}, {0x8000, 0x2000}}};

inline BlkMachineOptions small_disk(GuestMemory& memory, uint64_t seed) {
  return {.settings = {.name = "disk", .queues = 2, .queue_size = 16, .serial = "ringlet"},
          .loop = {.seed = seed, .adversarial = (seed & 1) != 0},
          .disk_bytes = 8 << 10,
          .memory = &memory};
}

/// Where bring_up() puts the rings of a queue.
inline QueueConfig queue_at(uint16_t queue) {
  const uint64_t base = 0x1000U + queue * 0x800U;
  return {.size = 8,
          .enabled = true,
          .descriptors = GuestAddr(base),
          .driver_area = GuestAddr(base + 0x400),
          .device_area = GuestAddr(base + 0x600)};
}

/// All that a driver does, whatever came before; parts may fail, where the guest has meddled. It
/// takes all features that are offered but for `without`.
inline void bring_up(BlkMachine& machine, Features without = Feature::RingPacked) {
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  machine.driver.negotiate(machine.driver.offered().without(without));
  for (uint16_t i = 0; i < 2; ++i) machine.driver.enable_queue(QueueIndex(i), queue_at(i), i);
  machine.driver.driver_ok();
}

/// BAR and bus mastering as firmware and driver would have them.
inline void repair(BlkMachine& machine) {
  machine.driver.set_command(PciCommand::kMemory | PciCommand::kBusMaster, false);
  machine.driver.move_bar(PciMachine::kLayout.window64.base);
  machine.driver.set_command(PciCommand::kMemory | PciCommand::kBusMaster, true);
  assert(machine.bridge.mapped_at(machine.bdf, 0));
}

/// However the device came to be what it is, a reset and a driver make it work.
inline void check_usable(BlkMachine& machine, const GuestMemory& memory) {
  repair(machine);
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  assert(machine.driver.status() == 0);
  for (const MemoryRegion& region : memory.regions()) {
    std::memset(region.bytes.data(), 0, region.bytes.size());
  }
  bring_up(machine);
  machine.loop.run_until_idle();
  assert(machine.driver.status() == 0xf);
  // One request: 512 bytes from the disk's start.
  constexpr uint64_t kHeader = 0x3000;
  constexpr uint64_t kStatus = 0x3100;
  const QueueConfig queue = queue_at(0);
  const std::array<ring::Descriptor, 3> chain{
      {{.address = kHeader, .length = 16, .flags = ring::kDescNext, .next = 1},
       {.address = 0x8000, .length = 512, .flags = ring::kDescNext | ring::kDescWrite, .next = 2},
       {.address = kStatus, .length = 1, .flags = ring::kDescWrite, .next = 0}}};
  bool written = memory.write_value(queue.descriptors, chain);
  written &= memory.write_value(GuestAddr(kStatus), uint8_t{0xee});
  written &= memory.write_value(GuestAddr(queue.driver_area.value() + ring::kIndex), uint16_t{1});
  assert(written);
  machine.driver.kick(QueueIndex(0));
  machine.loop.run_until_idle();
  assert(memory.read<uint8_t>(GuestAddr(kStatus)).value() == 0);
  assert(memory.read<uint16_t>(GuestAddr(queue.device_area.value() + ring::kIndex)).value() == 1);
}

}  // namespace ringlet
