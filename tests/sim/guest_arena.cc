// Guest memory as the simulated driver hands it out, with every byte accounted for.
#include "tests/sim/guest_arena.h"

#include <algorithm>
#include <cstring>

#include "tests/sim/trace.h"

namespace ringlet {
namespace {

// Two regions with a hole between them, which hostile addresses aim at.
constexpr std::array<AddrRange, 2> kRegions{{{0, 160 << 10}, {1 << 20, 96 << 10}}};
constexpr uint32_t kFirstCells = kRegions[0].size / GuestArena::kCell;
constexpr uint32_t kCells = kFirstCells + kRegions[1].size / GuestArena::kCell;

constexpr std::array<std::byte, 4096> kCanaries = [] {
  std::array<std::byte, 4096> bytes{};
  bytes.fill(GuestArena::kCanary);
  return bytes;
}();

bool is_canary(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kCanaries.size());
    if (std::memcmp(bytes.data(), kCanaries.data(), count) != 0) return false;
    bytes = bytes.subspan(count);
  }
  return true;
}

}  // namespace

GuestArena::GuestArena() : memory_(kRegions, MemoryBacking{}), used_(kCells) {
  clear();
}

void GuestArena::clear() {
  for (const MemoryRegion& region : memory_.regions()) std::ranges::fill(region.bytes, kCanary);
  used_.assign(kCells, false);
  used_cells_ = 0;
}

std::span<std::byte> GuestArena::cell_bytes(uint32_t first, uint32_t count) const {
  const bool low = first < kFirstCells;
  const std::span<std::byte> region = memory_.regions()[low ? 0 : 1].bytes;
  return region.subspan((low ? first : first - kFirstCells) * kCell, count * kCell);
}

GuestAddr GuestArena::address_of(uint32_t cell) const {
  const bool low = cell < kFirstCells;
  return GuestAddr(kRegions[low ? 0 : 1].base + (low ? cell : cell - kFirstCells) * kCell);
}

std::optional<GuestBuffer> GuestArena::take(size_t length, size_t alignment, SimRandom& random) {
  // Often without a gap to the neighbours, else somewhere inside its cells.
  const size_t extra = random.percent(50) ? 0 : random.below(kCell);
  const size_t offset = extra / alignment * alignment;
  const auto cells =
      static_cast<uint32_t>((std::max<size_t>(offset + length, 1) + kCell - 1) / kCell);
  // From a random place on; sometimes at the very end of a region.
  const uint32_t edge = random.percent(50) ? kFirstCells : kCells;
  const uint32_t start = random.percent(4) ? edge - cells : random.below(kCells);
  uint32_t run = 0;
  for (uint32_t tried = 0; tried < kCells + cells; ++tried) {
    const uint32_t cell = (start + tried) % kCells;
    if (cell == 0 || cell == kFirstCells) run = 0;
    run = used_[cell] ? 0 : run + 1;
    if (run < cells) continue;
    const uint32_t first = cell + 1 - cells;
    std::fill_n(used_.begin() + first, cells, true);
    used_cells_ += cells;
    const std::span<std::byte> all = cell_bytes(first, cells);
    expect(is_canary(all), "free guest memory at {:#x} ({} bytes) was written to",
           address_of(first).value(), all.size());
    return GuestBuffer{.at = GuestAddr(address_of(first).value() + offset),
                       .bytes = all.subspan(offset, length),
                       .first_cell = first,
                       .cells = cells};
  }
  return std::nullopt;
}

std::array<GuestAddr, 6> GuestArena::bad_addresses() const {
  return {GuestAddr(kRegions[0].size - 1), GuestAddr(kRegions[0].size),
          GuestAddr(kRegions[1].base - 1), GuestAddr(memory_.end() - 1),
          GuestAddr(memory_.end()),        GuestAddr(UINT64_MAX - 1)};
}

void GuestArena::give_back(const GuestBuffer& buffer) {
  const std::span<std::byte> all = cell_bytes(buffer.first_cell, buffer.cells);
  const auto before = static_cast<size_t>(buffer.bytes.data() - all.data());
  const bool intact =
      is_canary(all.first(before)) && is_canary(all.subspan(before + buffer.bytes.size()));
  expect(intact, "bytes around the buffer at {:#x} ({} bytes) were written to", buffer.at.value(),
         buffer.bytes.size());
  std::ranges::fill(all, kCanary);
  std::fill_n(used_.begin() + buffer.first_cell, buffer.cells, false);
  used_cells_ -= buffer.cells;
}

void GuestArena::check_free() const {
  for (uint32_t cell = 0; cell < kCells; ++cell) {
    if (used_[cell]) continue;
    expect(is_canary(cell_bytes(cell, 1)), "free guest memory at {:#x} was written to",
           address_of(cell).value());
  }
}

}  // namespace ringlet
