// What befalls the simulated disk besides requests: masks, BAR moves, pointless register writes.
#include <linux/virtio_pci.h>

#include <array>

#include "tests/sim/disk_driver.h"
#include "tests/sim/trace.h"
#include "virtio/blk_layout.h"

namespace ringlet {

void DiskDriver::change_cache_mode() {
  if (!up() || !facts_.features.has(BlkFeature::ConfigWce)) return;
  writeback_ = random_.percent(50);
  ++cache_modes_;
  note("disk {}: writeback is {}", disk_->number(), writeback_);
  pci_->set_device_config(offsetof(BlkConfigLayout, writeback), 1, writeback_ ? 1 : 0);
}

// Without it the device takes no chains and sends no messages; they wait.
void DiskDriver::change_bus_master() {
  const bool master = random_.percent(50);
  note("disk {}: bus master: {}", disk_->number(), master);
  pci_->set_command(PciCommand::kBusMaster, master);
  takes_chains_ = could_take_ = true;
}

void DiskDriver::change_masks() {
  if (!uses_msix()) {
    const bool disabled = random_.percent(50);
    note("disk {}: INTx disabled: {}", disk_->number(), disabled);
    pci_->set_command(PciCommand::kIntxDisable, disabled);
    return;
  }
  if (!msix_enabled_ || !disk_->reachable()) return;
  const bool masked = random_.percent(50);
  if (random_.percent(30)) {
    note("disk {}: function mask {}", disk_->number(), masked);
    pci_->mask_function(masked);
  } else {
    const auto vector = static_cast<uint16_t>(random_.below(lanes_.size() + 1));
    note("disk {}: mask of vector {} is {}", disk_->number(), vector, masked);
    pci_->mask_vector(vector, masked);
  }
}

// To a place where it may meet others, to where nothing is decoded, or home.
void DiskDriver::move_bar() {
  constexpr uint64_t kSize = 0x8000;
  const uint64_t place = random_.below<uint64_t>(4) * kSize;
  switch (random_.below(6)) {
    case 0: pci_->move_bar(SimulatedBoard::kLayout.window64.base + place); break;
    case 1: pci_->move_bar(SimulatedBoard::kLayout.window32.base + place); break;
    case 2: pci_->move_bar(SimulatedBoard::kLayout.ecam.base + place); break;
    case 3: pci_->move_bar(place); break;
    case 4: pci_->set_command(PciCommand::kMemory, random_.percent(50)); break;
    default: pci_->move_bar(home_); break;
  }
  note("disk {}: BAR at {:#x}, decoded: {}", disk_->number(), pci_->bar_base(), disk_->reachable());
}

// Registers that are read-only, or fixed in the state the device is in.
void DiskDriver::poke() {
  if (!up()) return;
  struct Field {
    uint64_t offset;
    size_t width;
  };
  constexpr std::array<Field, 14> kFields{{{VIRTIO_PCI_COMMON_DF, 4},
                                           {VIRTIO_PCI_COMMON_GF, 4},
                                           {VIRTIO_PCI_COMMON_NUMQ, 2},
                                           {VIRTIO_PCI_COMMON_CFGGENERATION, 1},
                                           {VIRTIO_PCI_COMMON_Q_SIZE, 2},
                                           {VIRTIO_PCI_COMMON_Q_NOFF, 2},
                                           {VIRTIO_PCI_COMMON_Q_DESCLO, 4},
                                           {VIRTIO_PCI_COMMON_Q_DESCHI, 4},
                                           {VIRTIO_PCI_COMMON_Q_AVAILLO, 4},
                                           {VIRTIO_PCI_COMMON_Q_AVAILHI, 4},
                                           {VIRTIO_PCI_COMMON_Q_USEDLO, 4},
                                           {VIRTIO_PCI_COMMON_Q_USEDHI, 4},
                                           {VIRTIO_PCI_COMMON_Q_ENABLE, 2},
                                           {VIRTIO_PCI_COMMON_STATUS, 1}}};
  const Lane* const lane = pick_lane(Life::Up);
  if (lane == nullptr) return;
  pci_->select_queue(QueueIndex(lane->number));
  const Field& field = random_.pick(kFields);
  const uint64_t before = pci_->common(field.offset, field.width);
  uint64_t value = random_.next();
  if (field.offset == VIRTIO_PCI_COMMON_STATUS) value = 0xf;
  if (field.offset == VIRTIO_PCI_COMMON_CFGGENERATION) value &= 0xff;
  pci_->set_common(field.offset, field.width, value);
  note("disk {}: poke {:#x} with {:#x}", disk_->number(), field.offset, value);
  expect(pci_->common(field.offset, field.width) == before,
         "disk {}: register {:#x} changed by a write of {:#x}", disk_->number(), field.offset,
         value);
  // Device configuration is read-only but for the cache mode; so is the pending bit array.
  const uint64_t capacity = pci_->device_config(0, 8);
  pci_->set_device_config(random_.below(8U), 1, value & 0xff);
  expect(pci_->device_config(0, 8) == capacity && capacity == facts_.sectors,
         "disk {}: its capacity is {}", disk_->number(), pci_->device_config(0, 8));
}

void DiskDriver::kick_without_reason() {
  const auto queue = static_cast<uint16_t>(random_.below(lanes_.size()));
  note("disk {}, queue {}: kick without reason", disk_->number(), queue);
  kick(lanes_[queue]);
}

}  // namespace ringlet
