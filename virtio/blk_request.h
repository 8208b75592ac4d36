// Requests of virtio-blk under way, and how neighbours are joined; for virtio/blk*.cc only.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "virtio/blk.h"

namespace ringlet {

/// What one range of a DISCARD or WRITE_ZEROES covers at most: 2 GiB.
inline constexpr uint32_t kMaxRangeSectors = 1U << 22;
inline constexpr size_t kMaxRanges = 16;

/// What neighbours joined into one operation add up to at most. Small requests have gained what
/// there is to gain by then; large ones are left to the disk in several pieces, which it can do at
/// the same time, and whose ends do not wait for one another.
inline constexpr uint64_t kMaxRunBytes = 256 << 10;
/// So many bytes in pages of 4 KiB, and room to spare.
inline constexpr size_t kMaxRunParts = 128;

/// One range of such a request, judged. Has no constructor: room for many costs no memory.
struct BlkRange {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};

/// Stays where it is, since operations point to it.
class Blk::Request final : public Completion {
 public:
  void completed(int32_t result, bool) noexcept override { owner->operation_done(*this, result); }

  /// Joined: without an operation of its own, collected or part of a neighbour's.
  enum class Step : uint8_t { Idle, Joined, Transfer, Flush, Range, Zeroes };

  Blk* owner = nullptr;
  std::optional<Chain> chain;
  Step step = Step::Idle;
  bool cancelled = false;
  uint32_t type = 0;
  int mode = 0;                 // Range: fallocate's
  std::span<BlkRange> ranges;   // Range and Zeroes: those not yet begun
  std::span<iovec> parts;       // Transfer: what is left
  uint64_t writable_bytes = 0;  // in front of the status
  uint64_t transferred = 0;     // bytes done
  uint64_t offset = 0;          // bytes: where the next operation starts
  uint64_t left = 0;            // bytes left of the transfer, or of this range
  Request* next = nullptr;      // its neighbour in the same run or operation
  iovec last_zeroes{};          // Zeroes: the end of a range
};

/// Transfers of one batch that came one behind the other and lie so on the disk: collected, to be
/// submitted as one operation.
struct Blk::Run {
  Request* first = nullptr;  // null: nothing is collected
  Request* last = nullptr;
  IoFile file;
  uint64_t bytes = 0;
  size_t parts = 0;
  uint64_t requests = 0;
};

/// What is kept for one queue.
struct Blk::Lane {
  std::unique_ptr<Request[]> requests;  // by Chain::slot()
  std::unique_ptr<BlkRange[]> ranges;   // kMaxRanges for each slot
  std::unique_ptr<iovec[]> joined;      // kMaxRunParts for each slot: those of a joined operation
  Run run;
};

}  // namespace ringlet
