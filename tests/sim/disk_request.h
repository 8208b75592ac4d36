// A request of the simulated driver: what it asks, what may come back, and the judgement.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/sim/disk_model.h"
#include "tests/sim/guest_arena.h"
#include "tests/sim/guest_ring.h"
#include "virtio/ids.h"

namespace ringlet {

/// What the driver knows of the disk.
struct DiskFacts {
  uint64_t sectors = 0;
  bool readonly = false;
  std::string_view serial{};
  Features features{};
};

/// How a driver makes its requests; a lifetime keeps its style.
struct RequestStyle {
  std::array<unsigned, 7> weights{};  // by DiskRequest::Kind
  bool any_layout = false;            // descriptors cut anywhere, not where fields end
  unsigned indirect_percent = 0;
  unsigned long_percent = 0;
  uint64_t hot_sectors = 0;         // most requests go to these first ones, so that they overlap
  unsigned sequential_percent = 0;  // requests that carry on where the one before ended
};

struct DiskRequest {
  enum class Kind : uint8_t { Read, Write, Flush, Identify, Discard, WriteZeroes, Bad };
  struct Placed {
    std::vector<GuestBuffer> readable;
    std::vector<GuestBuffer> writable;
  };

  Kind kind = Kind::Read;
  uint32_t type = 0;
  uint64_t sector = 0;
  std::vector<std::byte> sent;  // the readable part
  uint32_t writable_bytes = 0;  // with the status
  uint8_t status = 0;           // as it must be
  bool host_may_fail = false;   // or VIRTIO_BLK_S_IOERR, if the host failed an operation
  bool hostile = false;         // whatever comes back is right
  std::vector<DiskModel::Range> ranges;
  // Once it is available.
  DiskModel::Time begun = 0;
  std::vector<size_t> writes;  // as the model numbers them
  bool write_through = false;
  uint64_t cache_modes = 0;  // how often the mode was changed before
  Placed placed;
};

/// Where a read or a write of what has been read or written last would carry on.
struct DiskStream {
  DiskRequest::Kind kind = DiskRequest::Kind::Read;
  uint64_t sector = 0;
};

/// Invents one, maybe as what follows on `stream`, and moves that on. `next_tag` counts up.
DiskRequest invent_request(const DiskFacts& facts, const RequestStyle& style, DiskStream& stream,
                           uint64_t& next_tag, SimRandom& random);
/// Borrows memory for it, in pieces; the chain for it, empty when there is no room.
std::vector<ChainLink> place_request(DiskRequest& request, const RequestStyle& style,
                                     size_t max_links, GuestArena& arena, SimRandom& random);
void give_back_request(const DiskRequest& request, GuestArena& arena);

/// Checks what came back. True when it was VIRTIO_BLK_S_IOERR that only a failing host explains.
bool judge_request(const DiskRequest& request, uint32_t used_length, const DiskFacts& facts,
                   DiskModel& model, DiskModel::Time now);
/// The status that came back; after judge_request().
uint8_t status_of_request(const DiskRequest& request);

}  // namespace ringlet
