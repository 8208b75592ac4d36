// The two address spaces a vCPU can leave KVM_RUN for: I/O ports and memory-mapped I/O.
#include "kvm/bus.h"

#include <algorithm>
#include <limits>

namespace ringlet {

bool Bus::is_free(AddrRange range) const {
  if (range.size == 0 || range.size - 1 > std::numeric_limits<uint64_t>::max() - range.base) {
    return false;
  }
  const auto after = entries_.upper_bound(range.base);
  if (after != entries_.end() && after->first - range.base < range.size) return false;
  if (after == entries_.begin()) return true;
  const auto& [base, entry] = *std::prev(after);
  return range.base - base >= entry.size;
}

bool Bus::insert(AddrRange range, BusDevice& device) {
  if (!is_free(range)) return false;
  entries_.emplace(range.base, Entry{.size = range.size, .device = &device});
  return true;
}

void Bus::remove(uint64_t base) {
  entries_.erase(base);
}

Bus::Hit Bus::find(uint64_t at, size_t length) noexcept {
  const auto after = entries_.upper_bound(at);
  if (after != entries_.begin()) {
    const auto& [base, entry] = *std::prev(after);
    if (AddrRange{base, entry.size}.contains(at, length)) return {entry.device, at - base};
  }
  if (log_limit_.allow())
    log_debug("{} access to {:#x} ({} bytes): nothing there", name_, at, length);
  return {nullptr, 0};
}

void Bus::read(uint64_t at, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0xff});
  const Hit hit = find(at, data.size());
  if (hit.device != nullptr) hit.device->read(hit.offset, data);
}

void Bus::write(uint64_t at, std::span<const std::byte> data) noexcept {
  const Hit hit = find(at, data.size());
  if (hit.device != nullptr) hit.device->write(hit.offset, data);
}

}  // namespace ringlet
