// What the guest's CPUID instruction answers: KVM's offer, our policy, the user's changes.
#include "kvm/cpuid.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <initializer_list>

#include <fmt/core.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

using enum CpuidRegister;

constexpr uint32_t kSubleaf = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

/// Leaves that say nothing to a guest, or what is not true of it.
constexpr std::array<uint32_t, 9> kHiddenLeaves{
    0x5,          // MONITOR/MWAIT: the guest leaves idling to HLT
    0xa,          // performance monitoring: its state is not saved
    0xb,          // topology: the host's; ours is appended
    0x12,         // SGX
    0x14,         // processor trace
    0x1f,         // topology, version 2: as 0xb
    0x8000'000a,  // SVM: nested state is not saved
    0x8000'0022,  // performance monitoring, AMD
    0x8000'0026,  // topology, AMD
};

constexpr uint32_t bits(std::initializer_list<unsigned> numbers) {
  uint32_t mask = 0;
  for (const unsigned number : numbers) mask |= uint32_t{1} << number;
  return mask;
}

struct Rule {
  uint32_t leaf;
  CpuidRegister reg;
  uint32_t off;
  uint32_t on;
};

// clang-format off
constexpr std::array kPolicy{
    // Off: MONITOR, VMX (nested state is not saved), PDCM. On: x2APIC, which KVM always has, and
    // the bit that says that there is a hypervisor.
    Rule{0x1,         Ecx, bits({3, 5, 15}),          bits({21, 31})},
    // Off: SGX, processor trace, SGX launch control.
    Rule{0x7,         Ebx, bits({2, 25}),             0},
    Rule{0x7,         Ecx, bits({30}),                0},
    // Off: SVM, the performance counters of core, northbridge and cache, MONITORX.
    Rule{0x8000'0001, Ecx, bits({2, 23, 24, 28, 29}), 0},
};
// clang-format on

uint32_t& value_of(kvm_cpuid_entry2& entry, CpuidRegister reg) {
  const std::array<uint32_t*, 4> values{&entry.eax, &entry.ebx, &entry.ecx, &entry.edx};
  return *values[static_cast<size_t>(reg)];
}

kvm_cpuid_entry2* find(CpuidTable& table, uint32_t leaf, uint32_t subleaf = 0) {
  return const_cast<kvm_cpuid_entry2*>(find_cpuid(table, leaf, subleaf));
}

bool is_set(const CpuidTable& table, const CpuidBit& bit) {
  const kvm_cpuid_entry2* const found = find_cpuid(table, bit.leaf, bit.subleaf);
  if (found == nullptr) return false;
  kvm_cpuid_entry2 entry = *found;
  return (value_of(entry, bit.reg) >> bit.bit & 1) != 0;
}

bool is_amd(const CpuidTable& supported) {
  const kvm_cpuid_entry2* const vendor = find_cpuid(supported, 0, 0);
  // "AuthenticAMD" and "HygonGenuine", of which the first four bytes are in EBX.
  return vendor != nullptr && (vendor->ebx == 0x6874'7541 || vendor->ebx == 0x6f67'7948);
}

void set_field(uint32_t& value, unsigned high, unsigned low, uint32_t field) {
  const unsigned width = high - low + 1;
  const uint32_t mask = (width == 32 ? ~uint32_t{0} : (uint32_t{1} << width) - 1);
  value = (value & ~(mask << low)) | (std::min(field, mask) << low);
}

/// Intel SDM vol. 2, CPUID, leaves 0xb and 0x1f: subleaf 0 is the thread level, 1 the core level,
/// 2 the end. `shift` turns an APIC id into a package id.
void append_topology(CpuidTable& table, uint32_t leaf, const CpuidParams& params, unsigned shift) {
  table.push_back({.function = leaf,
                   .index = 0,
                   .flags = kSubleaf,
                   .eax = 0,
                   .ebx = 1,
                   .ecx = 0x100,
                   .edx = params.apic_id,
                   .padding = {}});
  table.push_back({.function = leaf,
                   .index = 1,
                   .flags = kSubleaf,
                   .eax = shift,
                   .ebx = params.cpu_count,
                   .ecx = 0x201,
                   .edx = params.apic_id,
                   .padding = {}});
  table.push_back({.function = leaf,
                   .index = 2,
                   .flags = kSubleaf,
                   .eax = 0,
                   .ebx = 0,
                   .ecx = 0x2,
                   .edx = params.apic_id,
                   .padding = {}});
}

/// Leaves 4 (Intel) and 0x8000001d (AMD): caches of level 3 are shared by all, others by nobody.
void set_caches(CpuidTable& table, uint32_t sharers, uint32_t cores) {
  for (kvm_cpuid_entry2& entry : table) {
    const bool amd = entry.function == 0x8000'001d;
    if ((entry.function != 0x4 && !amd) || (entry.eax & 0x1f) == 0) continue;
    const uint32_t level = entry.eax >> 5 & 0x7;
    set_field(entry.eax, 25, 14, level >= 3 ? sharers - 1 : 0);
    if (!amd) set_field(entry.eax, 31, 26, cores - 1);
  }
}

/// AMD APM vol. 3, leaves 0x80000001, 0x80000008 and 0x8000001e.
void set_amd_topology(CpuidTable& table, const CpuidParams& params, unsigned shift) {
  if (kvm_cpuid_entry2* const features = find(table, 0x8000'0001)) {
    set_field(features->ecx, 1, 1, params.cpu_count > 1 ? 1 : 0);
  }
  if (kvm_cpuid_entry2* const sizes = find(table, 0x8000'0008)) {
    set_field(sizes->ecx, 7, 0, params.cpu_count - 1);
    set_field(sizes->ecx, 15, 12, shift);
  }
  std::erase_if(table, [](const auto& entry) { return entry.function == 0x8000'001e; });
  const kvm_cpuid_entry2* const last = find_cpuid(table, 0x8000'0000, 0);
  if (last == nullptr || last->eax < 0x8000'001e) return;
  table.push_back({.function = 0x8000'001e,
                   .index = 0,
                   .flags = 0,
                   .eax = params.apic_id,
                   .ebx = params.apic_id & 0xff,
                   .ecx = 0,
                   .edx = 0,
                   .padding = {}});
}

void set_topology(CpuidTable& table, const CpuidParams& params, bool amd) {
  const auto shift = static_cast<unsigned>(std::bit_width(params.cpu_count - 1));
  // Intel counts the ids that a package has room for, AMD the processors that there are.
  const uint32_t room = amd ? params.cpu_count : uint32_t{1} << shift;
  if (kvm_cpuid_entry2* const basic = find(table, 0x1)) {
    set_field(basic->ebx, 31, 24, params.apic_id);
    set_field(basic->ebx, 23, 16, room);
    set_field(basic->edx, 28, 28, params.cpu_count > 1 ? 1 : 0);
  }
  set_caches(table, room, room);
  if (amd) set_amd_topology(table, params, shift);
  const kvm_cpuid_entry2* const last = find_cpuid(table, 0, 0);
  if (last == nullptr) return;
  if (last->eax >= 0x1f) append_topology(table, 0x1f, params, shift);
  if (find_cpuid(table, 0, 0)->eax >= 0xb) append_topology(table, 0xb, params, shift);
}

void apply(CpuidTable& table, const CpuidTable& supported, const CpuidChange& change) {
  const CpuidBit& bit = change.bit;
  if (change.on && change.named && !is_set(supported, bit) && !is_set(table, bit)) {
    throw ConfigError(
        fmt::format("CPUID feature {}: KVM on this host does not offer it", to_string(change)));
  }
  kvm_cpuid_entry2* entry = find(table, bit.leaf, bit.subleaf);
  if (entry == nullptr) {
    if (!change.on) return;
    const bool has_subleaves =
        bit.subleaf != 0 || std::ranges::any_of(supported, [&](const kvm_cpuid_entry2& other) {
          return other.function == bit.leaf && (other.flags & kSubleaf) != 0;
        });
    table.push_back({.function = bit.leaf,
                     .index = bit.subleaf,
                     .flags = has_subleaves ? kSubleaf : 0,
                     .eax = 0,
                     .ebx = 0,
                     .ecx = 0,
                     .edx = 0,
                     .padding = {}});
    entry = &table.back();
  }
  set_field(value_of(*entry, bit.reg), bit.bit, bit.bit, change.on ? 1 : 0);
}

}  // namespace

const kvm_cpuid_entry2* find_cpuid(const CpuidTable& table, uint32_t leaf, uint32_t subleaf) {
  for (const kvm_cpuid_entry2& entry : table) {
    if (entry.function != leaf) continue;
    if ((entry.flags & kSubleaf) == 0 || entry.index == subleaf) return &entry;
  }
  return nullptr;
}

CpuidTable make_cpuid(const CpuidTable& supported, const CpuidParams& params) {
  assert(params.cpu_count > 0);
  assert(params.apic_id < params.cpu_count);
  CpuidTable table;
  for (const kvm_cpuid_entry2& entry : supported) {
    // KVM answers a leaf that is not in its table with zeroes, and searches the table one by one
    // whenever the guest asks.
    const bool zero = (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0;
    const bool hidden = std::ranges::find(kHiddenLeaves, entry.function) != kHiddenLeaves.end();
    if (!zero && !hidden) table.push_back(entry);
  }
  for (const Rule& rule : kPolicy) {
    kvm_cpuid_entry2* const entry = find(table, rule.leaf);
    if (entry == nullptr) continue;
    uint32_t& value = value_of(*entry, rule.reg);
    value = (value & ~rule.off) | rule.on;
  }
  if (kvm_cpuid_entry2* const basic = find(table, 0x1)) {
    set_field(basic->ecx, 24, 24, params.tsc_deadline ? 1 : 0);
  }
  set_topology(table, params, is_amd(supported));
  for (const CpuidChange& change : params.changes) apply(table, supported, change);
  return table;
}

std::vector<CpuidChange> forced_changes(const CpuidTable& effective,
                                        std::span<const CpuidChange> changes) {
  std::vector<CpuidChange> forced;
  for (const CpuidChange& change : changes) {
    if (is_set(effective, change.bit) != change.on) forced.push_back(change);
  }
  return forced;
}

unsigned physical_address_bits(const CpuidTable& supported) {
  const kvm_cpuid_entry2* const sizes = find_cpuid(supported, 0x8000'0008, 0);
  // Without the leaf: what every processor with PAE has.
  if (sizes == nullptr) return 36;
  const unsigned physical = sizes->eax & 0xff;
  // Newer kernels say here what nested paging can really map, when that is less.
  const unsigned mappable = sizes->eax >> 16 & 0xff;
  return mappable == 0 ? physical : std::min(physical, mappable);
}

}  // namespace ringlet
