// What a machine boots: its files, opened, and the command line that they get.
#pragma once

#include "vmm/boot/loader.h"
#include "vmm/config.h"

namespace ringlet {

/// Opens kernel and initrd; rsdp stays 0. Throws ConfigError and std::system_error.
BootConfig boot_config(const MachineConfig& config);

}  // namespace ringlet
