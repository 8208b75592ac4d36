// Guest: the devices every PC has, one at a time: what=NAME, NAME as in kTests below.
#include "legacy.h"

#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/guest.h"
#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest {
namespace {

// ---- Ways to end -------------------------------------------------------------------------------

// Waits for what the VMM is about to do; debug-exit tells that it did not.
[[noreturn]] void expect_end(const char* what) {
  const Deadline deadline;
  while (!deadline.passed()) {
    cpu_relax();
  }
  fail("still running after {}", what);
}

void power_off() {
  const acpi::FixedHardware hardware = acpi::fixed_hardware();
  acpi::enable(hardware);
  print("powering off\n");
  acpi::power_off(hardware);
  expect_end("S5");
}

void acpi_reset() {
  const acpi::FixedHardware hardware = acpi::fixed_hardware();
  expect(hardware.reset.address != 0, "the FADT has no reset register");
  print("resetting by ACPI\n");
  if (hardware.reset.is_port) {
    port_out<uint8_t>(static_cast<uint16_t>(hardware.reset.address), hardware.reset_value);
  } else {
    map_device(hardware.reset.address, 1);
    mmio_write<uint8_t>(hardware.reset.address, hardware.reset_value);
  }
  expect_end("an ACPI reset");
}

void i8042_reset() {
  constexpr uint16_t kCommandPort = 0x64;
  constexpr uint8_t kPulseReset = 0xfe;
  constexpr uint8_t kInputFull = 1 << 1;
  const Deadline deadline;
  while ((port_in<uint8_t>(kCommandPort) & kInputFull) != 0) {
    expect(!deadline.passed(), "the i8042 takes no command");
  }
  print("resetting by i8042\n");
  port_out<uint8_t>(kCommandPort, kPulseReset);
  expect_end("an i8042 reset");
}

// An exception without an interrupt table is a triple fault.
void triple_fault() {
  print("triple fault\n");
  in_ring0([] {
    const struct [[gnu::packed]] {
      uint16_t limit;
      uint64_t base;
    } no_table{0, 0};
    asm volatile("lidt %0" : : "m"(no_table));
  });
  asm volatile("ud2");
  expect_end("a triple fault");
}

// Instructions fetched from a device cannot be run by any hypervisor.
void run_device_memory() {
  constexpr uint64_t kNothing = 0xfec10000;
  print("jumping to {}\n", hex(kNothing));
  reinterpret_cast<void (*)()>(kNothing)();
  expect_end("a jump to no memory");
}

void halt() {
  print("halting\n");
  halt_forever();
}

void spin() {
  print("spinning\n");
  for (;;) {
    cpu_relax();
  }
}

// value=N: the events written, 1 (panicked) unless given.
void pvpanic() {
  constexpr uint16_t kPort = 0x505;
  const auto events = static_cast<uint8_t>(option_number("value", 1));
  const auto supported = port_in<uint8_t>(kPort);
  expect((supported & events) == events, "pvpanic supports {}", hex(supported));
  print("pvpanic event {}\n", events);
  port_out<uint8_t>(kPort, events);
  expect_end("a panic event");
}

// ---- Power button ------------------------------------------------------------------------------

constexpr uint8_t kSciVector = 0x65;
constinit acpi::FixedHardware sci_hardware{};
InterruptCount power_button_presses;

void on_sci(uint8_t) {
  const auto status = port_in<uint16_t>(sci_hardware.pm1_status_port);
  if ((status & acpi::kPm1PowerButton) != 0) {
    // Written ones clear, which also lowers the level-triggered line.
    port_out<uint16_t>(sci_hardware.pm1_status_port, acpi::kPm1PowerButton);
    power_button_presses.raise();
  }
}

// presses=N: how many to wait for (1).
void power_button() {
  sci_hardware = acpi::fixed_hardware();
  acpi::enable(sci_hardware);
  set_handler(kSciVector, on_sci);
  apic::route_pin(sci_hardware.sci_interrupt, kSciVector, apic::Trigger::Level);
  port_out<uint16_t>(sci_hardware.pm1_status_port, acpi::kPm1PowerButton);
  port_out<uint16_t>(sci_hardware.pm1_enable_port, acpi::kPm1PowerButton);
  print("waiting for the power button\n");
  const auto presses = static_cast<uint32_t>(option_number("presses", 1));
  for (uint32_t seen = 0; seen < presses; ++seen) {
    wait_for_interrupt(power_button_presses, seen, "power button");
    print("power button\n");
  }
  acpi::power_off(sci_hardware);
  expect_end("S5");
}

// ---- Clock and other small devices -------------------------------------------------------------

uint8_t read_cmos(uint8_t index) {
  port_out<uint8_t>(0x70, index);
  return port_in<uint8_t>(0x71);
}

// Registers of the MC146818: seconds, minutes, hours, day, month, year, and the century of a PC.
constexpr uint8_t kClockRegisters[] = {0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00};
constexpr size_t kClockFields = sizeof(kClockRegisters);

void read_clock(uint32_t (&fields)[kClockFields]) {
  constexpr uint8_t kStatusA = 0x0a;
  constexpr uint8_t kStatusB = 0x0b;
  constexpr uint8_t kUpdating = 0x80;
  constexpr uint8_t kBinary = 0x04;
  const Deadline deadline;
  while ((read_cmos(kStatusA) & kUpdating) != 0) {
    expect(!deadline.passed(), "the clock is always updating");
  }
  const bool binary = (read_cmos(kStatusB) & kBinary) != 0;
  for (size_t i = 0; i < kClockFields; ++i) {
    const uint8_t value = read_cmos(kClockRegisters[i]);
    fields[i] = binary || i == 0 ? value : 0;
    if (!binary || i == 0) {  // the century is BCD in either mode
      fields[i] = (value >> 4) * 10u + (value & 15u);
    }
  }
}

void rtc() {
  uint32_t now[kClockFields];
  uint32_t later[kClockFields];
  read_clock(now);
  print("rtc: {}{}-{}-{} {}:{}\n", padded(now[0], 2), padded(now[1], 2), padded(now[2], 2),
        padded(now[3], 2), padded(now[4], 2), padded(now[5], 2));
  const Deadline deadline;
  do {
    expect(!deadline.passed(), "the seconds stand still");
    read_clock(later);
  } while (later[kClockFields - 1] == now[kClockFields - 1]);
  print("rtc: the seconds advance\n");
}

void boot_timer() {
  mmio_write<uint8_t>(0xc0000000, 123);
  print("boot timer written\n");
}

void unassigned_ports() {
  constexpr uint16_t kPort = 0x5550;
  port_out<uint32_t>(kPort, 0);
  expect(port_in<uint8_t>(kPort) == 0xff, "a byte from nowhere");
  expect(port_in<uint16_t>(kPort) == 0xffff, "a word from nowhere");
  expect(port_in<uint32_t>(kPort) == 0xffffffff, "a double word from nowhere");
  print("unassigned ports read ones\n");
}

// String instructions come to the VMM as one exit with a count.
void string_io() {
  const Text text = "written by rep outsb\n";
  const char* from = text.data;
  size_t count = text.size;
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0xe9) : "memory");
  uint8_t bytes[64] = {};
  uint8_t* to = bytes;
  count = sizeof(bytes);
  asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x5550) : "memory");
  for (const uint8_t byte : bytes) {
    expect(byte == 0xff, "rep insb from nowhere gives {}", hex(byte));
  }
}

