// Guest memory as the simulated driver hands it out, with every byte accounted for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kvm/memory.h"
#include "tests/sim/random.h"

namespace ringlet {

/// A piece of guest memory that is on loan.
struct GuestBuffer {
  GuestAddr at;
  std::span<std::byte> bytes;
  uint32_t first_cell = 0;
  uint32_t cells = 0;
};

/// All of guest memory, in cells of 64 bytes. Those that nobody has borrowed hold the canary; so
/// do the bytes of a borrowed cell around its buffer. Whoever writes where it has no business is
/// found out when the cell is next taken, given back, or at the end.
class GuestArena {
 public:
  static constexpr size_t kCell = 64;
  static constexpr std::byte kCanary{0xc5};

  GuestArena();

  const GuestMemory& memory() const { return memory_; }
  /// Everything is free again, and holds the canary.
  void clear();
  /// A buffer somewhere, full of canary; nothing when memory is (nearly) used up.
  std::optional<GuestBuffer> take(size_t length, size_t alignment, SimRandom& random);
  /// What the driver does not own any more: outside of memory, or across the end of a region.
  std::array<GuestAddr, 6> bad_addresses() const;
  /// Checks the bytes around the buffer, and makes it free.
  void give_back(const GuestBuffer& buffer);
  /// Checks the bytes of every free cell.
  void check_free() const;
  bool all_free() const { return used_cells_ == 0; }

 private:
  std::span<std::byte> cell_bytes(uint32_t first, uint32_t count) const;
  GuestAddr address_of(uint32_t cell) const;

  const GuestMemory memory_;
  std::vector<bool> used_;
  size_t used_cells_ = 0;
};

}  // namespace ringlet
