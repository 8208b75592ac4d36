// The ACPI tables that tell a stock kernel what the machine is: built once, before the guest runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/layout.h"

namespace ringlet {

/// What differs from machine to machine; everything else is in vmm/layout.h.
struct AcpiConfig {
  /// The local APIC id of each vCPU, the one that boots first. A vCPU's place here is its
  /// processor UID.
  std::vector<uint32_t> apic_ids;
  Window64 window64;
  bool has_serial = true;
  bool has_rtc = true;
  bool has_pvpanic = true;
};

/// The tables as one piece, to be copied to kAcpiTables.base before the guest runs.
struct AcpiTables {
  std::vector<std::byte> blob;
  /// Where the RSDP is in guest memory: for PVH's rsdp_paddr and Linux's acpi_rsdp_addr.
  uint64_t rsdp;
};

/// Builds RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT (ACPI 6.3). Pure: no system calls.
/// The number of vCPUs is the configuration's to limit; the room here is enough for 1024.
AcpiTables build_acpi(const AcpiConfig& config);

}  // namespace ringlet
