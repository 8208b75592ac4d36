// A second copy of guest memory that says what should be in it: finds bytes that the device wrote
// and had no business to.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "kvm/memory.h"

namespace ringlet {

/// Everything starts as zeroes, like guest memory.
class ShadowMemory {
 public:
  explicit ShadowMemory(const GuestMemory& memory) : memory_(memory) {
    for (const MemoryRegion& region : memory.regions()) {
      shadow_.emplace_back(region.bytes.size());
      granted_.emplace_back(region.bytes.size());
    }
  }

  /// The guest writes, here and in its memory; nothing happens where there is none.
  void write(GuestAddr at, std::span<const std::byte> data) {
    if (!memory_.write(at, data)) return;
    each(*memory_.slice(at, data.size()), [&](size_t region, size_t offset, size_t index) {
      shadow_[region][offset] = data[index];
    });
  }
  /// The device may write here from now on.
  void grant(std::span<const std::byte> bytes) {
    each(bytes, [&](size_t region, size_t offset, size_t) { granted_[region][offset] = true; });
  }
  void grant(GuestAddr at, uint64_t size) {
    if (const auto bytes = memory_.slice(at, size)) grant(*bytes);
  }
  /// What the device has written is as it should be; it may write nothing more.
  void take_back() {
    check();
    for (size_t region = 0; region < shadow_.size(); ++region) {
      const auto bytes = memory_.regions()[region].bytes;
      shadow_[region].assign(bytes.begin(), bytes.end());
      granted_[region].assign(bytes.size(), false);
    }
  }
  void check() const {
    constexpr size_t kStride = 256;  // most of memory is as it was: a quick look is enough
    for (size_t region = 0; region < shadow_.size(); ++region) {
      const auto bytes = memory_.regions()[region].bytes;
      for (size_t i = 0; i < bytes.size(); i += kStride) {
        const size_t count = std::min(kStride, bytes.size() - i);
        if (std::memcmp(&bytes[i], &shadow_[region][i], count) != 0) check(region, i, count);
      }
    }
  }

 private:
  void check(size_t region, size_t from, size_t count) const {
    for (size_t i = from; i < from + count; ++i) {
      const bool is_same = memory_.regions()[region].bytes[i] == shadow_[region][i];
      assert((is_same || granted_[region][i]) && "the device wrote where no buffer is");
    }
  }
  template <typename Visit>
  void each(std::span<const std::byte> bytes, Visit visit) const {
    if (bytes.empty()) return;
    for (size_t region = 0; region < shadow_.size(); ++region) {
      const std::span<const std::byte> all = memory_.regions()[region].bytes;
      if (bytes.data() < all.data() || bytes.data() >= all.data() + all.size()) continue;
      const auto offset = static_cast<size_t>(bytes.data() - all.data());
      assert(bytes.size() <= all.size() - offset);
      for (size_t i = 0; i < bytes.size(); ++i) visit(region, offset + i, i);
      return;
    }
    assert(false && "a buffer outside of guest memory");
  }

  const GuestMemory& memory_;
  std::vector<std::vector<std::byte>> shadow_;
  std::vector<std::vector<bool>> granted_;
};

}  // namespace ringlet
