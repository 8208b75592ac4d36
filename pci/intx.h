// A function's INTx# pin.
#pragma once

#include <atomic>
#include <cassert>
#include <memory>
#include <utility>

#include "kvm/irq.h"
#include "pci/config_space.h"

namespace ringlet {

/// The line behind a function's interrupt pin and whether the guest lets it be used. Who raises it
/// is the I/O loop: while enabled() and a reason exists it signals line().assert_fd(), and again
/// each time line().resample_fd() tells that the guest's end of interrupt lowered the line.
class Intx {
 public:
  /// Writes the pin and, for systems without ACPI, the line's number into `config`.
  Intx(ConfigSpace& config, IntxPin pin, Gsi gsi, std::unique_ptr<LevelLine> line)
      : line_(std::move(line)) {
    assert(line_ != nullptr);
    config.set_interrupt(pin, static_cast<uint8_t>(gsi.value()));
    command_changed(config.command());
  }

  LevelLine& line() noexcept { return *line_; }

  /// Whether INTx Disable is clear (PCI 3.0, 6.2.2). A function with MSI-X enabled does not use
  /// its pin either (6.8.2.7): ask Msix::enabled(). Any thread.
  bool enabled() const noexcept { return enabled_.load(std::memory_order_acquire); }
  /// Call it from PciFunction::command_changed() and after a restore. True when the pin has just
  /// been enabled: a pending interrupt must be signalled then. Under the bus mutex.
  bool command_changed(PciCommand command) noexcept {
    const bool enable = !command.intx_disabled();
    return !enabled_.exchange(enable, std::memory_order_acq_rel) && enable;
  }

 private:
  std::unique_ptr<LevelLine> line_;
  std::atomic<bool> enabled_{false};
};

}  // namespace ringlet
