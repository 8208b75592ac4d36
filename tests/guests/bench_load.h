// The benchmark guest's load: keeps a number of requests in flight, as a good driver does.
#pragma once

#include <cstdint>

#include "bench_clock.h"
#include "lib/memory.h"
#include "lib/virtio_blk.h"

namespace guest {

enum class Wait : uint8_t {
  Poll,       // look at the used ring, again and again; no interrupts
  Interrupt,  // spin until an interrupt comes
  Halt,       // sleep until one comes
};

struct LoadOptions {
  BlkType type = BlkType::In;
  bool random = true;
  uint32_t block_bytes = 4096;
  uint16_t depth = 1;  // in flight, over all queues
  uint16_t batch = 1;  // completions taken before the next requests are submitted
  Wait wait = Wait::Poll;
  uint64_t start_block = 0;  // of the region that is read or written
  uint64_t blocks = 0;
  uint64_t seed = 1;
};

// What a run did; times in ticks of the TSC.
struct LoadResult {
  uint64_t requests = 0;
  uint64_t ticks = 0;
  uint64_t kicks = 0;
  uint64_t publications = 0;
  uint64_t waits = 0;  // with interrupts enabled
  uint64_t interrupts = 0;
};

// When a run submits nothing more; what is in flight is waited for.
struct Until {
  uint64_t ticks;  // since the start
  uint64_t requests;
};

class Load {
 public:
  static constexpr uint16_t kMaxDepth = 1024;

  // `blk` is started. `buffers` holds depth blocks.
  Load(BlkDriver& blk, const LoadOptions& options, Span<uint8_t> buffers);

  LoadResult run(const TscClock& clock, Until until);
  // Of the last run, from adding a request to seeing it used, in ticks.
  const Histogram& latencies() const { return latencies_; }

 private:
  // What the device reads and writes beside the data: a cache line of its own.
  struct alignas(64) Slot {
    BlkHeader header;
    volatile uint8_t status;
    uint64_t added_at;
    uint16_t queue;
  };

  uint64_t next_sector();
  void submit(uint16_t slot, uint64_t now);
  void submit_idle(uint64_t now);
  void publish();
  uint32_t reap();
  void finish(uint16_t queue, uint16_t head, uint64_t now);
  void wait();
  bool enable_interrupts();
  void disable_interrupts();

  BlkDriver& blk_;
  LoadOptions options_;
  Span<uint8_t> buffers_;
  Span<Slot> slots_;
  uint16_t idle_[kMaxDepth];  // slots, a stack
  uint16_t idle_count_ = 0;
  uint16_t slot_of_head_[BlkDriver::kMaxQueues][kMaxQueueSize];
  bool unpublished_[BlkDriver::kMaxQueues] = {};
  uint64_t cursor_ = 0;
  uint64_t random_;
  LoadResult result_;
  uint64_t request_limit_ = 0;
  uint64_t submitted_ = 0;
  Histogram latencies_;
};

}  // namespace guest
