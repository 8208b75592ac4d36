// The DSDT's content: the devices that no bus can enumerate, and the PCI host bridge.
#pragma once

#include "vmm/acpi/aml.h"
#include "vmm/acpi/tables.h"

namespace ringlet {

/// The AML behind the DSDT's header. A new device is one function in dsdt.cc and its name in the
/// list there.
aml::Code build_dsdt(const AcpiConfig& config);

}  // namespace ringlet
