// Guest: started by the 64-bit Linux boot protocol, as an ELF image or as the payload of a bzImage.
// It prints the boot parameters it was given.
#include "lib/boot_params.h"
#include "lib/guest.h"

namespace guest {

void guest_main() {
  const BootParams& params = boot_params();
  print("boot parameters: magic {}, version {}, boot flag {}\n", hex(params.header_magic, 8),
        hex(params.version, 4), hex(params.boot_flag, 4));
  print("loader type: {}, loaded high: {}\n", hex(params.type_of_loader, 2), params.load_flags & 1);
  print("command line: {}\n", start_info().command_line);
  for (const MemoryRange& range : start_info().memory) {
    print("e820: {}-{} type {}\n", hex(range.start, 16), hex(range.start + range.size - 1, 16),
          static_cast<uint32_t>(range.type));
  }
  if (params.initrd_size != 0) {
    const Span initrd{reinterpret_cast<const uint8_t*>(params.initrd_address), params.initrd_size};
    print("initrd: {} bytes, crc32 {}\n", initrd.size, hex(crc32(initrd), 8));
  } else {
    print("initrd: none\n");
  }
  print("rsdp: {}\n", params.rsdp != 0 ? "present" : "absent");
}

}  // namespace guest
