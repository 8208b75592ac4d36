// Interrupts as KVM delivers them: MSI vectors by irqfd, level lines with resample, plain wires.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
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

  /// An MSI route. Keeps its message while nobody uses it: KVM's table need not change for that.
  struct Slot {
    std::optional<MsiMessage> message;
    bool used = false;
  };

  /// A free slot's GSI; nothing when KVM's table is full.
  std::optional<Gsi> allocate() noexcept;
  void release(Gsi gsi) noexcept;
  Slot& slot(Gsi gsi) noexcept;
  /// Points `gsi` at `message`; false when KVM refuses.
  bool route(Gsi gsi, const MsiMessage& message) noexcept;
  bool publish() noexcept;

  const Vm& vm_;
  size_t max_msi_ = 0;
  std::vector<Slot> slots_;  // by GSI - kIoapicPins
};

}  // namespace ringlet
