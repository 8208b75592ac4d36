// Guest: prints the memory map and proves that what it calls RAM is RAM, each address its own.
//   beyond=1   also expects that reads just past RAM give ones, and that writes there are lost
#include "lib/guest.h"
#include "lib/io.h"

namespace guest {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kMaxProbes = 1024;

uint64_t probes[kMaxProbes];
size_t probe_count = 0;

const char* name(MemoryType type) {
  switch (type) {
    case MemoryType::Ram: return "RAM";
    case MemoryType::Reserved: return "reserved";
    case MemoryType::Acpi: return "ACPI";
    case MemoryType::Nvs: return "ACPI NVS";
    case MemoryType::Unusable: return "unusable";
  }
  return "unknown";
}

void add_probe(uint64_t address) {
  if (address >= image_start_address() && address < image_end_address()) {
    return;
  }
  expect(probe_count < kMaxProbes, "too many memory ranges");
  probes[probe_count++] = address;
}

// First and last word of the first and last page, and every power of two inside the range: an
// address line that is ignored makes two of these the same place.
void add_probes(const MemoryRange& range) {
  const uint64_t end = range.start + range.size;
  const uint64_t first_page = (range.start + kPage - 1) & ~(kPage - 1);
  const uint64_t last_page = (end & ~(kPage - 1)) - kPage;
  if (first_page > last_page) {
    return;
  }
  for (const uint64_t page : {first_page, last_page}) {
    add_probe(page);
    add_probe(page + kPage - sizeof(uint64_t));
  }
  for (uint64_t step = 2 * kPage; first_page + step < last_page; step *= 2) {
    add_probe(first_page + step);
    add_probe(last_page - step);
  }
}

uint64_t tag(uint64_t address) {
  return address * 0x9e3779b97f4a7c15 ^ 0x0123456789abcdef;
}

void probe_ram() {
  for (size_t i = 0; i < probe_count; ++i) {
    map_ram(probes[i], sizeof(uint64_t));
    mmio_write<uint64_t>(probes[i], tag(probes[i]));
  }
  for (size_t i = 0; i < probe_count; ++i) {
    const auto value = mmio_read<uint64_t>(probes[i]);
    expect(value == tag(probes[i]), "RAM at {} holds {}", hex(probes[i]), hex(value));
  }
}

bool in_some_range(uint64_t address) {
  for (const MemoryRange& range : start_info().memory) {
    if (address >= range.start && address - range.start < range.size) {
      return true;
    }
  }
  return false;
}

void probe_beyond(uint64_t end) {
  if (in_some_range(end)) {
    return;
  }
  map_device(end, kPage);
  expect(mmio_read<uint64_t>(end) == ~uint64_t{0}, "{} reads {}", hex(end),
         hex(mmio_read<uint64_t>(end)));
  mmio_write<uint64_t>(end, 0);
  expect(mmio_read<uint64_t>(end) == ~uint64_t{0}, "{} can be written", hex(end));
  print("nothing at {}\n", hex(end, 16));
}

}  // namespace

void guest_main() {
  uint64_t ram = 0;
  for (const MemoryRange& range : start_info().memory) {
    print("{}-{} {}\n", hex(range.start, 16), hex(range.start + range.size - 1, 16),
          name(range.type));
    if (range.type == MemoryType::Ram) {
      add_probes(range);
      ram += range.size;
    }
  }
  probe_ram();
  print("RAM: {} KiB, every probe holds its own value\n", ram / 1024);
  if (option_number("beyond", 0) != 0) {
    for (const MemoryRange& range : start_info().memory) {
      if (range.type == MemoryType::Ram) {
        probe_beyond(range.start + range.size);
      }
    }
  }
}

}  // namespace guest