// leaf=N subleaf=N: the answer of KVM's table, which only ring 0 gets everywhere.
void cpuid() {
  auto eax = static_cast<uint32_t>(option_number("leaf", 0));
  auto ecx = static_cast<uint32_t>(option_number("subleaf", 0));
  uint32_t ebx = 0;
  uint32_t edx = 0;
  in_ring0([&] { asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)); });
  print("cpuid: {} {} {} {}\n", hex(eax, 8), hex(ebx, 8), hex(ecx, 8), hex(edx, 8));
}

struct Test {
  Text name;
  void (*run)();
};
constexpr Test kTests[] = {
    {"serial", serial_polled},
    {"serial-irq", serial_interrupts},
    {"serial-flood", serial_flood},
    {"rtc", rtc},
    {"i8042", i8042_reset},
    {"poweroff", power_off},
    {"reset", acpi_reset},
    {"powerbutton", power_button},
    {"pvpanic", pvpanic},
    {"triplefault", triple_fault},
    {"badfetch", run_device_memory},
    {"halt", halt},
    {"spin", spin},
    {"timer", boot_timer},
    {"ports", unassigned_ports},
    {"string", string_io},
    {"cpuid", cpuid},
};

}  // namespace

void guest_main() {
  const Text what = option_text("what", "");
  for (const Test& test : kTests) {
    if (test.name == what) {
      return test.run();
    }
  }
  fail("what={} is not known", what);
}

}  // namespace guest
