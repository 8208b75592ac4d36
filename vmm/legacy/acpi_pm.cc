// The ACPI fixed hardware: power button, switching off, reset (ACPI 6.5, 4.8).
#include "vmm/legacy/acpi_pm.h"

#include <array>
#include <utility>

#include <fmt/core.h>

#include "kvm/error.h"
#include "kvm/registers.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

constexpr uint16_t kPowerButton = 1 << 8;  // PWRBTN_STS and PWRBTN_EN
constexpr uint16_t kSciEnable = 1 << 0;    // PM1_CNT: always on, there is no SMM to leave
constexpr unsigned kSleepTypeShift = 10;
constexpr uint16_t kSleepTypeMask = 7 << kSleepTypeShift;
constexpr uint16_t kSleepEnable = 1 << 13;
/// Bits that ACPICA writes and reads back: timer, global lock, both buttons, RTC.
constexpr uint16_t kEnableBits = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;

}  // namespace

// The blocks lie behind each other from kPm1EventPorts.base on, with a gap before the reset port.
struct AcpiPm::Registers {
  static constexpr RegisterMap kMap{std::to_array<Register<Reg>>({
      {Reg::Status, 2, Access::ReadWrite},
      {Reg::Enable, 2, Access::ReadWrite},
      {Reg::Control, 2, Access::ReadWrite},
      {Reg::Gap, 2, Access::Reserved},
      {Reg::Reset, 1, Access::ReadWrite},
  })};
  static_assert(kMap.offset(Reg::Control) == kPm1ControlPorts.base - kPm1EventPorts.base);
  static_assert(kMap.offset(Reg::Reset) == kResetPorts.base - kPm1EventPorts.base);
};

AcpiPm::AcpiPm(std::unique_ptr<IrqLine> sci, MachineEvents& events)
    : sci_(std::move(sci)), events_(events), control_(kSciEnable) {}

void AcpiPm::press_power_button() noexcept {
  const std::scoped_lock lock(mutex_);
  status_ |= kPowerButton;
  update_sci();
}

AcpiPmState AcpiPm::save() const {
  const std::scoped_lock lock(mutex_);
  return {.status = status_, .enable = enable_, .control = control_};
}

void AcpiPm::restore(const AcpiPmState& state) {
  const bool can_be = (state.status & ~kPowerButton) == 0 && (state.enable & ~kEnableBits) == 0 &&
                      (state.control & ~kSleepTypeMask) == kSciEnable;
  if (!can_be) {
    throw ConfigError(
        fmt::format("acpi: the saved state cannot be: status {:#x}, enable {:#x}, control {:#x}",
                    state.status, state.enable, state.control));
  }
  const std::scoped_lock lock(mutex_);
  status_ = state.status;
  enable_ = state.enable;
  control_ = state.control;
  update_sci();
}

void AcpiPm::update_sci() noexcept {
  sci_->set((status_ & enable_) != 0);
}

void AcpiPm::read(uint64_t offset, std::span<std::byte> data) noexcept {
  const std::scoped_lock lock(mutex_);
  Registers::kMap.read(offset, data, [this](Reg reg) { return get(reg); });
}

void AcpiPm::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::scoped_lock lock(mutex_);
  // The bytes of the status register that a narrow write leaves alone must not clear anything.
  Registers::kMap.write(
      offset, data, [this](Reg reg) { return reg == Reg::Status ? 0 : get(reg); },
      [this](Reg reg, uint64_t value) { set(reg, value); });
}

uint64_t AcpiPm::get(Reg reg) const noexcept {
  switch (reg) {
    case Reg::Status: return status_;
    case Reg::Enable: return enable_;
    case Reg::Control: return control_;
    case Reg::Gap:
    case Reg::Reset: break;
  }
  return 0;
}

void AcpiPm::set(Reg reg, uint64_t value) noexcept {
  switch (reg) {
    case Reg::Status:
      status_ &= static_cast<uint16_t>(~value);  // write one to clear (4.8.3.1.1)
      update_sci();
      break;
    case Reg::Enable:
      enable_ = static_cast<uint16_t>(value & kEnableBits);
      update_sci();
      break;
    case Reg::Control:
      // SLP_EN reads as zero (4.8.3.2.1).
      control_ = static_cast<uint16_t>((value & kSleepTypeMask) | kSciEnable);
      if ((value & kSleepEnable) != 0 &&
          (value & kSleepTypeMask) >> kSleepTypeShift == kSleepTypeS5) {
        events_.guest_request(GuestRequest::PowerOff, 0);
      }
      break;
    case Reg::Reset:
      if (value == kResetValue) events_.guest_request(GuestRequest::Reset, 0);
      break;
    case Reg::Gap: break;
  }
}

}  // namespace ringlet
