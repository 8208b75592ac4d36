// Fuzzes kernel loading: any bytes as the kernel, and the same bytes as the initrd.
#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include <unistd.h>

#include "kvm/error.h"
#include "kvm/memory.h"
#include "vmm/boot/loader.h"
#include "vmm/layout.h"

namespace {

ringlet::BootFile file_of(const std::string& label, const uint8_t* data, size_t size) {
  ringlet::Fd fd(ringlet::check(::memfd_create("fuzz", MFD_CLOEXEC), "memfd_create"));
  ringlet::check(::pwrite(fd.get(), data, size, 0), "pwrite");
  return ringlet::BootFile(label, std::move(fd));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // One memory for all runs: what a run leaves behind does not change the next one's decisions.
  constexpr std::array<ringlet::AddrRange, 1> kRam{{{0, 64 * ringlet::kMiB}}};
  static ringlet::GuestMemory memory(kRam, {});
  try {
    const ringlet::BootConfig config{.kernel = file_of("kernel", data, size),
                                     .initrd = file_of("initrd", data, size),
                                     .command_line = "console=ttyS0",
                                     .rsdp = ringlet::GuestAddr(ringlet::kAcpiTables.base)};
    ringlet::load_kernel(config, memory);
  } catch (const ringlet::ConfigError&) {
    // Refusing is the answer expected to most inputs; anything else that is thrown is a bug.
  }
  return 0;
}
