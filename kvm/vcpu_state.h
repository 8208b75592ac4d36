// Everything that makes up a vCPU between two instructions, as plain data.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvm/cpuid.h"

namespace ringlet {

/// An MSR and its value.
struct Msr {
  uint32_t index = 0;
  uint64_t value = 0;
  bool operator==(const Msr&) const = default;
};

struct VcpuState {
  CpuidTable cpuid;
  /// The guest's TSC frequency; 0 when KVM could not tell.
  uint32_t tsc_khz = 0;
  kvm_mp_state mp_state{};
  kvm_regs regs{};
  /// Pending interrupts are in `events`.
  kvm_sregs2 sregs{};
  /// The XSAVE area in the standard format. Empty where KVM has none; then `fpu` counts.
  std::vector<std::byte> xsave;
  kvm_fpu fpu{};
  kvm_xcrs xcrs{};
  kvm_debugregs debugregs{};
  kvm_lapic_state lapic{};
  std::vector<Msr> msrs;
  kvm_vcpu_events events{};
};

/// An MSR that KVM would not set, while its value differs from the saved one.
struct RefusedMsr {
  uint32_t index = 0;
  uint64_t wanted = 0;
  std::optional<uint64_t> current;  ///< nothing when it cannot even be read
  bool operator==(const RefusedMsr&) const = default;
};

/// How a saved XSAVE area goes into one of `size` bytes: extended by zeroes, which is the initial
/// state of every component. Nothing when it holds a component that does not fit.
std::optional<std::vector<std::byte>> fit_xsave(std::span<const std::byte> saved, size_t size);

/// Whether a guest that was told `saved_khz` can run at `host_khz` unscaled. KVM itself tolerates
/// 250 parts per million: a host's own measurement varies that much from boot to boot.
constexpr bool tsc_rate_matches(uint32_t saved_khz, uint32_t host_khz) {
  const uint64_t apart = saved_khz > host_khz ? saved_khz - host_khz : host_khz - saved_khz;
  return apart * 1'000'000 <= uint64_t{250} * host_khz;
}

}  // namespace ringlet
