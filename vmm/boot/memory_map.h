// The memory map that firmware would hand to the kernel: Linux calls it E820.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvm/address.h"

namespace ringlet {

/// Types as in the ACPI specification (6.5, table 15.4); PVH and the boot parameters use the same.
enum class MemoryType : uint32_t { Ram = 1, Reserved = 2 };

struct MemoryMapEntry {
  AddrRange range;
  MemoryType type = MemoryType::Ram;
  bool operator==(const MemoryMapEntry&) const = default;
};

/// The map of a machine with RAM at `ram` (ascending, disjoint) in rising order, without overlaps:
/// what layout.h calls reserved is reserved even where there is RAM behind it.
std::vector<MemoryMapEntry> memory_map(std::span<const AddrRange> ram);

}  // namespace ringlet
