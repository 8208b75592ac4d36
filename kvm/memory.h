// The guest's RAM as the host sees it: mapped once, checked at every access.
//
// Bytes from the guest can change at any moment, by another vCPU or by a hostile guest on purpose.
// So they are copied exactly once into a local and then judged; a compiler barrier behind each
// copy keeps the optimiser from fetching them a second time.
#pragma once

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "kvm/address.h"
#include "kvm/fd.h"

namespace ringlet {

/// Where the pages of guest memory come from.
struct MemoryBacking {
  enum class Kind {
    Anonymous,    ///< private zero pages
    Memfd,        ///< shareable with another process (vhost-user, snapshots)
    PrivateFile,  ///< a snapshot's memory file, mapped copy-on-write
  };
  Kind kind = Kind::Anonymous;
  /// hugetlbfs pages of 2 MiB (Anonymous and Memfd), reserved at start.
  bool huge_pages = false;
  /// Asks the kernel for transparent huge pages for what is touched from allow_huge_pages() on, or
  /// for all that is prefaulted. Without it there are none.
  bool transparent_huge_pages = false;
  /// Takes every page from the host at once, so that the guest never waits for one, and a host
  /// that has too little memory says so at the start. Of a PrivateFile the file's pages are mapped.
  bool prefault = false;
  /// PrivateFile: the file. The mapping keeps it alive; the descriptor may be closed.
  int file = -1;
  /// PrivateFile: where in the file the first range starts, in bytes; page-aligned.
  uint64_t file_offset = 0;
};

/// One contiguous run of guest RAM.
struct MemoryRegion {
  GuestAddr base;
  std::span<std::byte> bytes;
  uint64_t file_offset = 0;  ///< within the memfd or file behind it
};

/// A piece of guest RAM that was checked once and is then used by offset: a ring. An offset out
/// of bounds is our own mistake, never the guest's, and asserts.
class GuestView {
 public:
  GuestView() = default;
  explicit GuestView(std::span<std::byte> bytes) : bytes_(bytes) {}

  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  /// For mark_dirty().
  std::span<const std::byte> bytes() const { return bytes_; }

  template <typename T>
  T read(size_t offset) const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, at(offset, sizeof(T)), sizeof(T));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return value;
  }
  template <typename T>
  void write(size_t offset, const T& value) const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(at(offset, sizeof(T)), &value, sizeof(T));
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  /// The only ways to look at and to move a ring index. `offset` must be even.
  uint16_t load_acquire(size_t offset) const noexcept {
    return index(offset).load(std::memory_order_acquire);
  }
  uint16_t load_relaxed(size_t offset) const noexcept {
    return index(offset).load(std::memory_order_relaxed);
  }
  void store_release(size_t offset, uint16_t value) const noexcept {
    index(offset).store(value, std::memory_order_release);
  }

 private:
  std::byte* at(size_t offset, size_t length) const noexcept {
    assert(offset <= bytes_.size() && length <= bytes_.size() - offset);
    return bytes_.data() + offset;
  }
  std::atomic_ref<uint16_t> index(size_t offset) const noexcept {
    assert(offset % sizeof(uint16_t) == 0);
    return std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(at(offset, sizeof(uint16_t))));
  }

  std::span<std::byte> bytes_;
};

/// Owns the mappings. Every method but the constructor may be called by any thread.
class GuestMemory {
 public:
  /// Maps `ranges` (guest-physical, disjoint, ascending, page-aligned; 2 MiB-aligned with huge
  /// pages), each between inaccessible guard pages and left out of core dumps. Pages are zero
  /// and take no host memory until touched. Throws std::system_error.
  GuestMemory(std::span<const AddrRange> ranges, const MemoryBacking& backing);
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  /// To be called when what the guest starts with is loaded: a page of 2 MiB is cleared as a whole
  /// when it is first touched, which would make the start longer. Without effect unless the backing
  /// wants transparent huge pages and the kernel has them.
  void allow_huge_pages() const noexcept;

  std::span<const MemoryRegion> regions() const { return regions_; }
  /// The sum of all regions, in bytes.
  uint64_t size() const { return size_; }
  /// The first guest address behind the last region.
  uint64_t end() const;
  /// The memfd behind it, or -1.
  int memfd() const { return memfd_.get(); }

  /// Checked copies. False, with nothing copied, unless all of the bytes are RAM of one region.
  [[nodiscard]] bool read(GuestAddr from, std::span<std::byte> to) const noexcept;
  [[nodiscard]] bool write(GuestAddr to, std::span<const std::byte> from) const noexcept;

  template <typename T>
  [[nodiscard]] std::optional<T> read(GuestAddr from) const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    if (!read(from, std::as_writable_bytes(std::span(&value, 1)))) return std::nullopt;
    return value;
  }
  template <typename T>
  [[nodiscard]] bool write_value(GuestAddr to, const T& value) const noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(to, std::as_bytes(std::span(&value, 1)));
  }

  /// `length` bytes of RAM at `at`, for handing to the kernel as an I/O buffer; never for looking
  /// at their contents. Nothing unless all of them are RAM of one region.
  std::optional<std::span<std::byte>> slice(GuestAddr at, uint64_t length) const noexcept;

  /// A checked window for ring accesses; empty optional as slice().
  std::optional<GuestView> view(GuestAddr at, uint64_t length) const noexcept;

  /// Starts to note which 4 KiB pages the host itself writes: KVM's dirty log misses them.
  void track_dirty();
  /// Notes that the host wrote to `bytes`, which came from slice(). Does nothing unless tracking.
  void mark_dirty(std::span<const std::byte> bytes) const noexcept {
    if (!dirty_.empty() && !bytes.empty()) set_dirty(bytes);
  }
  /// Returns the bitmap of region `index` since the last call (bit n: page n) and clears it.
  std::vector<uint64_t> take_dirty(size_t index);

  /// True when `host` points into guest RAM: a SIGBUS there is the backing's fault.
  bool contains_host(const void* host) const noexcept;

 private:
  struct Mapping {
    std::byte* start;
    size_t size;
  };
  using Bitmap = std::vector<std::atomic<uint64_t>>;

  void map(AddrRange range, const MemoryBacking& backing, uint64_t file_offset);
  void unmap_all() noexcept;
  void set_dirty(std::span<const std::byte> bytes) const noexcept;

  std::vector<MemoryRegion> regions_;
  std::vector<Mapping> mappings_;  // with guard pages
  std::vector<std::unique_ptr<Bitmap>> dirty_;
  bool transparent_huge_pages_;
  Fd memfd_;
  uint64_t size_ = 0;
};

// Here, as a request takes several: for the header, each buffer, an indirect table.
inline std::optional<std::span<std::byte>> GuestMemory::slice(GuestAddr at,
                                                              uint64_t length) const noexcept {
  for (const MemoryRegion& region : regions_) {
    if (at < region.base) break;
    const uint64_t offset = at.value() - region.base.value();
    if (offset >= region.bytes.size()) continue;
    if (length > region.bytes.size() - offset) return std::nullopt;
    return region.bytes.subspan(offset, length);
  }
  return std::nullopt;
}

inline std::optional<GuestView> GuestMemory::view(GuestAddr at, uint64_t length) const noexcept {
  const auto bytes = slice(at, length);
  if (!bytes) return std::nullopt;
  return GuestView(*bytes);
}

}  // namespace ringlet
