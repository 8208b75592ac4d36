// Guest: resets a virtio-blk device and its queues while they are busy, and watches for late
// writes. Once a reset is confirmed the device must not touch memory any more (2.1, 2.6.1): all
// that it might still write to is filled with a pattern, left alone for a while, and checked.
// The first MiB of the disk is overwritten.
//   index=N     which virtio-blk device (0)
//   n=N         how many resets (1000)
//   kind=both   every second one is a queue reset where that is offered (the default);
//   kind=device queue resets are left out
//   queues=N    how many queues are busy, up to 4 (1)
//   packed=1    with packed queues (0)
//   verbose=1   also prints how many requests were cut off, which differs from run to run
#include "lib/guest.h"
#include "lib/io.h"
#include "lib/virtio.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr size_t kMaxLanes = 4;
constexpr size_t kSets = 3;
constexpr size_t kRequests = 32;  // in flight on each queue
constexpr size_t kChunk = 8192;
constexpr size_t kChunks = 128;
constexpr uint64_t kChunkSectors = kChunk / kSectorBytes;
constexpr uint16_t kQueueSize = 128;
constexpr uint8_t kPoison = 0xa5;
constexpr uint64_t kFirstPoisonSeed = 1 << 20;  // those below are the chunks'

// What the disk holds, and what writes write again: chunk n has pattern n.
alignas(4096) uint8_t disk_image[kChunks][kChunk];
alignas(4096) uint8_t buffers[kMaxLanes][kSets][kRequests][kChunk];

uint64_t cut_off = 0;
uint64_t completed = 0;

// One ring with its requests. A lane has several sets, so that one that was reset can rest.
class RequestSet {
 public:
  RequestSet() : ring_(kQueueSize, {}) {}

  void assign(uint8_t (*data)[kChunk]) { data_ = data; }
  Virtqueue& ring() { return ring_; }

  // Empties the ring for a device that has just been reset.
  void prepare(Virtqueue::Options options) {
    check_poison();
    ring_.reset(options);
    ring_.disable_interrupts();
  }

  // Fills the ring: mostly reads, every fourth request a write. Returns whether to notify.
  bool fill(uint64_t round) {
    for (size_t i = 0; i < kRequests; ++i) {
      chunks_[i] = (round * 7 + i * 13) % kChunks;
      const bool write = i % 4 == 3;
      headers_[i] = {write ? BlkType::Out : BlkType::In, 0, chunks_[i] * kChunkSectors};
      statuses_[i] = static_cast<uint8_t>(BlkStatus::NotWritten);
      const uint64_t data = write ? address_of(disk_image[chunks_[i]]) : address_of(data_[i]);
      const Segment segments[] = {{address_of(&headers_[i]), sizeof(BlkHeader), false},
                                  {data, kChunk / 2, !write},
                                  {data + kChunk / 2, kChunk / 2, !write},
                                  {address_of(&statuses_[i]), 1, true}};
      const std::optional<uint16_t> head = ring_.add(segments);
      expect(head.has_value(), "the ring is full");
      heads_[i] = *head;
    }
    left_ = kRequests;
    return ring_.publish();
  }

  // Takes and checks what is used, until no more than `wanted` requests are left.
  void wait_until_left(size_t wanted) {
    const Deadline deadline;
    while (left_ > wanted) {
      if (const std::optional<UsedElement> used = ring_.take_used()) {
        check(used->head);
      } else {
        expect(!deadline.passed(), "{} requests are never used", left_);
        cpu_relax();
      }
    }
  }

  // After a confirmed reset: everything the device could write to gets a pattern.
  void poison(uint64_t seed) {
    cut_off += left_;
    left_ = 0;
    seed_ = kFirstPoisonSeed + seed;
    poisoned_ = true;
    fill_pattern({data_[0], kRequests * kChunk}, seed_);
    memset(statuses_, kPoison, sizeof(statuses_));
    for (const Span<uint8_t>& piece : ring_.written_by_device().pieces) {
      memset(piece.data, kPoison, piece.size);
    }
  }

  void check_poison() {
    if (!poisoned_) {
      return;
    }
    poisoned_ = false;
    const size_t at = pattern_mismatch({data_[0], kRequests * kChunk}, seed_);
    expect(at == kRequests * kChunk, "late write to byte {} of a read buffer", at);
    for (const uint8_t status : statuses_) {
      expect(status == kPoison, "late write to a status byte");
    }
    for (const Span<uint8_t>& piece : ring_.written_by_device().pieces) {
      for (size_t i = 0; i < piece.size; ++i) {
        expect(piece[i] == kPoison, "late write to byte {} of a ring", i);
      }
    }
  }

 private:
  void check(uint16_t head) {
    size_t i = 0;
    while (i < kRequests && heads_[i] != head) {
      ++i;
    }
    expect(i < kRequests, "an unknown request is used");
    expect(statuses_[i] == static_cast<uint8_t>(BlkStatus::Ok), "status {}", statuses_[i]);
    expect(headers_[i].type == BlkType::Out ||
               pattern_mismatch({data_[i], kChunk}, chunks_[i]) == kChunk,
           "chunk {} is read wrongly", chunks_[i]);
    --left_;
    ++completed;
  }

