// The state of a VM's in-kernel devices, outside of its memory and vCPUs, as plain data.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <optional>

namespace ringlet {

struct VmState {
  /// By chip id: KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC.
  std::array<kvm_irqchip, 3> irqchips{};
  /// Nothing while the guest has not touched it.
  std::optional<kvm_pit_state2> pit;
  bool has_pit = false;  ///< it counts; else it was written to, but given no count (LatePit)
  /// kvmclock, in nanoseconds; a restored guest's clock carries on from here.
  uint64_t clock_ns = 0;
};

}  // namespace ringlet
