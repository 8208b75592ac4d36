// Linux's boot parameters, "the zero page", for guests started by the 64-bit Linux boot protocol.
#include "lib/boot_params.h"

#include "lib/memory.h"
#include "lib/start_info.h"

namespace guest {
namespace {

// Offsets in struct boot_params.
constexpr uint64_t kAcpiRsdp = 0x070;
constexpr uint64_t kExtRamdiskImage = 0x0c0;
constexpr uint64_t kExtRamdiskSize = 0x0c4;
constexpr uint64_t kExtCommandLine = 0x0c8;
constexpr uint64_t kE820Entries = 0x1e8;
constexpr uint64_t kBootFlag = 0x1fe;
constexpr uint64_t kHeaderMagic = 0x202;
constexpr uint64_t kVersion = 0x206;
constexpr uint64_t kTypeOfLoader = 0x210;
constexpr uint64_t kLoadFlags = 0x211;
constexpr uint64_t kRamdiskImage = 0x218;
constexpr uint64_t kRamdiskSize = 0x21c;
constexpr uint64_t kCommandLine = 0x228;
constexpr uint64_t kE820Table = 0x2d0;
constexpr uint64_t kE820EntryBytes = 20;

constinit BootParams params{};

template <typename T>
T load(uint64_t address) {
  T value;
  memcpy(&value, reinterpret_cast<const void*>(address), sizeof(T));
  return value;
}

}  // namespace

const BootParams& boot_params() {
  return params;
}

void read_boot_params(uint64_t address) {
  const auto wide = [address](uint64_t high, uint64_t low) {
    return uint64_t{load<uint32_t>(address + high)} << 32 | load<uint32_t>(address + low);
  };
  params = {
      .address = address,
      .header_magic = load<uint32_t>(address + kHeaderMagic),
      .version = load<uint16_t>(address + kVersion),
      .boot_flag = load<uint16_t>(address + kBootFlag),
      .type_of_loader = load<uint8_t>(address + kTypeOfLoader),
      .load_flags = load<uint8_t>(address + kLoadFlags),
      .initrd_address = wide(kExtRamdiskImage, kRamdiskImage),
      .initrd_size = wide(kExtRamdiskSize, kRamdiskSize),
      .command_line = wide(kExtCommandLine, kCommandLine),
      .rsdp = load<uint64_t>(address + kAcpiRsdp),
      .e820_entries = load<uint8_t>(address + kE820Entries),
  };
  keep_rsdp(params.rsdp);
  if (params.command_line != 0) {
    keep_command_line(params.command_line);
  }
  for (uint8_t i = 0; i < params.e820_entries; ++i) {
    const uint64_t entry = address + kE820Table + i * kE820EntryBytes;
    keep_memory_range({load<uint64_t>(entry), load<uint64_t>(entry + 8),
                       static_cast<MemoryType>(load<uint32_t>(entry + 16))});
  }
}

}  // namespace guest
