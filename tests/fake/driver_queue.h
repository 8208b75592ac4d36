// The driver's side of a virtqueue, whatever its format: writes rings as Linux does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kvm/memory.h"
#include "virtio/ids.h"
#include "virtio/queue.h"

namespace ringlet {

/// Hands out guest memory, upwards and for good. Asserts when a test wants more than there is.
class GuestHeap {
 public:
  GuestHeap(const GuestMemory& memory, AddrRange range) : memory_(memory), range_(range) {}
  const GuestMemory& memory() const { return memory_; }
  GuestAddr take(uint64_t bytes, uint64_t alignment = 16);
  /// `bytes` filled with `fill`.
  GuestAddr take_filled(uint64_t bytes, std::byte fill);
  /// Bytes handed out, from the start of its range.
  uint64_t used() const { return used_; }
  /// Goes on behind that many bytes; what lies before belongs to others, or is given up.
  void go_on_behind(uint64_t used) { used_ = used; }

 private:
  const GuestMemory& memory_;
  AddrRange range_;
  uint64_t used_ = 0;
};

/// One descriptor of a chain.
struct Segment {
  GuestAddr at;
  uint32_t length = 0;
  bool device_writes = false;
};

struct UsedEntry {
  uint16_t head = 0;  // or, in a packed ring, the buffer ID
  uint32_t length = 0;
  bool operator==(const UsedEntry&) const = default;
};

class DriverQueue {
 public:
  DriverQueue() = default;
  DriverQueue(const DriverQueue&) = delete;
  DriverQueue& operator=(const DriverQueue&) = delete;
  virtual ~DriverQueue() = default;

  virtual const QueueConfig& config() const = 0;
  uint16_t size() const { return config().size; }

  /// Empties rings and free list, as a driver does before it enables the queue (again). The rings
  /// start at `position`, zero except for tests of wrap-around; both of it are the same.
  virtual void restart(QueuePosition position = {}) = 0;
  /// Writes a chain of descriptors; returns its head, or nothing when too few descriptors are
  /// free. The device sees it only after publish().
  virtual std::optional<uint16_t> add(std::span<const Segment> chain) = 0;
  /// The same through an indirect table, which takes one descriptor.
  virtual std::optional<uint16_t> add_indirect(std::span<const Segment> chain) = 0;
  /// Makes what was added available; true when the device wants a kick for it.
  [[nodiscard]] virtual bool publish() = 0;
  /// Takes the next used element and frees its descriptors. With interrupts on, asks for one at
  /// the next element.
  virtual std::optional<UsedEntry> take_used() = 0;
  virtual bool has_used() const = 0;
  /// How many chains the device has shown as used since restart(), plus where that began.
  virtual uint16_t used_index() const = 0;
  /// Linux's virtqueue_enable_cb: true when nothing came in meanwhile.
  virtual bool interrupts_on() = 0;
  virtual void interrupts_off() = 0;
  /// With EVENT_IDX: the interrupt shall come once `chains` more are used, each of one descriptor.
  virtual void interrupt_after(uint16_t chains) = 0;
  /// Chains added and not yet taken back.
  virtual uint16_t out() const = 0;
  virtual uint16_t free_descriptors() const = 0;
};

/// Places the rings, packed or split as `features` say, into guest memory. Of the others
/// EVENT_IDX matters.
std::unique_ptr<DriverQueue> make_driver_queue(GuestHeap& heap, uint16_t size, Features features);

}  // namespace ringlet
