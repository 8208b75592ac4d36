// The machine as JSON: what --config reads and --dry-run prints.
//
//   {
//     "kernel": "vmlinux",
//     "memory": "512M",
//     "cpuid": ["avx512f=off"],
//     "devices": [{"type": "disk", "path": "root.ext4", "readonly": true}]
//   }
#pragma once

#include <string>
#include <string_view>

#include "vmm/config.h"

namespace ringlet {

/// Reads a machine; what it leaves out keeps its default. `name` is the file's, for messages.
/// Refuses unknown and repeated keys and wrong types: throws ConfigError with the JSON path.
MachineConfig machine_from_json(std::string_view text, const std::string& name);

/// Reads the file at `path`; throws ConfigError when it cannot be read or is no such machine.
MachineConfig machine_from_file(const std::string& path);

/// Every option that has a value, defaults included, in the order of the tables. Throws
/// ConfigError when a text is not UTF-8, which JSON cannot hold.
std::string machine_to_json(const MachineConfig& config);

}  // namespace ringlet
