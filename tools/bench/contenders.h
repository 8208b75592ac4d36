// The VMMs that are compared, and how each is told to run the same guest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/vm_process.h"

namespace ringlet::bench {

/// Where things are; all but `disk` come from the build.
struct Setup {
  std::string ringlet;
  std::string floor;
  std::string guest;
  std::string disk;
  uint64_t memory_mib = 128;
  /// Several machines use the disk at once: read-only.
  bool shared_disk = false;
};

struct Contender {
  std::string name;
  Command command;
  /// Takes seconds to reach the guest, in firmware.
  bool slow = false;
};

/// The floor first, then ringlet, then each QEMU that is installed.
std::vector<Contender> contenders(const Setup& setup);

}  // namespace ringlet::bench
