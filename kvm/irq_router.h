// Interrupts as KVM delivers them: MSI vectors by irqfd, level lines with resample, plain wires.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kvm/address.h"
#include "kvm/irq.h"
#include "kvm/vm.h"

namespace ringlet {

/// Owns the VM's GSI table. GSI n below 24 is pin n of the IOAPIC and, below 16, of the PICs too,
/// as KVM sets it up itself; those from 24 on go to MSI vectors as they are first attached.
///
/// Set-up, and everything about MSI vectors, under the bus mutex. Outlives all it has made; needs
/// `vm` to live longer.
class IrqRouter final : public InterruptSource {
 public:
  static constexpr uint32_t kIoapicPins = 24;

  explicit IrqRouter(const Vm& vm);

  std::unique_ptr<MsiVector> make_msi() override;
  /// Throws std::system_error also when KVM refuses the line.
  std::unique_ptr<LevelLine> make_level(Gsi gsi) override;
  std::unique_ptr<IrqLine> make_line(Gsi gsi) override;

 private:
  class Msi;
  class Level;
  class Line;

  /// A free MSI route's GSI, not yet in KVM's table; nothing when the table is full.
  std::optional<Gsi> allocate() noexcept;
  void release(Gsi gsi) noexcept;
  /// Points `gsi` at `message`; false when KVM refuses.
  bool route(Gsi gsi, const MsiMessage& message) noexcept;

  const Vm& vm_;
  const uint32_t max_routes_;
  /// By GSI - kIoapicPins.
  std::vector<std::optional<MsiMessage>> messages_;
  std::vector<bool> used_;
};

}  // namespace ringlet
