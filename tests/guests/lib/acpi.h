// ACPI tables, as far as guests need them: CPUs, ECAM, the fixed registers, the S5 sleep type.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/span.h"

namespace guest::acpi {

inline constexpr size_t kMaxCpus = 256;

// Walks RSDP, then XSDT or RSDT. Fails the run when a checksum on the way is wrong. `signature`
// has 4 letters. The bytes include the table's header.
std::optional<Span<const uint8_t>> find_table(Text signature);

// APIC ids of the CPUs that the MADT calls enabled, in its order. Returns how many.
size_t find_cpus(Span<uint32_t> apic_ids);

// Pin of the I/O APIC that ISA interrupt `irq` arrives at: its own number, unless the MADT
// overrides that.
uint32_t isa_interrupt_pin(uint8_t irq);

// Address of bus 0 in ECAM, from the MCFG.
std::optional<uint64_t> ecam_base();

// An address as ACPI gives it (6.5, 5.2.3.2); the port is 0 when there is no such register.
struct Register {
  bool is_port;
  uint64_t address;
};

// The fixed hardware that the FADT describes (5.2.9).
struct FixedHardware {
  uint32_t sci_interrupt;
  uint16_t pm1_status_port;
  uint16_t pm1_enable_port;
  uint16_t pm1_control_port;
  uint16_t smi_command_port;  // 0: the machine is in ACPI mode for good
  uint8_t acpi_enable;
  Register reset;
  uint8_t reset_value;
  uint8_t sleep_type_s5;  // from \_S5 of the DSDT
};
FixedHardware fixed_hardware();

inline constexpr uint16_t kPm1SciEnable = 1 << 0;
inline constexpr uint16_t kPm1PowerButton = 1 << 8;  // in status and in enable
inline constexpr uint16_t kPm1SleepEnable = 1 << 13;
constexpr uint16_t pm1_sleep_type(uint8_t type) {
  return static_cast<uint16_t>(type << 10);
}

// Turns ACPI mode on where it is not already.
void enable(const FixedHardware& hardware);

// Enters S5, from which a machine does not return.
void power_off(const FixedHardware& hardware);

}  // namespace guest::acpi
