// What the VMM hands over at start: memory map, command line, ACPI root pointer, modules.
#pragma once

#include <cstdint>

#include "lib/span.h"

namespace guest {

enum class MemoryType : uint32_t { Ram = 1, Reserved = 2, Acpi = 3, Nvs = 4, Unusable = 5 };

struct MemoryRange {
  uint64_t start;
  uint64_t size;
  MemoryType type;
};

struct Module {
  uint64_t start;
  uint64_t size;
};

// A copy, so that guests may overwrite all memory outside their image.
struct StartInfo {
  uint64_t address;  // of the original; 0 when started by the Linux protocol
  uint32_t version;
  uint64_t rsdp;
  Text command_line;
  Span<const MemoryRange> memory;
  Span<const Module> modules;
};
const StartInfo& start_info();

// Value of `key` in the command line, words of the form key=value; a bare `key` has the value "".
// The last one counts, as VMMs may put words of their own before.
bool option_given(Text key);
Text option_text(Text key, Text otherwise);
uint64_t option_number(Text key, uint64_t otherwise);  // decimal, or 0x and hexadecimal

// Keeps copies of a command line and a memory map, wherever they come from.
void keep_command_line(uint64_t address);
void keep_memory_range(const MemoryRange& range);
void keep_rsdp(uint64_t address);

// Copies the PVH start info (xen/include/public/arch-x86/hvm/start_info.h) at this address.
void read_start_info(uint64_t address);

}  // namespace guest
