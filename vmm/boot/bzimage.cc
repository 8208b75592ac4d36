// Reads bzImages: real-mode setup code with a header, then the 64-bit code that unpacks the kernel.
#include <algorithm>
#include <cstddef>

#include "vmm/boot/kernel_image.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

constexpr uint64_t kBootSector = 512;
constexpr uint64_t kJumpBase = 0x202;       // the header's end is counted from here
constexpr uint64_t kEntry64Offset = 0x200;  // of the 64-bit entry, from the load address
constexpr uint16_t kOldestVersion = 0x20c;  // 2.12 has xloadflags

/// The header as far as the file has one: newer fields of an older header are zero.
SetupHeader read_setup_header(const BootFile& file) {
  SetupHeader header;
  constexpr uint64_t kJumpDistanceAt = kSetupHeaderOffset + offsetof(SetupHeader, jump_distance);
  const uint64_t end = kJumpBase + file.read<uint8_t>(kJumpDistanceAt);
  const uint64_t length = std::min<uint64_t>(end - kSetupHeaderOffset, sizeof(header));
  file.read(kSetupHeaderOffset, std::as_writable_bytes(std::span(&header, 1)).first(length));
  return header;
}

void check_setup_header(const BootFile& file, const SetupHeader& header) {
  const uint16_t version = header.version;
  if (version < kOldestVersion) {
    file.reject("speaks boot protocol {}.{}; expected 2.12 (Linux 3.8) or later", version >> 8,
                version & 0xff);
  }
  if ((header.xloadflags & kXloadKernel64) == 0) {
    file.reject("is a 32-bit kernel; expected one with a 64-bit entry point");
  }
  if ((header.loadflags & kLoadedHigh) == 0) {
    file.reject("is a zImage, which loads low; expected a bzImage");
  }
  const uint64_t address = header.pref_address;
  if (address < kHighRam || address >= kRamLowMax) {
    file.reject("wants to be loaded at {:#x}; expected {:#x} to {:#x}", address, kHighRam,
                kRamLowMax);
  }
}

}  // namespace

KernelImage parse_bzimage(const BootFile& file) {
  const SetupHeader header = read_setup_header(file);
  check_setup_header(file, header);

  const uint64_t setup_sectors = header.setup_sects == 0 ? 4 : header.setup_sects;
  const uint64_t code_at = (1 + setup_sectors) * kBootSector;  // 1: the boot sector
  const uint64_t code_bytes = uint64_t{header.syssize} * 16;
  if (!file.contains(code_at, code_bytes)) {
    file.reject("is cut off: {} bytes were expected, it has {}", code_at + code_bytes, file.size());
  }
  if (code_bytes <= kEntry64Offset) {
    file.reject("has {} bytes of code, too few to hold the 64-bit entry", code_bytes);
  }
  const uint64_t init_size = header.init_size;
  if (init_size < code_bytes) {
    file.reject("says it needs {} bytes of memory (init_size), but has {} bytes of code", init_size,
                code_bytes);
  }

  KernelImage image;
  image.protocol = BootProtocol::Linux64;
  // A relocatable kernel that is loaded lower moves itself up to this address, so there is nothing
  // to win elsewhere.
  const AddrRange memory{header.pref_address, init_size};
  image.segments.push_back({"the unpacked kernel", code_at, code_bytes, memory});
  image.entry = GuestAddr(memory.base + kEntry64Offset);
  image.cmdline_max = header.cmdline_size;
  image.initrd_max = header.initrd_addr_max;
  image.header = header;
  return image;
}

}  // namespace ringlet
