// The PIT (Intel 8254 timer), which KVM plays, made when the guest first asks for it.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <span>

#include "kvm/bus.h"
#include "kvm/log.h"
#include "kvm/vm.h"

namespace ringlet {

/// Current kernels keep time by kvmclock and the local APIC and never touch the PIT. It costs a
/// kernel thread, a tenth of a millisecond at start, and at the end two grace periods for which the
/// process stays: up to 15 ms. So its ports leave the guest at first; the access that does so makes
/// the PIT and is done on its state, and KVM answers all that follow.
class LatePit {
 public:
  static constexpr AddrRange kCounterPorts{0x40, 4};
  static constexpr AddrRange kSpeakerPort{0x61, 1};

  /// `vm` must outlive this, this the entries on `ports`, whose mutex guards it.
  LatePit(Vm& vm, Bus& ports);
  LatePit(const LatePit&) = delete;
  LatePit& operator=(const LatePit&) = delete;

  /// What one access does to a PIT, and what it reads: for tests.
  static void write_counter_port(kvm_pit_state2& pit, uint64_t port, uint8_t value) noexcept;
  static void write_speaker(kvm_pit_state2& pit, uint8_t value) noexcept;
  static uint8_t read_speaker(const kvm_pit_state2& pit) noexcept;

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

  /// Makes the PIT, if need be. Nothing when KVM cannot.
  std::optional<kvm_pit_state2> state() noexcept;
  void set_state(const kvm_pit_state2& state) noexcept;
  void complain(const char* what) noexcept;

  Vm& vm_;
  Counters counters_{*this};
  Speaker speaker_{*this};
  LogLimit log_limit_;
};

}  // namespace ringlet
