// Saving a vCPU's state and carrying on with it in another VM.
#include "kvm/vcpu_state.h"

#include <algorithm>

#include <fmt/core.h>

#include "kvm/error.h"
#include "kvm/ioctl.h"
#include "kvm/vcpu.h"

namespace ringlet {
namespace {

/// Below KVM's limit of 256 for one ioctl.
constexpr size_t kMsrBatch = 128;
constexpr uint32_t kTsc = 0x10;           // IA32_TIME_STAMP_COUNTER
constexpr uint32_t kTscDeadline = 0x6e0;  // IA32_TSC_DEADLINE

template <typename State>
void get(int vcpu, unsigned long request, State& state, const char* what) {
  check(kvm_ioctl(vcpu, request, &state), what);
}

template <typename State>
void set(int vcpu, unsigned long request, const State& state, const char* what) {
  check(kvm_ioctl(vcpu, request, &state), what);
}

/// One KVM_GET_MSRS or KVM_SET_MSRS for all of `msrs`, which it updates. Returns how many KVM did
/// before it came to one that it refuses.
size_t transfer_msrs(int vcpu, unsigned long request, std::span<Msr> msrs) {
  KvmTable<KvmTableHead, kvm_msr_entry> table(msrs.size());
  for (size_t i = 0; i < msrs.size(); ++i) {
    table.entries()[i].index = msrs[i].index;
    table.entries()[i].data = msrs[i].value;
  }
  const int done = check(kvm_ioctl(vcpu, request, table.get()),
                         request == kGetMsrs ? "KVM_GET_MSRS" : "KVM_SET_MSRS");
  for (size_t i = 0; i < msrs.size(); ++i) msrs[i].value = table.entries()[i].data;
  return static_cast<size_t>(done);
}

/// The same for any number, going on behind each refused one; returns those.
std::vector<Msr> transfer_all(int vcpu, unsigned long request, std::span<Msr> msrs) {
  std::vector<Msr> refused;
  while (!msrs.empty()) {
    const auto batch = msrs.first(std::min(msrs.size(), kMsrBatch));
    size_t done = transfer_msrs(vcpu, request, batch);
    if (done < batch.size()) refused.push_back(batch[done++]);
    msrs = msrs.subspan(done);
  }
  return refused;
}

kvm_sregs2 get_sregs(int vcpu, bool has_sregs2) {
  kvm_sregs2 state{};
  if (has_sregs2) {
    get(vcpu, KVM_GET_SREGS2, state, "KVM_GET_SREGS2");
    return state;
  }
  kvm_sregs old{};
  get(vcpu, KVM_GET_SREGS, old, "KVM_GET_SREGS");
  return {.cs = old.cs,
          .ds = old.ds,
          .es = old.es,
          .fs = old.fs,
          .gs = old.gs,
          .ss = old.ss,
          .tr = old.tr,
          .ldt = old.ldt,
          .gdt = old.gdt,
          .idt = old.idt,
          .cr0 = old.cr0,
          .cr2 = old.cr2,
          .cr3 = old.cr3,
          .cr4 = old.cr4,
          .cr8 = old.cr8,
          .efer = old.efer,
          .apic_base = old.apic_base,
          .flags = 0,
          .pdptrs = {}};
}

void set_sregs(int vcpu, bool has_sregs2, const kvm_sregs2& state) {
  if (has_sregs2) {
    set(vcpu, KVM_SET_SREGS2, state, "KVM_SET_SREGS2");
    return;
  }
  const kvm_sregs old{.cs = state.cs,
                      .ds = state.ds,
                      .es = state.es,
                      .fs = state.fs,
                      .gs = state.gs,
                      .ss = state.ss,
                      .tr = state.tr,
                      .ldt = state.ldt,
                      .gdt = state.gdt,
                      .idt = state.idt,
                      .cr0 = state.cr0,
                      .cr2 = state.cr2,
                      .cr3 = state.cr3,
                      .cr4 = state.cr4,
                      .cr8 = state.cr8,
                      .efer = state.efer,
                      .apic_base = state.apic_base,
                      .interrupt_bitmap = {}};
  set(vcpu, KVM_SET_SREGS, old, "KVM_SET_SREGS");
}

}  // namespace

std::optional<std::vector<std::byte>> fit_xsave(std::span<const std::byte> saved, size_t size) {
  const size_t kept = std::min(saved.size(), size);
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (!std::ranges::all_of(saved.subspan(kept), is_zero)) return std::nullopt;
  std::vector<std::byte> area(saved.begin(), saved.begin() + static_cast<ptrdiff_t>(kept));
  area.resize(size);
  return area;
}

std::vector<Msr> Vcpu::read_msrs() const {
  std::vector<Msr> msrs;
  for (const uint32_t index : vm_.kvm().msr_indices()) msrs.push_back({.index = index, .value = 0});
  const std::vector<Msr> refused = transfer_all(fd_.get(), kGetMsrs, msrs);
  std::erase_if(msrs, [&](const Msr& msr) {
    return std::ranges::find(refused, msr.index, &Msr::index) != refused.end();
  });
  return msrs;
}

// KVM takes a TSC within a second of the VM's own for an attempt to synchronise vCPUs and keeps the
// VM's, before Linux 6.7 also where nobody had set that: the TSC of a guest that was saved young
// would go back. So the first vCPU sets it far away before. The others are to be synchronised with
// that one.
void Vcpu::desynchronise_tsc(std::span<const Msr> msrs) {
  if (id_ != 0) return;
  const auto tsc = std::ranges::find(msrs, kTsc, &Msr::index);
  if (tsc == msrs.end()) return;
  constexpr uint64_t kFarMs = 10'000;
  Msr far{.index = kTsc, .value = tsc->value + kFarMs * tsc_khz()};
  transfer_msrs(fd_.get(), kSetMsrs, std::span(&far, 1));
}

std::vector<RefusedMsr> Vcpu::write_msrs(std::vector<Msr> msrs) {
  desynchronise_tsc(msrs);
  // The deadline is judged by the TSC, so that one must have its value by then.
  std::stable_partition(msrs.begin(), msrs.end(),
                        [](const Msr& msr) { return msr.index != kTscDeadline; });
  std::vector<RefusedMsr> report;
  for (const Msr& refused : transfer_all(fd_.get(), kSetMsrs, msrs)) {
    Msr current{.index = refused.index, .value = 0};
    const bool readable = transfer_msrs(fd_.get(), kGetMsrs, std::span(&current, 1)) == 1;
    if (readable && current.value == refused.value) continue;
    report.push_back({.index = refused.index,
                      .wanted = refused.value,
                      .current = readable ? std::optional(current.value) : std::nullopt});
  }
  // A KVM that cannot offset the TSC accepts any value and keeps the host's.
  const auto tsc = std::ranges::find(msrs, kTsc, &Msr::index);
  if (tsc == msrs.end()) return report;
  Msr now{.index = kTsc, .value = 0};
  transfer_msrs(fd_.get(), kGetMsrs, std::span(&now, 1));
  const uint64_t second = 1000 * uint64_t{tsc_khz()};
  const uint64_t leap = std::max(now.value, tsc->value) - std::min(now.value, tsc->value);
  if (leap > second) {
    report.push_back({.index = kTsc, .wanted = tsc->value, .current = now.value});
  }
  return report;
}

uint32_t Vcpu::tsc_khz() const noexcept {
  const int khz = kvm_ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0);
  return static_cast<uint32_t>(std::max(khz, 0));
}

