// The ACPI fixed hardware: power button, switching off, reset (ACPI 6.5, 4.8).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "kvm/bus.h"
#include "kvm/irq.h"
#include "vmm/events.h"

namespace ringlet {

struct AcpiPmState {
  uint16_t status = 0;
  uint16_t enable = 0;
  uint16_t control = 1;
};

/// Ports 0x600 to 0x608; vmm/layout.h has the map and the ACPI tables tell the guest.
class AcpiPm final : public BusDevice {
 public:
  /// `sci` is level-triggered. `events` must outlive this.
  AcpiPm(std::unique_ptr<IrqLine> sci, MachineEvents& events);

  /// Sets PWRBTN_STS and, when the guest wants to hear of it, raises the SCI. Any thread.
  void press_power_button() noexcept;

  // Under the bus mutex.
  AcpiPmState save() const;
  /// Throws ConfigError when the state cannot be.
  void restore(const AcpiPmState& state);
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  enum class Reg : uint8_t { Status, Enable, Control, Gap, Reset };
  struct Registers;

  uint64_t get(Reg reg) const noexcept;
  void set(Reg reg, uint64_t value) noexcept;
  void update_sci() noexcept;

  const std::unique_ptr<IrqLine> sci_;
  MachineEvents& events_;
  mutable std::mutex mutex_;  // of what follows: the button is pressed by other threads
  uint16_t status_ = 0;
  uint16_t enable_ = 0;
  uint16_t control_;
};

}  // namespace ringlet
