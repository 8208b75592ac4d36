// Memory that is registered with an io_uring: which buffer of the ring's table a transfer lies in.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ringlet {

/// The most that the kernel takes for one buffer (io_uring_register_buffers(2)): 1 GiB.
inline constexpr uint64_t kLargestUringBuffer = 1ull << 30;
/// And how many of them (IORING_MAX_REG_BUFFERS).
inline constexpr size_t kMostUringBuffers = 1U << 14;

/// A ring's table of buffers. Filled before the loop runs, looked at by the loop only.
class UringBuffers {
 public:
  /// Cuts each of `areas` into buffers of `buffer_bytes`, a power of two; the last may be shorter.
  explicit UringBuffers(std::span<const std::span<std::byte>> areas = {},
                        uint64_t buffer_bytes = kLargestUringBuffer)
      : shift_(std::countr_zero(buffer_bytes)) {
    assert(std::has_single_bit(buffer_bytes));
    for (const std::span<std::byte> area : areas) {
      areas_.push_back({.start = reinterpret_cast<uintptr_t>(area.data()),
                        .size = area.size(),
                        .first_buffer = table_.size()});
      for (uint64_t at = 0; at < area.size(); at += buffer_bytes) {
        const std::span<std::byte> rest = area.subspan(at);
        table_.push_back({.iov_base = rest.data(), .iov_len = std::min(rest.size(), buffer_bytes)});
      }
    }
    assert(table_.size() <= kMostUringBuffers);
  }

  /// In the order of the kernel's table.
  std::span<const iovec> table() const { return table_; }

  /// The buffer that holds all of `part`; nothing where none does, or no single one.
  std::optional<uint16_t> holding(const iovec& part) const noexcept {
    for (const Area& area : areas_) {
      const uint64_t offset = reinterpret_cast<uintptr_t>(part.iov_base) - area.start;
      if (offset >= area.size) continue;  // also where it lies before the area
      const uint64_t buffer = offset >> shift_;
      const uint64_t end = std::min((buffer + 1) << shift_, area.size);
      if (part.iov_len > end - offset) return std::nullopt;
      return static_cast<uint16_t>(area.first_buffer + buffer);
    }
    return std::nullopt;
  }

 private:
  struct Area {
    uintptr_t start;
    uint64_t size;
    size_t first_buffer;
  };
  int shift_;  // of a buffer's size
  std::vector<Area> areas_;
  std::vector<iovec> table_;
};

}  // namespace ringlet
