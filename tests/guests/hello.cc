// Guest: prints what the VMM handed over and ends.
//   code=N     value for the debug-exit port (0)
#include "lib/guest.h"

namespace guest {

void guest_main() {
  const StartInfo& info = start_info();
  print("hello\n");
  print("start info version {}\n", info.version);
  print("command line: {}\n", info.command_line);
  print("modules: {}\n", info.modules.size);
  for (const Module& module : info.modules) {
    const Span bytes{reinterpret_cast<const uint8_t*>(module.start), module.size};
    print("module: {} bytes, crc32 {}\n", module.size, hex(crc32(bytes), 8));
  }
  uint64_t ram = 0;
  for (const MemoryRange& range : info.memory) {
    ram += range.type == MemoryType::Ram ? range.size : 0;
  }
  print("memory: {} MiB\n", (ram + (1 << 20) - 1) >> 20);
  print("rsdp: {}\n", info.rsdp != 0 ? "present" : "absent");
  debug_exit(static_cast<uint32_t>(option_number("code", kExitSuccess)));
}

}  // namespace guest
