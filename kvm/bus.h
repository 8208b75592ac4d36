// The two address spaces a vCPU can leave KVM_RUN for: I/O ports and memory-mapped I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "kvm/address.h"
#include "kvm/log.h"

namespace ringlet {

/// What answers in a range of addresses. Called by vCPU threads under the bus mutex.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  /// The guest reads data.size() (1 to 8) bytes, `offset` bytes into the range. `data` comes
  /// filled with 0xff, what an empty bus answers.
  virtual void read(uint64_t offset, std::span<std::byte> data) noexcept = 0;
  /// The guest writes data.size() (1 to 8) bytes, `offset` bytes into the range.
  virtual void write(uint64_t offset, std::span<const std::byte> data) noexcept = 0;
};

/// One address space: an ordered map of disjoint ranges. Not synchronised; see Buses.
class Bus {
 public:
  /// `name` is for the log: "port" or "mmio".
  explicit Bus(const char* name) : name_(name) {}

  /// False, and nothing changes, when `range` is empty, wraps, or overlaps another. The device
  /// must outlive its entry.
  [[nodiscard]] bool insert(AddrRange range, BusDevice& device);
  /// Removes the range that starts at `base`; nothing happens when there is none.
  void remove(uint64_t base);
  bool is_free(AddrRange range) const;

  /// Routes one access. An access that no range holds as a whole reads as 0xff and writes
  /// nowhere; the log tells, rate-limited.
  void read(uint64_t at, std::span<std::byte> data) noexcept;
  void write(uint64_t at, std::span<const std::byte> data) noexcept;

 private:
  struct Entry {
    uint64_t size;
    BusDevice* device;
  };
  struct Hit {
    BusDevice* device;
    uint64_t offset;
  };
  Hit find(uint64_t at, size_t length) noexcept;

  const char* name_;
  std::map<uint64_t, Entry> entries_;
  LogLimit log_limit_;
};

/// Both address spaces and the one mutex that a vCPU thread takes per exit. The I/O loop never
/// takes it, and nobody waits for another thread while holding it.
struct Buses {
  std::mutex mutex;
  Bus port{"port"};
  Bus mmio{"mmio"};
};

}  // namespace ringlet
