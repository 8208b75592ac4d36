// Linux's boot parameters, "the zero page", for guests started by the 64-bit Linux boot protocol
// (Linux, Documentation/arch/x86/boot.rst and zero-page.rst).
#pragma once

#include <cstdint>

namespace guest {

struct BootParams {
  uint64_t address;  // 0 when started through PVH
  uint32_t header_magic;
  uint16_t version;
  uint16_t boot_flag;
  uint8_t type_of_loader;
  uint8_t load_flags;
  uint64_t initrd_address;
  uint64_t initrd_size;
  uint64_t command_line;
  uint64_t rsdp;
  uint8_t e820_entries;
};
const BootParams& boot_params();

// Copies what is at this address, and fills start_info() from it as far as it goes.
void read_boot_params(uint64_t address);

}  // namespace guest
