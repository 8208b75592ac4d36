// The guest's RAM as the host sees it: mapped once, checked at every access.
#include "kvm/memory.h"

#include <sys/mman.h>

#include <cassert>
#include <cerrno>

#include <fmt/core.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

std::byte* map_or_throw(std::byte* at, size_t size, int protection, int flags, int fd,
                        uint64_t offset, const char* what) {
  void* const mapped = ::mmap(at, size, protection, flags, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) throw_errno(what);
  return static_cast<std::byte*>(mapped);
}

void prefault(std::span<std::byte> ram, MemoryBacking::Kind kind) {
  // Writing to a private mapping of a file would copy all of it.
  const bool copies = kind == MemoryBacking::Kind::PrivateFile;
  const int advice = copies ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
  while (::madvise(ram.data(), ram.size(), advice) < 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL) throw HostError("--prefault: expected Linux 5.14 or later");
    throw_errno("taking guest memory from the host (--prefault)");
  }
}

}  // namespace

GuestMemory::GuestMemory(std::span<const AddrRange> ranges, const MemoryBacking& backing)
    : transparent_huge_pages_(backing.transparent_huge_pages && !backing.huge_pages) {
  const uint64_t page = backing.huge_pages ? kHugePage : kPage;
  uint64_t total = 0;
  for (const AddrRange& range : ranges) {
    assert(range.base % page == 0 && range.size % page == 0 && range.size > 0);
    total += range.size;
  }
  if (backing.kind == MemoryBacking::Kind::Memfd) {
    const unsigned huge = backing.huge_pages ? MFD_HUGETLB | (21U << MAP_HUGE_SHIFT) : 0U;
    memfd_.reset(check(::memfd_create("ringlet-ram", MFD_CLOEXEC | huge), "memfd_create"));
    check(::ftruncate(memfd_.get(), static_cast<off_t>(total)), "ftruncate of guest memory");
  }
  try {
    for (const AddrRange& range : ranges) {
      map(range, backing, backing.file_offset + size_);
      size_ += range.size;
    }
  } catch (const std::system_error& error) {
    unmap_all();
    if (!backing.huge_pages) throw;
    throw HostError(fmt::format(
        "{} in huge pages: expected {} free ones of 2 MiB (HugePages_Free in /proc/meminfo)",
        error.what(), total / kHugePage));
  } catch (...) {
    unmap_all();
    throw;
  }
}

GuestMemory::~GuestMemory() {
  unmap_all();
}

void GuestMemory::unmap_all() noexcept {
  for (const Mapping& mapping : mappings_) ::munmap(mapping.start, mapping.size);
}

void GuestMemory::map(AddrRange range, const MemoryBacking& backing, uint64_t file_offset) {
  // One inaccessible reservation with room for a guard on each side and for alignment; the RAM
  // replaces its middle. An overrun of host code then faults instead of reaching a neighbour.
  // Aligned to 2 MiB throughout, so that transparent huge pages can back it too.
  const size_t reserved = range.size + 2 * kHugePage;
  std::byte* const start =
      map_or_throw(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
                   "mmap of the address range for guest memory");
  mappings_.push_back({.start = start, .size = reserved});
  const auto address = reinterpret_cast<uintptr_t>(start);
  std::byte* const ram = start + (kHugePage - address % kHugePage);

  using Kind = MemoryBacking::Kind;
  int flags = MAP_FIXED | MAP_NORESERVE;
  int fd = -1;
  uint64_t offset = 0;
  if (backing.kind == Kind::Anonymous) {
    flags |= MAP_PRIVATE | MAP_ANONYMOUS;
    if (backing.huge_pages) flags |= MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
  } else {
    flags |= backing.kind == Kind::Memfd ? MAP_SHARED : MAP_PRIVATE;
    fd = backing.kind == Kind::Memfd ? memfd_.get() : backing.file;
    offset = file_offset;
  }
  // Huge pages come from a pool: without a reservation the first touch could end in SIGBUS.
  if (backing.huge_pages) flags &= ~MAP_NORESERVE;
  map_or_throw(ram, range.size, PROT_READ | PROT_WRITE, flags, fd, offset, "mmap of guest memory");
  // Advice only: a kernel that refuses it works all the same.
  ::madvise(ram, range.size, MADV_DONTDUMP);
  // Where the host gives them to everybody, too.
  if (!transparent_huge_pages_ && !backing.huge_pages) ::madvise(ram, range.size, MADV_NOHUGEPAGE);
  regions_.push_back(
      {.base = GuestAddr(range.base), .bytes = std::span(ram, range.size), .file_offset = offset});
  if (!backing.prefault) return;
  allow_huge_pages();
  prefault(regions_.back().bytes, backing.kind);
}

void GuestMemory::allow_huge_pages() const noexcept {
  if (!transparent_huge_pages_) return;
  for (const MemoryRegion& region : regions_) {
    ::madvise(region.bytes.data(), region.bytes.size(), MADV_HUGEPAGE);
  }
}

uint64_t GuestMemory::end() const {
  if (regions_.empty()) return 0;
  return regions_.back().base.value() + regions_.back().bytes.size();
}

bool GuestMemory::read(GuestAddr from, std::span<std::byte> to) const noexcept {
  const auto bytes = slice(from, to.size());
  if (!bytes) return false;
  if (!to.empty()) std::memcpy(to.data(), bytes->data(), to.size());
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return true;
}

bool GuestMemory::write(GuestAddr to, std::span<const std::byte> from) const noexcept {
  const auto bytes = slice(to, from.size());
  if (!bytes) return false;
  if (!from.empty()) std::memcpy(bytes->data(), from.data(), from.size());
  std::atomic_signal_fence(std::memory_order_seq_cst);
  mark_dirty(*bytes);
  return true;
}

void GuestMemory::track_dirty() {
  if (!dirty_.empty()) return;
  for (const MemoryRegion& region : regions_) {
    dirty_.push_back(std::make_unique<Bitmap>((region.bytes.size() / kPage + 63) / 64));
  }
}

void GuestMemory::set_dirty(std::span<const std::byte> bytes) const noexcept {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const std::byte* const base = regions_[i].bytes.data();
    if (bytes.data() < base || bytes.data() >= base + regions_[i].bytes.size()) continue;
    const auto offset = static_cast<size_t>(bytes.data() - base);
    const size_t last = (offset + bytes.size() - 1) / kPage;
    for (size_t page = offset / kPage; page <= last; ++page) {
      (*dirty_[i])[page / 64].fetch_or(uint64_t{1} << (page % 64), std::memory_order_relaxed);
    }
    return;
  }
}

std::vector<uint64_t> GuestMemory::take_dirty(size_t index) {
  std::vector<uint64_t> bits;
  if (dirty_.empty()) return bits;
  bits.reserve(dirty_[index]->size());
  for (auto& word : *dirty_[index]) bits.push_back(word.exchange(0, std::memory_order_relaxed));
  return bits;
}

bool GuestMemory::contains_host(const void* host) const noexcept {
  const auto* const at = static_cast<const std::byte*>(host);
  for (const MemoryRegion& region : regions_) {
    if (at >= region.bytes.data() && at < region.bytes.data() + region.bytes.size()) return true;
  }
  return false;
}

}  // namespace ringlet
