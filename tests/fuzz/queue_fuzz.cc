// Fuzzes a virtqueue by itself, split or packed: rings and tables of any content, changed at any
// moment, and a device that pops, reads, writes, completes and abandons in any order.
#include <array>

#include "tests/fuzz/packed_run.h"
#include "tests/fuzz/split_run.h"

namespace ringlet {
namespace {

// Two regions with a hole between them.
constexpr std::array<AddrRange, 2> kRegions{{{0, 0x2000}, {0x3000, 0x1000}}};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ringlet;
  const GuestMemory memory(kRegions, {});
  FuzzInput input(data, size);
  const uint8_t kind = input.take<uint8_t>();
  if (kind < 0x80) {
    SplitRun(input, memory, static_cast<uint16_t>(1 << kind % 6)).run();
  } else {
    PackedRun(input, memory, static_cast<uint16_t>(1 + kind % 40)).run();
  }
  return 0;
}
