// What the guest's CPUID instruction answers: KVM's offer, our policy, the user's changes.
//
// The functions here are pure: they make no system calls.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringlet {

using CpuidTable = std::vector<kvm_cpuid_entry2>;

enum class CpuidRegister : uint8_t { Eax, Ebx, Ecx, Edx };

/// One bit of one answer.
struct CpuidBit {
  uint32_t leaf = 0;
  uint32_t subleaf = 0;
  CpuidRegister reg = CpuidRegister::Eax;
  uint8_t bit = 0;
  bool operator==(const CpuidBit&) const = default;
};

/// A bit the user wants on or off.
struct CpuidChange {
  CpuidBit bit;
  bool on = false;
  /// Named by the feature and not by its place: must be in KVM's offer to be switched on.
  bool named = false;
  bool operator==(const CpuidChange&) const = default;
};

/// Parses "FEATURE=on|off" ("avx512f=off", names as in /proc/cpuinfo) or
/// "LEAF,SUBLEAF,REGISTER,BIT=on|off" ("0x7,0,ebx,16=off"). Throws ConfigError, which starts with
/// `where`: how the user names the place of the text.
CpuidChange parse_cpuid_change(std::string_view text, std::string_view where = "cpuid");

/// The change as the user would write it.
std::string to_string(const CpuidChange& change);

struct CpuidParams {
  uint32_t apic_id = 0;       ///< of the vCPU that will get the table
  uint32_t cpu_count = 1;     ///< one socket of single-threaded cores
  bool tsc_deadline = false;  ///< KVM_CAP_TSC_DEADLINE_TIMER
  std::span<const CpuidChange> changes;
};

/// The table for one vCPU. Throws ConfigError when a named feature that is to be switched on is
/// not in `supported`.
CpuidTable make_cpuid(const CpuidTable& supported, const CpuidParams& params);

/// The changes that `effective` (KVM_GET_CPUID2) does not show: KVM forces those bits.
std::vector<CpuidChange> forced_changes(const CpuidTable& effective,
                                        std::span<const CpuidChange> changes);

/// Leaf 0x80000008: the address bits that guest memory may really use.
unsigned physical_address_bits(const CpuidTable& supported);

/// The answer for a leaf and subleaf, or nullptr.
const kvm_cpuid_entry2* find_cpuid(const CpuidTable& table, uint32_t leaf, uint32_t subleaf);

}  // namespace ringlet
