// Guest: starts all other CPUs by INIT and start-up IPIs, then sends interrupts between them.
// The CPUs come from the MADT; where there is none, cpus=N means APIC ids 0 to N - 1.
//   rounds=N       how many times every CPU is interrupted in each way (10)
//   apic=x2apic    switches all local APICs to x2APIC mode first
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/guest.h"
#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest {

extern "C" {
extern const char ap_trampoline[];
extern const char ap_trampoline_end[];
[[noreturn]] void ap_main();
}

namespace {

constexpr uint64_t kTrampolinePage = 0x10;  // at 64 KiB
constexpr uint8_t kBroadcastVector = 0x70;
constexpr uint8_t kRingVector = 0x71;

// Interrupt commands (Intel SDM volume 3, 11.6.1).
constexpr uint32_t kInit = 0x4500;
constexpr uint32_t kStartUp = 0x4600;
constexpr uint32_t kFixed = 0x4000;
constexpr uint32_t kAllButSelf = 3 << 18;

uint32_t apic_ids[acpi::kMaxCpus];
size_t cpu_count = 0;
uint32_t boot_id = 0;

// By position in apic_ids; written by each CPU itself.
uint32_t online[acpi::kMaxCpus];
uint32_t broadcasts[acpi::kMaxCpus];
InterruptCount ring_passes;

size_t position(uint32_t apic_id) {
  for (size_t i = 0; i < cpu_count; ++i) {
    if (apic_ids[i] == apic_id) {
      return i;
    }
  }
  fail("a CPU has APIC id {}, which is not in the MADT", apic_id);
}

void on_broadcast(uint8_t) {
  __atomic_fetch_add(&broadcasts[position(apic::id_ring0())], 1, __ATOMIC_SEQ_CST);
}

// Each CPU interrupts the next one; the boot CPU, which began, ends it.
void on_ring(uint8_t) {
  const size_t self = position(apic::id_ring0());
  if (apic_ids[self] == boot_id) {
    ring_passes.raise();
  } else {
    apic::send_command_ring0(apic_ids[(self + 1) % cpu_count], kFixed | kRingVector);
  }
}

template <typename F>
void wait_for(F condition, const char* what) {
  const Deadline deadline;
  while (!condition()) {
    expect(!deadline.passed(), "waiting for {} took too long", what);
    cpu_relax();
  }
}

uint32_t load(const uint32_t& value) {
  return __atomic_load_n(&value, __ATOMIC_SEQ_CST);
}

void start_all() {
  memcpy(reinterpret_cast<void*>(kTrampolinePage << 12), ap_trampoline,
         static_cast<size_t>(ap_trampoline_end - ap_trampoline));
  for (size_t i = 0; i < cpu_count; ++i) {
    if (apic_ids[i] == boot_id) {
      online[i] = 1;
      continue;
    }
    apic::send_command(apic_ids[i], kInit);
    apic::send_command(apic_ids[i], kStartUp | kTrampolinePage);
  }
  for (size_t i = 0; i < cpu_count; ++i) {
    wait_for([&] { return load(online[i]) != 0; }, "a CPU to start");
    print("CPU {} online\n", apic_ids[i]);
  }
}

void broadcast(uint32_t rounds) {
  for (uint32_t round = 1; round <= rounds; ++round) {
    apic::send_command(0, kAllButSelf | kFixed | kBroadcastVector);
    for (size_t i = 0; i < cpu_count; ++i) {
      const uint32_t wanted = apic_ids[i] == boot_id ? 0 : round;
      wait_for([&] { return load(broadcasts[i]) == wanted; }, "a broadcast to arrive");
    }
  }
  print("broadcasts: {}\n", rounds);
}

void pass_round(uint32_t rounds) {
  const size_t next = (position(boot_id) + 1) % cpu_count;
  for (uint32_t round = 0; round < rounds; ++round) {
    const uint32_t seen = ring_passes.value();
    apic::send_command(apic_ids[next], kFixed | kRingVector);
    wait_for_interrupt(ring_passes, seen, "interrupt from the last CPU");
  }
  print("rings: {}\n", rounds);
}

}  // namespace

void ap_main() {
  apic::enable_ring0();
  __atomic_store_n(&online[position(apic::id_ring0())], 1, __ATOMIC_SEQ_CST);
  for (;;) {
    asm volatile("sti; hlt" : : : "memory");
  }
}

void guest_main() {
  cpu_count = acpi::find_cpus(apic_ids);
  if (cpu_count == 0) {
    cpu_count = option_number("cpus", 1);
    expect(cpu_count <= acpi::kMaxCpus, "{} CPUs", cpu_count);
    for (uint32_t i = 0; i < cpu_count; ++i) {
      apic_ids[i] = i;
    }
  }
  if (option_text("apic", "") == "x2apic") {
    apic::choose_x2apic();
    apic::enable();
  }
  boot_id = apic::id();
  set_handler(kBroadcastVector, on_broadcast);
  set_handler(kRingVector, on_ring);
  start_all();
  const auto rounds = static_cast<uint32_t>(option_number("rounds", 10));
  broadcast(rounds);
  pass_round(rounds);
  print("CPUs: {}\n", cpu_count);
}

}  // namespace guest