VcpuState Vcpu::save() const {
  const int vcpu = fd_.get();
  VcpuState state;
  // Asking for the multiprocessing state makes KVM act on a pending INIT or SIPI, which changes
  // registers: first. Events last, for what the calls before them may queue.
  get(vcpu, KVM_GET_MP_STATE, state.mp_state, "KVM_GET_MP_STATE");
  get(vcpu, KVM_GET_REGS, state.regs, "KVM_GET_REGS");
  state.sregs = get_sregs(vcpu, vm_.kvm().extension(KVM_CAP_SREGS2) > 0);
  if (vm_.xsave_size() == 0) {
    get(vcpu, KVM_GET_FPU, state.fpu, "KVM_GET_FPU");
  } else {
    state.xsave.resize(vm_.xsave_size());
    const bool large = vm_.xsave_size() > sizeof(KvmXsaveHead);
    check(kvm_ioctl(vcpu, large ? kGetXsave2 : kGetXsave, state.xsave.data()), "KVM_GET_XSAVE");
  }
  if (vm_.kvm().extension(KVM_CAP_XCRS) > 0) {
    get(vcpu, KVM_GET_XCRS, state.xcrs, "KVM_GET_XCRS");
  }
  get(vcpu, KVM_GET_DEBUGREGS, state.debugregs, "KVM_GET_DEBUGREGS");
  // The MSRs before the local APIC: a deadline timer that fires in between is then seen armed and
  // fires once more. The other way round it would be lost.
  state.msrs = read_msrs();
  get(vcpu, KVM_GET_LAPIC, state.lapic, "KVM_GET_LAPIC");
  state.cpuid = cpuid();
  state.tsc_khz = tsc_khz();
  get(vcpu, KVM_GET_VCPU_EVENTS, state.events, "KVM_GET_VCPU_EVENTS");
  return state;
}

