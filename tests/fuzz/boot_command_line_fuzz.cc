// Fuzzes the command line edits: they end, and doing them twice changes nothing more.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "vmm/boot/command_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string line(data, data + size);
  const std::string without = ringlet::remove_pci_off(line);
  if (without.size() > line.size() || ringlet::remove_pci_off(without) != without) std::abort();
  // A quote that is never closed swallows what is added behind it, here as in Linux.
  if (std::count(line.begin(), line.end(), '"') % 2 != 0) return 0;
  const std::string with = ringlet::add_root(line, {});
  if (with.size() < line.size() || ringlet::add_root(with, {}) != with) std::abort();
  return 0;
}