  Virtqueue ring_;
  uint8_t (*data_)[kChunk] = nullptr;
  BlkHeader headers_[kRequests];
  uint8_t statuses_[kRequests];
  uint16_t heads_[kRequests];
  uint64_t chunks_[kRequests];
  size_t left_ = 0;
  uint64_t seed_ = 0;
  bool poisoned_ = false;
};

// A queue of the device with its sets, of which one is in use.
struct Lane {
  RequestSet sets[kSets];
  size_t current = 0;

  RequestSet& set() { return sets[current]; }
  void retire(uint64_t seed) {
    set().poison(seed);
    current = (current + 1) % kSets;
  }
};

class ResetTest {
 public:
  ResetTest(const pci::Function& function, uint16_t lanes, bool packed)
      : device_(function), lanes_(lanes) {
    for (uint16_t i = 0; i < lanes; ++i) {
      for (size_t j = 0; j < kSets; ++j) {
        lane_[i].sets[j].assign(buffers[i][j]);
      }
    }
    device_.reset();
    Features wanted = Features{}
                          .with(Feature::Version1)
                          .with(Feature::BlkMultiQueue)
                          .with(Feature::IndirectDescriptors)
                          .with(Feature::EventIndex)
                          .with(Feature::RingReset);
    if (packed) {
      wanted = wanted.with(Feature::RingPacked);
    }
    features_ = {device_.offered().bits & wanted.bits};
    expect(features_.has(Feature::RingPacked) == packed, "packed queues are not offered");
    start(0);
  }

  bool can_reset_queues() const { return features_.has(Feature::RingReset); }

  void reset_device(uint64_t round) {
    load(round);
    device_.reset();
    for (uint16_t i = 0; i < lanes_; ++i) {
      lane_[i].retire(round * kMaxLanes + i);
    }
    start(round);
  }

  // The same with one queue; the others must finish undisturbed.
  void reset_queue(uint64_t round) {
    load(round);
    const auto queue = static_cast<uint16_t>(round / 2 % lanes_);
    device_.reset_queue(queue);
    lane_[queue].retire(round * kMaxLanes + queue);
    enable(queue, round);
    for (uint16_t i = 0; i < lanes_; ++i) {
      lane_[i].set().wait_until_left(0);
    }
  }

  // A round without a reset, and a last look at every set.
  void finish(uint64_t round) {
    load(round);
    for (uint16_t i = 0; i < lanes_; ++i) {
      lane_[i].set().wait_until_left(0);
      for (RequestSet& set : lane_[i].sets) {
        set.check_poison();
      }
    }
  }

 private:
  void start(uint64_t round) {
    device_.negotiate(features_);
    for (uint16_t i = 0; i < lanes_; ++i) {
      enable(i, round);
    }
    device_.driver_ok();
  }

  // Indirect tables take turns with chains in the ring.
  void enable(uint16_t queue, uint64_t round) {
    const bool indirect = features_.has(Feature::IndirectDescriptors) && round % 4 < 2;
    RequestSet& set = lane_[queue].set();
    set.prepare({.event_idx = features_.has(Feature::EventIndex),
                 .indirect_entries = indirect ? uint16_t{4} : uint16_t{0},
                 .packed = features_.has(Feature::RingPacked)});
    device_.enable_queue(queue, set.ring(), kNoVector);
  }

  // Keeps every queue busy and returns when a part of the requests, which varies, is done.
  void load(uint64_t round) {
    for (uint16_t i = 0; i < lanes_; ++i) {
      if (lane_[i].set().fill(round + i)) {
        device_.notify(i);
      }
    }
    const size_t done = round * 5 % kRequests;
    lane_[round % lanes_].set().wait_until_left(kRequests - done);
  }

  VirtioPci device_;
  uint16_t lanes_;
  Features features_;
  Lane lane_[kMaxLanes];
};

void write_disk_image(const pci::Function& function) {
  BlkDriver blk(function);
  blk.start({.queue_size = 16});
  for (size_t i = 0; i < kChunks; ++i) {
    fill_pattern(disk_image[i], i);
    expect(blk.write(i * kChunkSectors, disk_image[i]) == BlkStatus::Ok, "cannot write the disk");
  }
}

}  // namespace

void guest_main() {
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType),
                static_cast<uint32_t>(option_number("index", 0)));
  expect(function.has_value(), "no such virtio-blk device");
  const uint64_t resets = option_number("n", 1000);
  const auto lanes = static_cast<uint16_t>(option_number("queues", 1));
  expect(lanes >= 1 && lanes <= kMaxLanes, "queues={}", lanes);

  write_disk_image(*function);
  ResetTest test(*function, lanes, option_number("packed", 0) != 0);
  const bool reset_queues = test.can_reset_queues() && option_text("kind", "both") == "both";
  uint64_t queue_resets = 0;
  for (uint64_t round = 0; round < resets; ++round) {
    if (round % 2 == 1 && reset_queues) {
      test.reset_queue(round);
      ++queue_resets;
    } else {
      test.reset_device(round);
    }
  }
  test.finish(resets);
  print("queue reset: {}\n", test.can_reset_queues() ? "offered" : "not offered");
  print("device resets: {}, queue resets: {}\n", resets - queue_resets, queue_resets);
  print("no late writes\n");
  if (option_number("verbose", 0) != 0) {
    print("requests completed: {}, cut off: {}\n", completed, cut_off);
  }
}

}  // namespace guest
