// What the 64-bit Linux boot protocol puts in memory: boot parameters, GDT, page tables.
//
// Source: Linux, Documentation/arch/x86/boot.rst and zero-page.rst. The structures leave out what
// a machine without a BIOS has no value for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvm/address.h"
#include "kvm/memory.h"
#include "kvm/wire.h"
#include "vmm/boot/memory_map.h"

namespace ringlet {

/// The setup header of boot protocol 2.15: in a bzImage at 0x1f1, and so in the boot parameters.
struct SetupHeader {
  uint8_t setup_sects = 0;  ///< size of the real-mode code in 512-byte sectors; 0 means 4
  le16 root_flags;
  le32 syssize;  ///< size of the protected-mode code in 16-byte units
  le16 ram_size;
  le16 vid_mode;
  le16 root_dev;
  le16 boot_flag;  ///< kBootFlag
  uint8_t jump = 0;
  uint8_t jump_distance = 0;  ///< the header ends this many bytes behind 0x202
  le32 magic;                 ///< kHeaderMagic
  le16 version;               ///< 0x20c: 2.12
  le32 realmode_switch;
  le16 start_sys_seg;
  le16 kernel_version;
  uint8_t type_of_loader = 0;
  uint8_t loadflags = 0;
  le16 setup_move_size;
  le32 code32_start;
  le32 ramdisk_image;
  le32 ramdisk_size;
  le32 bootsect_kludge;
  le16 heap_end_ptr;
  uint8_t ext_loader_ver = 0;
  uint8_t ext_loader_type = 0;
  le32 cmd_line_ptr;
  le32 initrd_addr_max;
  le32 kernel_alignment;
  uint8_t relocatable_kernel = 0;
  uint8_t min_alignment = 0;
  le16 xloadflags;
  le32 cmdline_size;
  le32 hardware_subarch;
  le64 hardware_subarch_data;
  le32 payload_offset;
  le32 payload_length;
  le64 setup_data;
  le64 pref_address;
  le32 init_size;
  le32 handover_offset;
  le32 kernel_info_offset;
};
static_assert(sizeof(SetupHeader) == 0x26c - 0x1f1);

inline constexpr uint64_t kSetupHeaderOffset = 0x1f1;
inline constexpr uint16_t kBootFlag = 0xaa55;
inline constexpr uint32_t kHeaderMagic = 0x5372'6448;  // "HdrS"
inline constexpr uint8_t kLoadedHigh = 1 << 0;         // loadflags: the kernel is at 1 MiB or above
inline constexpr uint8_t kLoaderUnknown = 0xff;        // type_of_loader: no number was assigned
inline constexpr uint16_t kXloadKernel64 = 1 << 0;     // xloadflags: a 64-bit entry at 0x200
inline constexpr uint16_t kVideoModeNormal = 0xffff;

struct E820Entry {
  le64 address;
  le64 size;
  le32 type;
};
static_assert(sizeof(E820Entry) == 20);

/// "The zero page".
struct BootParams {
  std::array<std::byte, 0x70> screen_and_bios{};
  le64 acpi_rsdp_addr;
  std::array<std::byte, 0x48> drives{};
  le32 ext_ramdisk_image;  ///< bits 63:32 of header.ramdisk_image
  le32 ext_ramdisk_size;
  le32 ext_cmd_line_ptr;
  std::array<std::byte, 0x11c> edid_and_efi{};
  uint8_t e820_entries = 0;
  std::array<std::byte, 8> edd_and_sentinel{};
  SetupHeader header;
  std::array<std::byte, 0x2d0 - 0x26c> edd_signatures{};
  std::array<E820Entry, 128> e820;
  std::array<std::byte, 0x1000 - 0xcd0> edd_tables{};
};
static_assert(sizeof(BootParams) == 0x1000);

/// What the boot parameters say beyond the setup header.
struct LinuxParams {
  SetupHeader header;
  GuestAddr command_line;
  AddrRange initrd;  ///< empty without one; below 4 GiB
  GuestAddr rsdp;
  std::span<const MemoryMapEntry> map;  ///< at most 128 entries
};

/// The setup header that a loader makes up for an ELF kernel, which has none.
SetupHeader elf_setup_header();

/// Composes the boot parameters.
BootParams make_boot_params(const LinuxParams& params);

/// Writes the GDT to kGdt; returns its place and exact size.
AddrRange write_boot_gdt(GuestMemory& memory);

/// Writes page tables to kPageTables that map the first 4 GiB one to one, writable, by 2 MiB pages
/// (1 GiB pages are a CPU feature that a guest may have been denied). Returns the PML4's address.
GuestAddr write_identity_map(GuestMemory& memory);

}  // namespace ringlet
