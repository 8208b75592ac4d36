// The start info that a PVH kernel gets in EBX (Xen, arch-x86/hvm/start_info.h, version 1).
#pragma once

#include <cstdint>
#include <span>

#include "kvm/address.h"
#include "kvm/memory.h"
#include "kvm/wire.h"
#include "vmm/boot/memory_map.h"

namespace ringlet {

inline constexpr uint32_t kHvmStartMagic = 0x336e'c578;  // "xEn3" with bit 7 of the 'E' set

struct HvmStartInfo {
  le32 magic;           // 0
  le32 version;         // 4: 1 has the memory map
  le32 flags;           // 8
  le32 nr_modules;      // 12
  le64 modlist_paddr;   // 16
  le64 cmdline_paddr;   // 24
  le64 rsdp_paddr;      // 32
  le64 memmap_paddr;    // 40
  le32 memmap_entries;  // 48
  le32 reserved;        // 52
};
static_assert(sizeof(HvmStartInfo) == 56);

struct HvmModule {
  le64 paddr;          // 0
  le64 size;           // 8
  le64 cmdline_paddr;  // 16
  le64 reserved;       // 24
};
static_assert(sizeof(HvmModule) == 32);

struct HvmMemmapEntry {
  le64 addr;      // 0
  le64 size;      // 8
  le32 type;      // 16: as in E820
  le32 reserved;  // 20
};
static_assert(sizeof(HvmMemmapEntry) == 24);

struct PvhParams {
  GuestAddr command_line;
  AddrRange initrd;  ///< becomes module 0; empty without one
  GuestAddr rsdp;
  std::span<const MemoryMapEntry> map;
};

/// Writes start info, module list and memory map, in this order, to kPvhStartInfo; returns the
/// address for EBX. They must fit: a map has a handful of entries.
GuestAddr write_start_info(const PvhParams& params, GuestMemory& memory);

}  // namespace ringlet
