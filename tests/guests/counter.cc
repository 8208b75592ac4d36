// Guest: counts, keeping its count in every kind of state a VM has, so that a run that is paused,
// saved and carried on elsewhere shows any state that was lost: each tick checks all of it.
//   ticks=N       how many (50)
//   timer=apic    each tick waits for the periodic local APIC timer (the default),
//   timer=pit     for the PIT through the I/O APIC,
//   timer=none    or for nothing: ticks follow one another as fast as they can
//   clock=kvm     also watches kvmclock
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/guest.h"
#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest {

struct FpuState {
  uint64_t vector_count;
  uint64_t x87_count;
  uint32_t mxcsr;
  uint16_t control_word;
  uint16_t reserved;
};

extern "C" {
void fpu_start();
void fpu_tick(FpuState* state);
}

namespace {

constexpr uint8_t kTimerVector = 0x66;
constexpr uint32_t kTimerPeriodic = 1 << 17;
constexpr uint32_t kDivideBy16 = 0x3;
constexpr uint32_t kApicCount = 625'000;  // 10 ms at KVM's 1 GHz
constexpr uint8_t kPitIrq = 0;
constexpr uint16_t kPitCount = 11932;  // 10 ms at 1.193182 MHz
constexpr size_t kPages = 64;
constexpr size_t kPageWords = 4096 / sizeof(uint64_t);

InterruptCount timer;
alignas(4096) uint64_t pages[kPages][kPageWords];

// Registers that ring 0 sets once and finds again, with a value each.
struct MsrValue {
  uint32_t msr;
  uint64_t value;
};
constexpr MsrValue kMsrs[] = {
    {0xc0000081, 0x0023001000000000},  // STAR
    {0xc0000082, 0x0000123456789abc},  // LSTAR
    {0xc0000084, 0x0000000000047700},  // FMASK
    {0xc0000102, 0x00007abcdef01234},  // KERNEL_GS_BASE
    {0x174, 0x10},                     // SYSENTER_CS
    {0x277, 0x0007040600070406},       // PAT, as at reset
};
constexpr uint64_t kBreakpointAddress = 0x00005555aaaa0000;

void set_ring0_state() {
  in_ring0([] {
    for (const MsrValue& entry : kMsrs) {
      write_msr_ring0(entry.msr, entry.value);
    }
    asm volatile("mov %0, %%dr0" : : "r"(kBreakpointAddress));
  });
}

void check_ring0_state() {
  in_ring0([] {
    for (const MsrValue& entry : kMsrs) {
      const uint64_t got = read_msr_ring0(entry.msr);
      expect(got == entry.value, "MSR {} holds {}", hex(entry.msr), hex(got));
    }
    uint64_t address;
    asm volatile("mov %%dr0, %0" : "=r"(address));
    expect(address == kBreakpointAddress, "DR0 holds {}", hex(address));
  });
}

void check_fpu(uint64_t tick) {
  FpuState state;
  fpu_tick(&state);
  expect(state.vector_count == tick, "xmm15 counts {} at tick {}", state.vector_count, tick);
  expect(state.x87_count == tick, "st(0) counts {} at tick {}", state.x87_count, tick);
  expect(state.mxcsr == 0x7f80 || state.mxcsr == 0x7fa0, "MXCSR is {}", hex(state.mxcsr));
  expect(state.control_word == 0x037f, "the x87 control word is {}", hex(state.control_word));
}

// Each tick writes one page anew; all pages must hold what their last tick wrote.
void check_memory(uint64_t tick) {
  for (size_t i = 0; i < kPages; ++i) {
    const uint64_t written = i < tick ? (tick - 1 - i) / kPages * kPages + i + 1 : 0;
    for (const size_t word : {size_t{0}, tick % kPageWords, kPageWords - 1}) {
      const uint64_t wanted = written == 0 ? 0 : written * 0x9e3779b97f4a7c15 + word;
      expect(pages[i][word] == wanted, "page {} holds {} instead of {}", i, hex(pages[i][word]),
             hex(wanted));
    }
  }
}

void write_page(uint64_t tick) {
  uint64_t* page = pages[(tick - 1) % kPages];
  for (size_t word = 0; word < kPageWords; ++word) {
    page[word] = tick * 0x9e3779b97f4a7c15 + word;
  }
}

void start_timer(Text kind) {
  set_handler(kTimerVector, [](uint8_t) { timer.raise(); });
  if (kind == "apic") {
    apic::write(apic::Register::DivideConfiguration, kDivideBy16);
    apic::write(apic::Register::TimerVector, kTimerPeriodic | kTimerVector);
    apic::write(apic::Register::InitialCount, kApicCount);
  } else if (kind == "pit") {
    apic::route_pin(acpi::isa_interrupt_pin(kPitIrq), kTimerVector, apic::Trigger::Edge);
    port_out<uint8_t>(0x43, 0x34);  // channel 0, both bytes, rate generator
    port_out<uint8_t>(0x40, kPitCount & 0xff);
    port_out<uint8_t>(0x40, kPitCount >> 8);
  } else {
    expect(kind == "none", "timer={} is not known", kind);
  }
}

// struct pvclock_vcpu_time_info (Linux, Documentation/virt/kvm/x86/msr.rst).
struct KvmClock {
  uint32_t version;
  uint32_t padding;
  uint64_t tsc_timestamp;
  uint64_t system_time;
  uint32_t tsc_to_system_multiplier;
  int8_t tsc_shift;
  uint8_t flags;
  uint8_t reserved[2];
};
static_assert(sizeof(KvmClock) == 32);
alignas(64) volatile KvmClock kvm_clock;

void start_kvm_clock() {
  constexpr uint32_t kSystemTimeNew = 0x4b564d01;
  in_ring0([] {
    write_msr_ring0(kSystemTimeNew, address_of(const_cast<const KvmClock*>(&kvm_clock)) | 1);
  });
}

uint64_t read_kvm_clock_ns() {
  for (;;) {
    const uint32_t version = kvm_clock.version;
    asm volatile("lfence" : : : "memory");
    uint64_t delta = read_tsc() - kvm_clock.tsc_timestamp;
    const int shift = kvm_clock.tsc_shift;
    delta = shift < 0 ? delta >> -shift : delta << shift;
    const auto product = static_cast<unsigned __int128>(delta) * kvm_clock.tsc_to_system_multiplier;
    const uint64_t now = kvm_clock.system_time + static_cast<uint64_t>(product >> 32);
    asm volatile("lfence" : : : "memory");
    if ((version & 1) == 0 && kvm_clock.version == version) {
      return now;
    }
  }
}

}  // namespace

void guest_main() {
  const uint64_t ticks = option_number("ticks", 50);
  const Text kind = option_text("timer", "apic");
  const bool use_kvm_clock = option_text("clock", "") == "kvm";
  fpu_start();
  set_ring0_state();
  if (use_kvm_clock) {
    start_kvm_clock();
  }
  start_timer(kind);
  uint64_t last_tsc = read_tsc();
  uint64_t last_ns = 0;
  for (uint64_t tick = 1; tick <= ticks; ++tick) {
    if (kind != "none") {
      halt_until_raised(timer, timer.value());
    }
    check_memory(tick - 1);
    write_page(tick);
    check_fpu(tick);
    check_ring0_state();
    const uint64_t tsc = read_tsc();
    expect(tsc > last_tsc, "the TSC went back from {} to {}", last_tsc, tsc);
    last_tsc = tsc;
    if (use_kvm_clock) {
      const uint64_t ns = read_kvm_clock_ns();
      expect(ns > last_ns, "kvmclock went back from {} to {}", last_ns, ns);
      last_ns = ns;
    }
    print("tick {}\n", tick);
  }
  print("done\n");
}

}  // namespace guest
