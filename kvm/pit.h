// The PIT (Intel 8254 timer), which KVM plays, made when the guest first lets it count.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>

#include "kvm/bus.h"
#include "kvm/log.h"
#include "kvm/vm.h"

namespace ringlet {

/// Guests with kvmclock and a local APIC need no PIT. It costs a kernel thread, a tenth of a
/// millisecond at start, and at the end of the process two grace periods, up to 15 ms. So its
/// ports leave the guest at first, and what is written there is only kept, until a counter is given
/// a count, or is read. That makes the PIT, and KVM answers all that follows.
class LatePit {
 public:
  static constexpr AddrRange kCounterPorts{0x40, 4};
  static constexpr AddrRange kSpeakerPort{0x61, 1};

  /// `vm` must outlive this, this the entries on `ports`, whose mutex guards it.
  LatePit(Vm& vm, Bus& ports);
  LatePit(const LatePit&) = delete;
  LatePit& operator=(const LatePit&) = delete;

 private:
  struct Counters final : BusDevice {
    explicit Counters(LatePit& owner) : pit(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
    LatePit& pit;
  };
  struct Speaker final : BusDevice {
    explicit Speaker(LatePit& owner) : pit(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
    LatePit& pit;
  };

  /// Its state: ours, or KVM's for an access that left the guest before KVM had one.
  kvm_pit_state2 state() noexcept;
  void keep(const kvm_pit_state2& state) noexcept;
  void make(const kvm_pit_state2& state) noexcept;
  void complain(const char* what) noexcept;

  Vm& vm_;
  Counters counters_{*this};
  Speaker speaker_{*this};
  LogLimit log_limit_;
};

}  // namespace ringlet
