// A request of virtio-blk under way; for virtio/blk*.cc only.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>

#include "virtio/blk.h"

namespace ringlet {

/// What one range of a DISCARD or WRITE_ZEROES covers at most: 2 GiB.
inline constexpr uint32_t kMaxRangeSectors = 1U << 22;
inline constexpr uint32_t kMaxRanges = 16;

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

  enum class Step : uint8_t { Idle, Transfer, Flush, Range, Zeroes };

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
  uint64_t left = 0;            // Range and Zeroes: bytes left of this range
  iovec last_zeroes{};          // Zeroes: the end of a range
};

}  // namespace ringlet
