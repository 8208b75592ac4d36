// virtio-blk driver (virtio 1.3, 5.2): any number of queues, polled or interrupt-driven.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/interrupts.h"
#include "lib/pci.h"
#include "lib/span.h"
#include "lib/virtio.h"
#include "lib/virtqueue.h"

namespace guest {

inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint16_t kBlkDeviceType = 2;

enum class BlkType : uint32_t {
  In = 0,
  Out = 1,
  Flush = 4,
  GetId = 8,
  Discard = 11,
  WriteZeroes = 13,
};

enum class BlkStatus : uint8_t { Ok = 0, IoError = 1, Unsupported = 2, NotWritten = 0xff };

// struct virtio_blk_req without its data (5.2.6).
struct BlkHeader {
  BlkType type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(BlkHeader) == 16);

// struct virtio_blk_discard_write_zeroes (5.2.6).
struct BlkRange {
  uint64_t sector;
  uint32_t num_sectors;
  uint32_t flags;
};
static_assert(sizeof(BlkRange) == 16);
inline constexpr uint32_t kBlkUnmap = 1;

// Offsets in struct virtio_blk_config (5.2.4).
namespace blk_config {
inline constexpr uint16_t kCapacity = 0;
inline constexpr uint16_t kSegMax = 12;
inline constexpr uint16_t kBlockSize = 20;
inline constexpr uint16_t kWriteback = 32;
inline constexpr uint16_t kNumQueues = 34;
inline constexpr uint16_t kMaxDiscardSegments = 40;
inline constexpr uint16_t kMaxWriteZeroesSegments = 52;
inline constexpr uint16_t kWriteZeroesMayUnmap = 56;
}  // namespace blk_config

enum class Completion { Poll, Msix, Intx };

class BlkDriver {
 public:
  struct Options {
    Completion completion = Completion::Poll;
    bool indirect = true;   // where offered
    bool event_idx = true;  // where offered
    uint16_t queue_size = 256;
    uint16_t queues = 1;
    uint16_t table_entries = 132;  // of each request's indirect table
  };

  static constexpr uint16_t kMaxQueues = 16;

  // With `packed`, all its queues are packed ones, in every start().
  explicit BlkDriver(const pci::Function& function, bool packed = false);

  // Resets the device and brings it up anew (3.1.1). May be called again at any time.
  void start(const Options& options);

  // Finds the registers again after a BAR was moved; requests in flight stay so.
  void find_registers();

  VirtioPci& device() { return device_; }
  Features features() const { return features_; }
  Features offered() const { return offered_; }
  uint64_t capacity_sectors() const;
  uint32_t max_segments() const;  // of data in one request
  uint16_t queue_count() const { return options_.queues; }
  Virtqueue& queue(uint16_t index) { return *queues_[index].ring; }

  // One request whose parts the caller lays out: header, data and status in any framing (2.7.4).
  // The request is not shown to the device before kick().
  uint16_t submit(uint16_t queue, Span<const Segment> segments);
  void kick(uint16_t queue);
  // What completions of any queue raise, unless they are polled.
  const InterruptCount& interrupts() const { return interrupts_; }
  // Waits for any request of this queue, in the way of Options::completion.
  UsedElement wait(uint16_t queue);

  // One request in the usual framing, waited for. The queue must have no other in flight.
  BlkStatus transfer(BlkType type, uint64_t sector, Span<const Segment> data, uint16_t queue = 0);
  BlkStatus read(uint64_t sector, Span<uint8_t> bytes);
  BlkStatus write(uint64_t sector, Span<const uint8_t> bytes);
  BlkStatus flush();

  // Bytes the device said it has written for the last transfer().
  uint32_t last_used_length() const { return last_used_length_; }

 private:
  struct Queue {
    std::optional<Virtqueue> ring;
    InterruptCount interrupts;
  };
  static constexpr size_t kMaxSegments = 130;  // of data in transfer()

  void set_up_interrupt_source();
  uint16_t msix_entry(uint16_t queue) const;
  static void on_intx(uint8_t vector);
  static void on_msix(uint8_t vector);

  static BlkDriver* active_;  // the one that interrupts are for

  VirtioPci device_;
  bool packed_;
  std::optional<pci::Msix> msix_;
  BlkHeader* header_;
  volatile uint8_t* status_;
  Options options_;
  Features offered_;
  Features features_;
  Queue queues_[kMaxQueues];
  InterruptCount interrupts_;
  uint32_t last_used_length_ = 0;
};

}  // namespace guest
