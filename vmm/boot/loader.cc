// Places and loads kernel and initrd, and writes the tables of the boot protocol.
#include "vmm/boot/loader.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <vector>

#include "vmm/boot/command_line.h"
#include "vmm/boot/kernel_image.h"
#include "vmm/boot/linux_params.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/pvh.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

/// A kernel that was understood, and where everything goes.
struct BootPlan {
  KernelImage image;
  AddrRange kernel;
  AddrRange initrd;
};

/// From the lowest to the highest byte of the kernel. Throws ConfigError unless all of it is RAM.
AddrRange place_kernel(const BootFile& file, const KernelImage& image, AddrRange ram) {
  uint64_t begin = UINT64_MAX;
  uint64_t end = 0;
  for (const KernelSegment& segment : image.segments) {
    const AddrRange& range = segment.memory;
    if (!ram.contains(range.base, range.size)) {
      file.reject("{} ({:#x} bytes at {:#x}) does not fit below the end of RAM at {:#x}",
                  segment.name, range.size, range.base, ram.base + ram.size);
    }
    begin = std::min(begin, range.base);
    end = std::max(end, range.base + range.size);
  }
  return {begin, end - begin};
}

/// As high as possible: early allocations of the kernel come from right behind it.
AddrRange place_initrd(const BootFile& file, uint64_t initrd_max, AddrRange kernel, AddrRange ram) {
  const uint64_t bottom = (kernel.base + kernel.size + kPage - 1) / kPage * kPage;
  const uint64_t top = std::min(ram.base + ram.size, initrd_max + 1);
  if (bottom > top || file.size() > top - bottom) {
    file.reject("its {} bytes do not fit between the kernel's end at {:#x} and {:#x}", file.size(),
                bottom, top);
  }
  return {(top - file.size()) / kPage * kPage, file.size()};
}

/// Asks for huge pages where `bytes` fills them. Faults on small ones are most of the time that
/// loading takes (11 MB: about 2 ms instead of 15). A host without huge pages changes nothing.
void prefer_huge_pages(std::span<std::byte> bytes) {
  const size_t to_boundary = -std::bit_cast<uintptr_t>(bytes.data()) % kHugePage;
  if (to_boundary >= bytes.size()) return;
  const auto aligned = bytes.subspan(to_boundary);
  const size_t whole = aligned.size() / kHugePage * kHugePage;
  if (whole > 0) ::madvise(aligned.data(), whole, MADV_HUGEPAGE);
}

/// Reads a piece of `file` straight into guest memory.
void load(const BootFile& file, uint64_t offset, AddrRange to, GuestMemory& memory) {
  const auto bytes = memory.slice(GuestAddr(to.base), to.size);
  assert(bytes);
  prefer_huge_pages(*bytes);
  file.read(offset, *bytes);
  memory.mark_dirty(*bytes);
}

BootPlan plan_boot(const BootConfig& config, uint64_t ram_low) {
  assert(ram_low >= 2 * kMiB);
  // What kernel and initrd may use: above the first MiB and below the hole.
  const AddrRange ram{kHighRam, ram_low - kHighRam};
  BootPlan plan;
  plan.image = parse_kernel(config.kernel);
  plan.kernel = place_kernel(config.kernel, plan.image, ram);
  if (config.initrd) {
    plan.initrd = place_initrd(*config.initrd, plan.image.initrd_max, plan.kernel, ram);
  }
  check_command_line(config.command_line);
  const uint64_t line_max = std::min(plan.image.cmdline_max, kCommandLine.size - 1);
  if (config.command_line.size() > line_max) {
    config.kernel.reject("takes a command line of at most {} bytes, this one has {}", line_max,
                         config.command_line.size());
  }
  return plan;
}

void write_command_line(const std::string& line, GuestMemory& memory) {
  const auto text = std::as_bytes(std::span(line.c_str(), line.size() + 1));
  const bool written = memory.write(GuestAddr(kCommandLine.base), text);
  assert(written);
}

std::vector<MemoryMapEntry> map_of(const GuestMemory& memory) {
  std::vector<AddrRange> ram;
  for (const MemoryRegion& region : memory.regions()) {
    ram.push_back({region.base.value(), region.bytes.size()});
  }
  return memory_map(ram);
}

ProtectedModeStart start_pvh(const BootConfig& config, const KernelImage& image, AddrRange initrd,
                             GuestMemory& memory) {
  const auto map = map_of(memory);
  const PvhParams params{.command_line = GuestAddr(kCommandLine.base),
                         .initrd = initrd,
                         .rsdp = config.rsdp,
                         .map = map};
  return {.rip = image.entry, .rbx = write_start_info(params, memory)};
}

LongModeStart start_linux64(const BootConfig& config, const KernelImage& image, AddrRange initrd,
                            GuestMemory& memory) {
  const auto map = map_of(memory);
  const LinuxParams params{.header = image.header,
                           .command_line = GuestAddr(kCommandLine.base),
                           .initrd = initrd,
                           .rsdp = config.rsdp,
                           .map = map};
  const GuestAddr boot_params(kBootParams.base);
  const bool written = memory.write_value(boot_params, make_boot_params(params));
  assert(written);
  return {.rip = image.entry,
          .rsi = boot_params,
          .cr3 = write_identity_map(memory),
          .gdt = write_boot_gdt(memory)};
}

}  // namespace

void check_boot(const BootConfig& config, uint64_t ram_low) {
  plan_boot(config, ram_low);
}

BootResult load_kernel(const BootConfig& config, GuestMemory& memory) {
  const MemoryRegion& low = memory.regions().front();
  assert(low.base == GuestAddr(0));
  const BootPlan plan = plan_boot(config, low.bytes.size());
  const KernelImage& image = plan.image;
  BootResult result{.start = {}, .kernel = plan.kernel, .initrd = plan.initrd};
  for (const KernelSegment& segment : image.segments) {
    load(config.kernel, segment.file_offset, {segment.memory.base, segment.file_size}, memory);
  }
  if (config.initrd) load(*config.initrd, 0, result.initrd, memory);
  write_command_line(config.command_line, memory);
  if (image.protocol == BootProtocol::Pvh) {
    result.start = start_pvh(config, image, result.initrd, memory);
  } else {
    result.start = start_linux64(config, image, result.initrd, memory);
  }
  return result;
}

}  // namespace ringlet
