// The host's copies of the chains in flight on a virtqueue: the same for both ring formats.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "kvm/memory.h"
#include "virtio/ring.h"

namespace ringlet {

/// Slots for as many chains as a queue has descriptors, each with room for the longest chain there
/// may be. A ring reads a chain by start(), add() for each descriptor, and take(); what is not
/// taken is forgotten. Lives on the I/O loop; nothing allocates after construction.
///
/// Faults of the guest are told by their reason; an empty one means that there is none.
class ChainSlots {
 public:
  /// A chain's iovecs are parts()[0 .. reads) and [reads, reads + writes).
  struct Slot {
    uint16_t id = 0;          // by which the driver knows the chain
    uint16_t entries = 0;     // by how much its ring moves over it
    uint16_t first_read = 0;  // what Chain::read() has taken off
    uint16_t reads = 0;
    uint16_t first_write = 0;
    uint16_t writes = 0;
    std::byte* status = nullptr;
  };

  /// `indirect`: INDIRECT_DESC was negotiated.
  ChainSlots(const GuestMemory& memory, uint16_t size, bool indirect);

  const GuestMemory& memory() const { return memory_; }
  uint16_t in_flight() const { return in_flight_; }
  bool is_full() const { return free_.empty(); }
  bool is_out(uint16_t id) const { return id_is_out_[id]; }
  Slot& operator[](uint16_t slot) { return slots_[slot]; }
  iovec* parts(uint16_t slot) const { return &parts_[size_t{slot} * slots_.size()]; }

  /// Begins a new chain. Not while is_full().
  void start() noexcept;
  /// Adds one descriptor's buffer, if it has any bytes; at most `size` times for each chain.
  std::string_view add(GuestAddr address, uint32_t length, bool writable) noexcept;
  /// The table that an indirect descriptor with these fields refers to.
  std::string_view open_table(GuestAddr address, uint32_t length, uint16_t flags,
                              GuestView& table) const noexcept;
  /// Ends the chain, which is now in flight; returns its slot. `id` is not out.
  uint16_t take(uint16_t id, uint16_t entries) noexcept;
  /// The slot is free again. All of its writable part may have been written to.
  Slot give_back(uint16_t slot) noexcept;

 private:
  const GuestMemory& memory_;
  const bool indirect_;
  uint16_t in_flight_ = 0;
  // The chain that is being read: its slot, where its next buffer goes, its bytes.
  Slot* slot_ = nullptr;
  iovec* next_part_ = nullptr;
  uint64_t total_ = 0;

  // Slots are reused last-in first-out, so that a shallow queue stays in few cache lines. The
  // iovecs are left untouched, and so take no memory, until a chain of that slot needs them.
  std::vector<Slot> slots_;
  std::vector<uint16_t> free_;
  std::vector<bool> id_is_out_;
  std::unique_ptr<iovec[]> parts_;
};

}  // namespace ringlet