void Vcpu::restore_tsc_rate(uint32_t saved_khz) {
  const uint32_t host_khz = tsc_khz();
  if (saved_khz == 0 || host_khz == 0) return;
  if (tsc_rate_matches(saved_khz, host_khz)) return;
  // Without scaling KVM would make a faster TSC up by jumps: not what the guest was promised.
  if (vm_.kvm().extension(KVM_CAP_TSC_CONTROL) <= 0 ||
      kvm_ioctl(fd_.get(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(saved_khz)) < 0) {
    throw ConfigError(fmt::format(
        "the saved guest's TSC runs at {} kHz; this host's runs at {} kHz and cannot be scaled",
        saved_khz, host_khz));
  }
}

void Vcpu::restore_fpu(const VcpuState& state) {
  if (state.xsave.empty()) {
    set(fd_.get(), KVM_SET_FPU, state.fpu, "KVM_SET_FPU");
    return;
  }
  const auto area = fit_xsave(state.xsave, vm_.xsave_size());
  if (!area) {
    throw ConfigError(fmt::format(
        "the saved guest uses processor state of {} bytes (XSAVE); this host has room for {}",
        state.xsave.size(), vm_.xsave_size()));
  }
  check(kvm_ioctl(fd_.get(), kSetXsave, area->data()), "KVM_SET_XSAVE");
}

std::vector<RefusedMsr> Vcpu::restore(const VcpuState& state) {
  const int vcpu = fd_.get();
  // CPUID says which bits of everything else are legal.
  set_cpuid(state.cpuid);
  restore_tsc_rate(state.tsc_khz);
  // The special registers hold the APIC base, without which the local APIC's registers mean
  // nothing; the APIC holds the timer mode, without which the deadline MSR is ignored.
  set_sregs(vcpu, vm_.kvm().extension(KVM_CAP_SREGS2) > 0, state.sregs);
  set(vcpu, KVM_SET_REGS, state.regs, "KVM_SET_REGS");
  restore_fpu(state);
  if (state.xcrs.nr_xcrs > 0) set(vcpu, KVM_SET_XCRS, state.xcrs, "KVM_SET_XCRS");
  set(vcpu, KVM_SET_DEBUGREGS, state.debugregs, "KVM_SET_DEBUGREGS");
  set(vcpu, KVM_SET_LAPIC, state.lapic, "KVM_SET_LAPIC");
  std::vector<RefusedMsr> refused = write_msrs(state.msrs);
  set(vcpu, KVM_SET_MP_STATE, state.mp_state, "KVM_SET_MP_STATE");
  // Setting registers drops pending events, so these come last.
  set(vcpu, KVM_SET_VCPU_EVENTS, state.events, "KVM_SET_VCPU_EVENTS");
  return refused;
}

}  // namespace ringlet
