// A virtual machine in KVM: memory slots, interrupt controllers, doorbells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kvm/address.h"
#include "kvm/fd.h"
#include "kvm/irq.h"
#include "kvm/kvm.h"
#include "kvm/log.h"
#include "kvm/memory.h"
#include "kvm/vm_state.h"

namespace ringlet {

/// Guest-physical pages that Intel hosts need for themselves to run real-mode code. They must lie
/// outside of RAM and of every device.
struct VmAddresses {
  GuestAddr identity_map;  ///< one page
  GuestAddr tss;           ///< three pages
};

/// A VM with its memory, PICs, IOAPIC, and a local APIC for each vCPU to come. Needs `kvm` and
/// `memory` to live longer.
class Vm {
 public:
  /// Throws std::system_error. Takes about 1 ms; the slots are set before the interrupt
  /// controllers exist, because KVM waits for a grace period in each slot set later (5 to 10 ms).
  Vm(const Kvm& kvm, const GuestMemory& memory, const VmAddresses& addresses);

  int fd() const { return fd_.get(); }
  const Kvm& kvm() const { return kvm_; }
  const GuestMemory& memory() const { return memory_; }
  /// The size of a vCPU's XSAVE area, in bytes; 0 where KVM knows only the legacy FPU state.
  size_t xsave_size() const { return xsave_size_; }

  /// Makes the PIT, unless it is there: see LatePit. False, with errno, when KVM cannot. Under the
  /// mutex of the buses, or while no vCPU runs.
  bool make_pit() noexcept;
  bool has_pit() const { return has_pit_; }
  /// What the guest has written to a PIT that is not there yet; nothing while that is nothing.
  const std::optional<kvm_pit_state2>& unmade_pit() const { return unmade_pit_; }
  void set_unmade_pit(const kvm_pit_state2& state) noexcept { unmade_pit_ = state; }

  /// Starts or ends KVM's log of the pages that vCPUs write. Any thread; 5 to 8 ms.
  void log_dirty_pages(bool on);
  /// The pages of memory region `index` that vCPUs wrote since the last call (bit n: page n).
  /// Only while the log is on. GuestMemory::take_dirty() has what the host itself wrote.
  std::vector<uint64_t> take_dirty_log(size_t index);

  /// While no vCPU runs. Throws std::system_error.
  VmState save() const;
  /// Before vCPUs are restored. Throws std::system_error.
  void restore(const VmState& state);

 private:
  void set_slots(uint32_t flags);

  const Kvm& kvm_;
  const GuestMemory& memory_;
  Fd fd_;
  size_t xsave_size_ = 0;
  bool has_pit_ = false;
  std::optional<kvm_pit_state2> unmade_pit_;
};

/// Doorbells by KVM_IOEVENTFD.
class KvmDoorbells final : public Doorbells {
 public:
  explicit KvmDoorbells(const Vm& vm) : vm_(vm) {}
  bool add(GuestAddr address, int eventfd) noexcept override;
  void remove(GuestAddr address, int eventfd) noexcept override;

 private:
  const Vm& vm_;
  LogLimit log_limit_;  // KVM takes 1,000 of them, and the guest decides how many it wants
};

}  // namespace ringlet
