// Local APIC (memory-mapped or x2APIC, as the machine starts it) and I/O APIC.
#include "lib/apic.h"

#include "lib/console.h"
#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest::apic {
namespace {

constexpr uint64_t kLocalApic = 0xfee00000;
constexpr uint64_t kIoApic = 0xfec00000;
constexpr uint32_t kApicBaseMsr = 0x1b;
constexpr uint64_t kApicEnabled = 1 << 11;
constexpr uint64_t kX2apicEnabled = 1 << 10;
constexpr uint32_t kX2apicMsrs = 0x800;
constexpr uint32_t kSoftwareEnable = 1 << 8;
constexpr uint32_t kTimerMasked = 1 << 16;
constexpr uint64_t kPinMasked = 1 << 16;
constexpr uint64_t kPinLevel = 1 << 15;
// KVM's timer runs at 1 GHz: 30 to 60 s, whichever divider a machine has.
constexpr uint32_t kWatchdogCount = 400'000'000;

bool x2apic = false;
bool want_x2apic = false;
const char* watched = "";

constexpr uint32_t msr(Register reg) {
  return kX2apicMsrs + static_cast<uint32_t>(reg);
}
constexpr uint64_t address(Register reg) {
  return kLocalApic + 16 * static_cast<uint64_t>(reg);
}

uint32_t io_apic_read(uint32_t index) {
  mmio_write<uint32_t>(kIoApic, index);
  return mmio_read<uint32_t>(kIoApic + 0x10);
}

void io_apic_write(uint32_t index, uint32_t value) {
  mmio_write<uint32_t>(kIoApic, index);
  mmio_write<uint32_t>(kIoApic + 0x10, value);
}

void write_pin(uint32_t pin, uint64_t entry) {
  io_apic_write(0x10 + 2 * pin + 1, static_cast<uint32_t>(entry >> 32));
  io_apic_write(0x10 + 2 * pin, static_cast<uint32_t>(entry));
}

}  // namespace

uint32_t read_ring0(Register reg) {
  return x2apic ? static_cast<uint32_t>(read_msr_ring0(msr(reg)))
                : mmio_read<uint32_t>(address(reg));
}

void write_ring0(Register reg, uint32_t value) {
  if (x2apic) {
    write_msr_ring0(msr(reg), value);
  } else {
    mmio_write<uint32_t>(address(reg), value);
  }
}

uint32_t read(Register reg) {
  return in_ring0([reg] { return read_ring0(reg); });
}

void write(Register reg, uint32_t value) {
  in_ring0([reg, value] { write_ring0(reg, value); });
}

void end_of_interrupt() {
  write_ring0(Register::EndOfInterrupt, 0);
}

void choose_x2apic() {
  want_x2apic = true;
}

void enable_ring0() {
  uint64_t base = read_msr_ring0(kApicBaseMsr) | kApicEnabled;
  if (want_x2apic) {
    base |= kX2apicEnabled;
  }
  write_msr_ring0(kApicBaseMsr, base);
  x2apic = (base & kX2apicEnabled) != 0;
  write_ring0(Register::SpuriousVector, kSoftwareEnable | kSpuriousVector);
}

void enable() {
  in_ring0([] { enable_ring0(); });
}

uint32_t id_ring0() {
  const uint32_t value = read_ring0(Register::Id);
  return x2apic ? value : value >> 24;
}

uint32_t id() {
  return in_ring0([] { return id_ring0(); });
}

void send_command_ring0(uint32_t destination, uint32_t command) {
  if (x2apic) {
    write_msr_ring0(msr(Register::CommandLow), uint64_t{destination} << 32 | command);
    return;
  }
  write_ring0(Register::CommandHigh, destination << 24);
  write_ring0(Register::CommandLow, command);
}

void send_command(uint32_t destination, uint32_t command) {
  in_ring0([=] { send_command_ring0(destination, command); });
}

// Stopped first: KVM starts a timer again when it gets another divider, also one that has run out,
// and then it could raise the vector that is written next.
void start_timer_ring0(uint32_t divide, uint8_t vector, uint32_t ticks) {
  write_ring0(Register::InitialCount, 0);
  write_ring0(Register::DivideConfiguration, divide);
  write_ring0(Register::TimerVector, vector);
  write_ring0(Register::InitialCount, ticks);
}

void start_watchdog(const char* what) {
  watched = what;
  set_handler(kWatchdogVector, [](uint8_t) { fail("no {} within half a minute", watched); });
  in_ring0([] { start_timer_ring0(kDivideBy128, kWatchdogVector, kWatchdogCount); });
}

void stop_watchdog() {
  in_ring0([] {
    write_ring0(Register::TimerVector, kTimerMasked | kWatchdogVector);
    write_ring0(Register::InitialCount, 0);
  });
}

void route_pin(uint32_t pin, uint8_t vector, Trigger trigger) {
  write_pin(pin, vector | (trigger == Trigger::Level ? kPinLevel : 0));
}

void mask_pin(uint32_t pin) {
  write_pin(pin, kPinMasked);
}

uint32_t pin_count() {
  return ((io_apic_read(1) >> 16) & 0xff) + 1;
}

}  // namespace guest::apic
