// Puts a kernel, its initrd and what its boot protocol needs into fresh guest memory.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "kvm/address.h"
#include "kvm/memory.h"
#include "kvm/vcpu.h"
#include "vmm/boot/file.h"

namespace ringlet {

/// What to boot. Files are opened by whoever fills this in, so that loading needs no paths.
struct BootConfig {
  BootFile kernel;
  /// Any file: Linux wants a cpio archive, other kernels get what they ask for.
  std::optional<BootFile> initrd;
  std::string command_line;
  /// Where the ACPI tables' root pointer is, or will be when the guest starts.
  GuestAddr rsdp;
};

struct BootResult {
  /// For vCPU 0's set_start(), by the protocol that the kernel wants.
  std::variant<ProtectedModeStart, LongModeStart> start;
  AddrRange kernel;  ///< from its first byte to the end of its zeroed data
  AddrRange initrd;  ///< empty without one
};

/// Throws what load_kernel() would throw when the guest has `ram_low` bytes of RAM below the hole,
/// and loads nothing.
void check_boot(const BootConfig& config, uint64_t ram_low);

/// Loads everything. `memory` must be untouched (its zeroes are the kernel's .bss) and start at 0
/// with at least 2 MiB. Throws ConfigError, naming the file and what is wrong with it, before
/// anything is written; std::system_error when a file cannot be read.
BootResult load_kernel(const BootConfig& config, GuestMemory& memory);

}  // namespace ringlet
