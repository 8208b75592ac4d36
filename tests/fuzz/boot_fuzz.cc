// Fuzzes kernel loading: any bytes as the kernel, and the same bytes as the initrd. What is loaded
// lies in RAM, apart, and is complete.
#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <unistd.h>

#include "kvm/error.h"
#include "kvm/memory.h"
#include "tests/fuzz/same_machine.h"
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
  constexpr ringlet::AddrRange kRam{0, 64 * ringlet::kMiB};
  static ringlet::GuestMemory memory(std::span(&kRam, 1), {});
  const ringlet::AddrRange high{ringlet::kHighRam, kRam.size - ringlet::kHighRam};
  try {
    const ringlet::BootConfig config{.kernel = file_of("kernel", data, size),
                                     .initrd = file_of("initrd", data, size),
                                     .command_line = "console=ttyS0",
                                     .rsdp = ringlet::GuestAddr(ringlet::kAcpiTables.base)};
    const ringlet::BootResult result = ringlet::load_kernel(config, memory);
    assert(high.contains(result.kernel.base, result.kernel.size));
    assert(high.contains(result.initrd.base, result.initrd.size));
    assert(!result.kernel.overlaps(result.initrd) && result.initrd.size == size);
    std::vector<std::byte> loaded(size);
    const bool is_ram = memory.read(ringlet::GuestAddr(result.initrd.base), loaded);
    assert(is_ram && std::ranges::equal(loaded, std::as_bytes(std::span(data, size))));
    const ringlet::GuestAddr entry =
        std::visit([](auto& start) { return start.rip; }, result.start);
    assert(result.kernel.contains(entry.value()));
  } catch (const ringlet::ConfigError& error) {
    // Refusing is the answer expected to most inputs; anything else that is thrown is a bug.
    ringlet::check_message(error.what());
  }
  return 0;
}
