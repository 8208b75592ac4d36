// Puts a kernel, its initrd and what its boot protocol needs into fresh guest memory.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "kvm/address.h"
#include "kvm/memory.h"
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

/// 32-bit protected mode without paging, flat segments; EBX holds `start_info`.
struct PvhEntry {
  GuestAddr rip;
  GuestAddr start_info;
};

/// 64-bit mode; RSI holds `boot_params`, CR3 `page_table`, which maps the first 4 GiB one to one.
/// The GDT holds flat segments at the selectors the protocol asks for: code 0x10, data 0x18, and
/// a TSS at 0x20.
struct LongModeEntry {
  GuestAddr rip;
  GuestAddr boot_params;
  GuestAddr page_table;
  AddrRange gdt;
};

struct BootResult {
  std::variant<PvhEntry, LongModeEntry> entry;
  AddrRange kernel;  ///< from its first byte to the end of its zeroed data
  AddrRange initrd;  ///< empty without one
};

/// Loads everything. `memory` must be untouched (its zeroes are the kernel's .bss) and start at 0
/// with at least 2 MiB. Throws ConfigError, naming the file and what is wrong with it, before
/// anything is written; std::system_error when a file cannot be read.
BootResult load_kernel(const BootConfig& config, GuestMemory& memory);

}  // namespace ringlet
