// Writes the PVH start info.
#include "vmm/boot/pvh.h"

#include <cassert>
#include <vector>

#include "vmm/layout.h"

namespace ringlet {

GuestAddr write_start_info(const PvhParams& params, GuestMemory& memory) {
  constexpr uint64_t kModulesAt = kPvhStartInfo.base + sizeof(HvmStartInfo);
  constexpr uint64_t kMapAt = kModulesAt + sizeof(HvmModule);
  assert(params.map.size() <=
         (kPvhStartInfo.base + kPvhStartInfo.size - kMapAt) / sizeof(HvmMemmapEntry));

  const bool has_initrd = params.initrd.size != 0;
  HvmStartInfo info;
  info.magic = kHvmStartMagic;
  info.version = 1;
  info.nr_modules = has_initrd ? 1 : 0;
  info.modlist_paddr = has_initrd ? kModulesAt : 0;
  info.cmdline_paddr = params.command_line.value();
  info.rsdp_paddr = params.rsdp.value();
  info.memmap_paddr = kMapAt;
  info.memmap_entries = static_cast<uint32_t>(params.map.size());

  HvmModule module;
  module.paddr = params.initrd.base;
  module.size = params.initrd.size;

  std::vector<HvmMemmapEntry> map;
  for (const MemoryMapEntry& entry : params.map) {
    map.push_back({entry.range.base, entry.range.size, static_cast<uint32_t>(entry.type), 0});
  }

  bool written = memory.write_value(GuestAddr(kPvhStartInfo.base), info);
  if (has_initrd) written = written && memory.write_value(GuestAddr(kModulesAt), module);
  written = written && memory.write(GuestAddr(kMapAt), std::as_bytes(std::span(map)));
  assert(written);
  return GuestAddr(kPvhStartInfo.base);
}

}  // namespace ringlet
