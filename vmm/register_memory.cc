// Guest memory that the kernel pins once for all transfers of the I/O loops (--register-memory).
#include "vmm/register_memory.h"

#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "kvm/error.h"
#include "vmm/patience.h"

namespace ringlet {
namespace {

/// Too little memory, or a limit. The kernel says EFAULT when it has some of it pinned already.
bool is_too_little(const std::system_error& error) {
  return error.code() == std::errc::not_enough_memory || error.code() == std::errc::bad_address;
}

void register_patiently(UringLoop& loop, std::span<const std::span<std::byte>> areas) {
  const bool registered = try_patiently([&] {
    try {
      loop.register_memory(areas);
      return true;
    } catch (const std::system_error& error) {
      if (!is_too_little(error)) throw;
      return false;
    }
  });
  if (!registered) loop.register_memory(areas);  // throws why
}

}  // namespace

void register_memory(std::span<const std::unique_ptr<UringLoop>> loops, const GuestMemory& memory) {
  std::vector<std::span<std::byte>> areas;
  for (const MemoryRegion& region : memory.regions()) areas.push_back(region.bytes);
  size_t pinned = 0;  // times
  try {
    for (const auto& loop : loops) {
      if (pinned > 0 && loop->share_memory_of(*loops.front())) continue;
      register_patiently(*loop, areas);
      ++pinned;
    }
  } catch (const std::system_error& error) {
    if (!is_too_little(error)) throw std::system_error(error.code(), "--register-memory");
    const std::string each =
        pinned > 0 ? fmt::format(" for each of {} I/O loops", loops.size()) : "";
    throw HostError(
        fmt::format("--register-memory: {} KiB of guest memory cannot be pinned{}; expected as "
                    "much free memory, "
                    "and room in this user's limit on locked memory (\"ulimit -l\")",
                    memory.size() / 1024, each));
  }
}

}  // namespace ringlet
