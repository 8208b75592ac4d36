// Time for the benchmark guest: the TSC and its rate, a wait without work, latencies by histogram.
#include "bench_clock.h"

#include "lib/apic.h"
#include "lib/console.h"
#include "lib/interrupts.h"
#include "lib/memory.h"
#include "lib/start_info.h"

namespace guest {
namespace {

// KVM's paravirtual clock (Linux, Documentation/virt/kvm/x86/cpuid.rst and msr.rst).
constexpr uint32_t kKvmSignatureLeaf = 0x40000000;
constexpr uint32_t kKvmFeaturesLeaf = 0x40000001;
constexpr uint32_t kKvmSignature = 0x4b4d564b;  // "KVMK"
constexpr uint32_t kFeatureClockSource2 = 1 << 3;
constexpr uint32_t kSystemTimeMsr = 0x4b564d01;
constexpr uint64_t kSystemTimeEnable = 1;

// struct pvclock_vcpu_time_info
struct alignas(64) SystemTime {
  uint32_t version;
  uint32_t pad;
  uint64_t tsc_timestamp;
  uint64_t system_time;
  uint32_t tsc_to_system_mul;
  int8_t tsc_shift;
  uint8_t flags;
  uint8_t more_pad[2];
};

SystemTime system_time;

constexpr uint8_t kTimerVector = 0x51;
constexpr uint32_t kTimerTicksPerMs = 1'000'000;  // KVM's timer runs at 1 GHz
InterruptCount timer_count;

struct CpuId {
  uint32_t eax, ebx, ecx, edx;
};

CpuId cpuid(uint32_t leaf) {
  CpuId id;
  asm volatile("cpuid"
               : "=a"(id.eax), "=b"(id.ebx), "=c"(id.ecx), "=d"(id.edx)
               : "a"(leaf), "c"(0));
  return id;
}

// ns = ((ticks << shift) * mul) >> 32, so a kilohertz has (10^6 << 32 >> shift) / mul of them.
uint32_t kvm_clock_khz() {
  if (cpuid(kKvmSignatureLeaf).ebx != kKvmSignature ||
      (cpuid(kKvmFeaturesLeaf).eax & kFeatureClockSource2) == 0) {
    return 0;
  }
  in_ring0([] { write_msr_ring0(kSystemTimeMsr, address_of(&system_time) | kSystemTimeEnable); });
  const uint32_t mul = system_time.tsc_to_system_mul;
  const int shift = system_time.tsc_shift;
  in_ring0([] { write_msr_ring0(kSystemTimeMsr, 0); });
  if (mul == 0) {
    return 0;
  }
  const uint64_t scaled = (uint64_t{1'000'000} << 32) / mul;
  return static_cast<uint32_t>(shift < 0 ? scaled << -shift : scaled >> shift);
}

}  // namespace

TscClock::TscClock() : khz_(static_cast<uint32_t>(option_number("tsc-khz", 0))) {
  if (khz_ == 0) {
    khz_ = kvm_clock_khz();
  }
  expect(khz_ != 0, "the TSC's rate is unknown: no kvmclock, and no tsc-khz= was given");
}

uint64_t TscClock::to_ns(uint64_t ticks) const {
  return ticks / khz_ * 1'000'000 + ticks % khz_ * 1'000'000 / khz_;
}

void sleep_ms(uint32_t ms) {
  set_handler(kTimerVector, [](uint8_t) { timer_count.raise(); });
  const uint32_t seen = timer_count.value();
  in_ring0(
      [ms] { apic::start_timer_ring0(apic::kDivideBy1, kTimerVector, ms * kTimerTicksPerMs); });
  halt_until_raised(timer_count, seen);
}

void Histogram::clear() {
  total_ = 0;
  for (uint32_t& count : counts_) {
    count = 0;
  }
}

// Values below kStep have a slot each; above, each power of two is cut in kStep parts.
size_t Histogram::slot_of(uint64_t value) {
  if (value < kStep) {
    return value;
  }
  const auto shift = static_cast<uint32_t>(63 - __builtin_clzll(value)) - kBits;
  return shift * kStep + (value >> shift);
}

uint64_t Histogram::value_of(size_t slot) {
  if (slot < 2 * kStep) {
    return slot;
  }
  const size_t shift = slot / kStep - 1;
  return (slot % kStep + kStep) << shift;
}

void Histogram::add(uint64_t value) {
  ++counts_[slot_of(value)];
  ++total_;
}

uint64_t Histogram::quantile(uint32_t per_mille) const {
  const uint64_t wanted = (total_ * per_mille + 999) / 1000;
  uint64_t below = 0;
  for (size_t slot = 0; slot < kSlots; ++slot) {
    below += counts_[slot];
    if (below >= wanted && below > 0) {
      return value_of(slot);
    }
  }
  return 0;
}

}  // namespace guest
