// A PCI function as the host bridge sees it.
#include "pci/function.h"

namespace ringlet {

namespace {

/// Leaves reads as the bus fills them, with ones, and drops writes. Has no state to share.
struct Nothing final : BusDevice {
  void read(uint64_t, std::span<std::byte>) noexcept override {}
  void write(uint64_t, std::span<const std::byte>) noexcept override {}
};

}  // namespace

void PciFunction::config_read(uint16_t at, std::span<std::byte> data) noexcept {
  if (at / 4 == kConfigStatus / 4) config_.set_interrupt_status(interrupt_pending());
  config_.read(at, data);
}

bool PciFunction::config_write(uint16_t at, std::span<const std::byte> data) noexcept {
  const bool pending = interrupt_pending();
  const ConfigSpace::Change change = config_.write(at, data);
  if (change.command) command_changed(config_.command());
  config_written(!pending && interrupt_pending());
  return change.decoding;
}

BusDevice& PciFunction::bar_device(unsigned /*bar*/) noexcept {
  static Nothing nothing;
  return nothing;
}

void PciFunction::bar_mapped(unsigned /*bar*/, std::optional<GuestAddr> /*base*/) noexcept {}

void PciFunction::command_changed(PciCommand /*command*/) noexcept {}

}  // namespace ringlet
