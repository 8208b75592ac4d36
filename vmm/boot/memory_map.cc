// Builds the memory map from RAM and the reserved ranges of layout.h.
#include "vmm/boot/memory_map.h"

#include <algorithm>

#include "vmm/layout.h"

namespace ringlet {

std::vector<MemoryMapEntry> memory_map(std::span<const AddrRange> ram) {
  std::vector<MemoryMapEntry> map;
  for (const AddrRange& hole : kReservedMemory) map.push_back({hole, MemoryType::Reserved});
  for (const AddrRange& range : ram) {
    uint64_t at = range.base;
    const uint64_t end = range.base + range.size;
    for (const AddrRange& hole : kReservedMemory) {
      if (!hole.overlaps({at, end - at})) continue;
      if (hole.base > at) map.push_back({{at, hole.base - at}, MemoryType::Ram});
      at = std::min(end, hole.base + hole.size);
    }
    if (at < end) map.push_back({{at, end - at}, MemoryType::Ram});
  }
  std::sort(map.begin(), map.end(), [](const MemoryMapEntry& a, const MemoryMapEntry& b) {
    return a.range.base < b.range.base;
  });
  return map;
}

}  // namespace ringlet
