// What a kernel file asks of whoever loads it, whatever its format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvm/address.h"
#include "vmm/boot/file.h"
#include "vmm/boot/linux_params.h"

namespace ringlet {

enum class BootProtocol {
  Pvh,      ///< 32-bit protected mode, EBX points to a start info (Xen's HVM direct boot)
  Linux64,  ///< 64-bit mode, RSI points to the boot parameters (Linux, boot.rst, "64-bit protocol")
};

/// Bytes of the file and the guest memory they go to. What the file does not fill is zero.
struct KernelSegment {
  std::string name;  ///< for messages: "segment 2"
  uint64_t file_offset = 0;
  uint64_t file_size = 0;  ///< at most memory.size, and inside the file
  AddrRange memory;        ///< not empty; starts at kHighRam or higher; otherwise as the file says
};

/// A kernel file that was understood. Its addresses were not yet held against the guest's RAM.
struct KernelImage {
  BootProtocol protocol = BootProtocol::Pvh;
  GuestAddr entry;
  std::vector<KernelSegment> segments;
  /// The longest command line it takes, in bytes without the NUL. An ELF kernel does not say;
  /// this is what x86 Linux has had since 2.6.30 (COMMAND_LINE_SIZE 2048).
  uint64_t cmdline_max = 2047;
  /// The highest address that a byte of the initrd may have.
  uint64_t initrd_max = UINT32_MAX;
  /// Where the boot parameters start from (Linux64 only).
  SetupHeader header;
};

/// Tells the formats apart by content. Throws ConfigError that says what is wrong with the file
/// and, where it looks like something else, what that is.
KernelImage parse_kernel(const BootFile& file);

/// An ELF executable for x86-64: Pvh where it has the note, else Linux64. Throws ConfigError.
KernelImage parse_elf(const BootFile& file);
/// A bzImage with a 64-bit entry point: Linux64. Throws ConfigError.
KernelImage parse_bzimage(const BootFile& file);

}  // namespace ringlet
