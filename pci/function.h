// A PCI function as the host bridge sees it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kvm/address.h"
#include "kvm/bus.h"
#include "pci/config_space.h"

namespace ringlet {

/// Base of every PCI function. All of it is called under the bus mutex (or during set-up).
class PciFunction {
 public:
  explicit PciFunction(const PciIdentity& identity) : config_(identity) {}
  virtual ~PciFunction() = default;
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  ConfigSpace& config() noexcept { return config_; }
  const ConfigSpace& config() const noexcept { return config_; }

  /// The guest's accesses: 1 to 4 bytes inside one dword below 4096.
  void config_read(uint16_t at, std::span<std::byte> data) noexcept;
  /// True when the host bridge has to settle where BARs are decoded.
  [[nodiscard]] bool config_write(uint16_t at, std::span<const std::byte> data) noexcept;

  /// What answers behind a BAR; asked for each BAR that the configuration space has. Without an
  /// override there is nothing: reads give all ones.
  virtual BusDevice& bar_device(unsigned bar) noexcept;
  /// The BAR is now decoded at `base`, or not any more. A BAR that moves is told both, in two
  /// steps, so that its doorbells have left the old place before another BAR takes it.
  virtual void bar_mapped(unsigned bar, std::optional<GuestAddr> base) noexcept;
  /// The guest gave the Command register a new value: bus mastering, INTx Disable, decoding. Comes
  /// before bar_mapped().
  virtual void command_changed(PciCommand command) noexcept;
  /// Whether an INTx interrupt is pending inside the function, disabled or not: the Interrupt
  /// Status bit (PCI 3.0, 6.2.3).
  virtual bool interrupt_pending() const noexcept { return false; }
  /// The guest wrote to the configuration space, and it has taken effect. `uncovered`: that made
  /// interrupt_pending() true, since MSI-X, which had hidden it, was switched off.
  virtual void config_written([[maybe_unused]] bool uncovered) noexcept {}

 private:
  ConfigSpace config_;
};

}  // namespace ringlet
