// ACPI tables, as far as guests need them: CPUs, ECAM, the fixed registers, the S5 sleep type.
#include "lib/acpi.h"

#include "lib/console.h"
#include "lib/io.h"
#include "lib/memory.h"
#include "lib/start_info.h"

namespace guest::acpi {
namespace {

constexpr size_t kHeaderBytes = 36;
constexpr size_t kMaxTableBytes = 1 << 20;

// RSDP (ACPI 6.5, 5.2.5.3).
constexpr size_t kRsdpRevision = 15;
constexpr size_t kRsdpRsdt = 16;
constexpr size_t kRsdpXsdt = 24;
constexpr size_t kRsdpBytesV1 = 20;
constexpr size_t kRsdpBytesV2 = 36;

// MADT (5.2.12): a local APIC address and flags, then entries of {type, length, ...}.
constexpr size_t kMadtEntries = 44;
constexpr uint8_t kMadtLocalApic = 0;
constexpr uint8_t kMadtSourceOverride = 2;
constexpr uint8_t kMadtLocalX2apic = 9;
constexpr uint32_t kMadtEnabled = 1;

// MCFG (PCI Firmware 3.3, 4.1.2).
constexpr size_t kMcfgFirstBase = 44;

// FADT (5.2.9).
constexpr size_t kFadtDsdt = 40;
constexpr size_t kFadtSciInterrupt = 46;
constexpr size_t kFadtSmiCommand = 48;
constexpr size_t kFadtAcpiEnable = 52;
constexpr size_t kFadtPm1aEvent = 56;
constexpr size_t kFadtPm1aControl = 64;
constexpr size_t kFadtPm1EventBytes = 88;
constexpr size_t kFadtResetRegister = 116;
constexpr size_t kFadtResetValue = 128;
constexpr size_t kFadtXDsdt = 140;
constexpr uint8_t kSpacePort = 1;

// AML: PackageOp, then PkgLength, the number of elements, and the elements (20.2.5.4).
constexpr uint8_t kPackageOp = 0x12;
constexpr uint8_t kByteConst = 0x0a;
constexpr uint8_t kOneOp = 0x01;

template <typename T>
T load(Span<const uint8_t> table, size_t offset) {
  expect(offset <= table.size && table.size - offset >= sizeof(T), "ACPI table of {} bytes",
         table.size);
  T value;
  memcpy(&value, table.data + offset, sizeof(T));
  return value;
}

Span<const uint8_t> bytes_at(uint64_t address, size_t size) {
  return {reinterpret_cast<const uint8_t*>(address), size};
}

void expect_checksum(Span<const uint8_t> bytes, const char* what) {
  uint8_t sum = 0;
  for (const uint8_t byte : bytes) {
    sum = static_cast<uint8_t>(sum + byte);
  }
  expect(sum == 0, "the checksum of the {} is wrong", what);
}

Span<const uint8_t> table_at(uint64_t address) {
  map_ram(address, kHeaderBytes);
  const auto size = load<uint32_t>(bytes_at(address, kHeaderBytes), 4);
  expect(size >= kHeaderBytes && size <= kMaxTableBytes, "ACPI table at {} has {} bytes",
         hex(address), size);
  map_ram(address, size);
  return bytes_at(address, size);
}

bool has_signature(Span<const uint8_t> table, Text signature) {
  return Text{reinterpret_cast<const char*>(table.data), 4} == signature;
}

// Finds the package of \_S5 by its name, without interpreting AML: the name occurs once, and its
// first element is SLP_TYP for PM1a.
uint8_t find_sleep_type(Span<const uint8_t> dsdt) {
  for (size_t i = kHeaderBytes; i + 9 < dsdt.size; ++i) {
    if (!has_signature({dsdt.data + i, 4}, "_S5_") || dsdt[i + 4] != kPackageOp) {
      continue;
    }
    const size_t length_bytes = 1 + (dsdt[i + 5] >> 6);
    const size_t element = i + 5 + length_bytes + 1;
    expect(element + 1 < dsdt.size, "\\_S5 ends beyond the DSDT");
    return dsdt[element] == kByteConst ? dsdt[element + 1] : dsdt[element] == kOneOp ? 1 : 0;
  }
  fail("the DSDT has no \\_S5");
}

}  // namespace

std::optional<Span<const uint8_t>> find_table(Text signature) {
  const uint64_t address = start_info().rsdp;
  if (address == 0) {
    return std::nullopt;
  }
  map_ram(address, kRsdpBytesV2);
  const Span<const uint8_t> rsdp = bytes_at(address, kRsdpBytesV2);
  expect(Text{reinterpret_cast<const char*>(rsdp.data), 8} == "RSD PTR ", "no RSDP at {}",
         hex(address));
  expect_checksum(rsdp.first(kRsdpBytesV1), "RSDP");
  const bool wide = rsdp[kRsdpRevision] >= 2;
  if (wide) {
    expect_checksum(rsdp, "RSDP");
  }
  const Span<const uint8_t> root =
      table_at(wide ? load<uint64_t>(rsdp, kRsdpXsdt) : load<uint32_t>(rsdp, kRsdpRsdt));
  expect_checksum(root, wide ? "XSDT" : "RSDT");
  const size_t step = wide ? 8 : 4;
  for (size_t at = kHeaderBytes; at + step <= root.size; at += step) {
    const Span<const uint8_t> table =
        table_at(wide ? load<uint64_t>(root, at) : load<uint32_t>(root, at));
    if (has_signature(table, signature)) {
      expect_checksum(table, signature.data);
      return table;
    }
  }
  return std::nullopt;
}

namespace {

// Calls visit(entry) for each entry of the MADT, if there is one.
template <typename F>
void for_each_madt_entry(F visit) {
  const std::optional<Span<const uint8_t>> madt = find_table("APIC");
  if (!madt) {
    return;
  }
  for (size_t at = kMadtEntries; at + 2 <= madt->size;) {
    const uint8_t length = (*madt)[at + 1];
    expect(length >= 2 && length <= madt->size - at, "a MADT entry has {} bytes", length);
    visit(Span<const uint8_t>{madt->data + at, length});
    at += length;
  }
}

}  // namespace

size_t find_cpus(Span<uint32_t> apic_ids) {
  size_t count = 0;
  for_each_madt_entry([&](Span<const uint8_t> entry) {
    const bool old_form = entry[0] == kMadtLocalApic;
    if (!old_form && entry[0] != kMadtLocalX2apic) {
      return;
    }
    const uint32_t id = old_form ? entry[3] : load<uint32_t>(entry, 4);
    const auto flags = load<uint32_t>(entry, old_form ? 4 : 8);
    if ((flags & kMadtEnabled) != 0) {
      expect(count < apic_ids.size, "more than {} CPUs", apic_ids.size);
      apic_ids[count++] = id;
    }
  });
  return count;
}

uint32_t isa_interrupt_pin(uint8_t irq) {
  uint32_t pin = irq;
  for_each_madt_entry([&](Span<const uint8_t> entry) {
    if (entry[0] == kMadtSourceOverride && entry[3] == irq) {
      pin = load<uint32_t>(entry, 4);
    }
  });
  return pin;
}

std::optional<uint64_t> ecam_base() {
  const std::optional<Span<const uint8_t>> mcfg = find_table("MCFG");
  if (!mcfg) {
    return std::nullopt;
  }
  return load<uint64_t>(*mcfg, kMcfgFirstBase);
}

FixedHardware fixed_hardware() {
  const std::optional<Span<const uint8_t>> found = find_table("FACP");
  expect(found.has_value(), "no FADT");
  const Span<const uint8_t> fadt = *found;
  const auto event = static_cast<uint16_t>(load<uint32_t>(fadt, kFadtPm1aEvent));
  const auto wide_dsdt =
      fadt.size >= kFadtXDsdt + 8 ? load<uint64_t>(fadt, kFadtXDsdt) : uint64_t{0};
  const Span<const uint8_t> dsdt =
      table_at(wide_dsdt != 0 ? wide_dsdt : load<uint32_t>(fadt, kFadtDsdt));
  expect_checksum(dsdt, "DSDT");
  return {
      .sci_interrupt = load<uint16_t>(fadt, kFadtSciInterrupt),
      .pm1_status_port = event,
      .pm1_enable_port = static_cast<uint16_t>(event + fadt[kFadtPm1EventBytes] / 2),
      .pm1_control_port = static_cast<uint16_t>(load<uint32_t>(fadt, kFadtPm1aControl)),
      .smi_command_port = static_cast<uint16_t>(load<uint32_t>(fadt, kFadtSmiCommand)),
      .acpi_enable = fadt[kFadtAcpiEnable],
      .reset = {.is_port = fadt[kFadtResetRegister] == kSpacePort,
                .address = load<uint64_t>(fadt, kFadtResetRegister + 4)},
      .reset_value = fadt[kFadtResetValue],
      .sleep_type_s5 = find_sleep_type(dsdt),
  };
}

void enable(const FixedHardware& hardware) {
  const Deadline deadline;
  while ((port_in<uint16_t>(hardware.pm1_control_port) & kPm1SciEnable) == 0) {
    expect(hardware.smi_command_port != 0 && !deadline.passed(), "ACPI mode is off");
    port_out<uint8_t>(hardware.smi_command_port, hardware.acpi_enable);
  }
}

void power_off(const FixedHardware& hardware) {
  port_out<uint16_t>(
      hardware.pm1_control_port,
      static_cast<uint16_t>(pm1_sleep_type(hardware.sleep_type_s5) | kPm1SleepEnable));
}

}  // namespace guest::acpi
