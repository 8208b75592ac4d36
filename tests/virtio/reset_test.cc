// Reset means reset (virtio 1.3, 2.4.1 and 2.6.1): once a driver has seen that a reset is done,
// what it gave to the device is its own again. From seeds, under full load, with a host that
// completes operations in any order, late, in part, and although they were cancelled.
#include <linux/virtio_blk.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <random>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"

namespace ringlet {
namespace {

constexpr uint16_t kQueues = 3;
constexpr uint64_t kArenaBytes = 2 << 20;  // of guest memory, for each queue
constexpr uint64_t kAreaSectors = 64;      // of the disk, for each queue
constexpr std::byte kPoison{0x5a};
// The disk twice, a doorbell for each queue, an interrupt for each queue: no leak would fit in.
constexpr size_t kFiles = 2 + 2 * kQueues;

size_t open_descriptors() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                                           std::filesystem::directory_iterator()));
}

BlkMachineOptions options_from(uint64_t seed) {
  return {.settings = {.name = "disk", .queues = kQueues},
          .loop = {.seed = seed, .adversarial = true, .short_percent = 20, .max_files = kFiles},
          .disk_bytes = kQueues * kAreaSectors * kSector};
}

/// A driver that keeps a disk busy and resets it without a warning. Each queue has its own part of
/// guest memory and of the disk, so that it can be told whose request touched what.
class RuthlessDriver {
 public:
  explicit RuthlessDriver(uint64_t seed) : machine(options_from(seed)), random_(seed) {}

  /// From status 0 to DRIVER_OK.
  void start() {
    PciDriver& driver = machine.driver;
    machine.negotiated =
        driver.offered().without(random_() % 2 == 0 ? Features() : Features(Feature::IndirectDesc));
    driver.enable_msix();
    CHECK(driver.negotiate(machine.negotiated));
    CHECK(driver.set_config_vector(0));
    machine.queues.resize(kQueues);
    for (uint16_t queue = 0; queue < kQueues; ++queue) enable(queue);
    driver.driver_ok();
  }
  /// Gives a queue that was reset its rings, as at the start.
  void enable(uint16_t queue) {
    arenas_[queue] = 0;
    in_arena(queue, [&] {
      machine.queues[queue] = make_driver_queue(machine.heap, 16, machine.negotiated);
    });
    CHECK(machine.driver.enable_queue(QueueIndex(queue), machine.queues[queue]->config(),
                                      static_cast<uint16_t>(queue + 1)));
  }

  /// Offers requests of all kinds to all queues but `not_to`, and lets the loop turn in between.
  void flood(uint16_t not_to = kQueues) {
    const uint64_t turns = 1 + random_() % 30;
    for (uint64_t turn = 0; turn < turns; ++turn) {
      for (uint16_t queue = 0; queue < kQueues; ++queue) {
        if (queue != not_to) submit_some(queue);
      }
      machine.loop.step();
      machine.collect();
    }
  }

  /// Until the driver sees status 0. Reclaims all memory at that very moment.
  void reset_device() {
    // The reset of a queue may be under way.
    if (random_() % 4 == 0) machine.driver.start_queue_reset(QueueIndex(any_queue()));
    machine.driver.start_reset();
    watch([this] {
      if (machine.driver.status() != 0) return false;
      for (uint16_t queue = 0; queue < kQueues; ++queue) reclaim(queue);
      return true;
    });
  }
  /// The same for one queue.
  void reset_queue(uint16_t queue) {
    machine.driver.start_queue_reset(QueueIndex(queue));
    watch([this, queue] {
      if (!machine.driver.queue_reset_done(QueueIndex(queue))) return false;
      reclaim(queue);
      return true;
    });
  }

  /// The memory and the part of the disk that were reclaimed are as they were then, and no
  /// interrupt has come.
  bool untouched(uint16_t queue) {
    std::vector<std::byte> now(arenas_[queue]);
    const bool read = machine.memory.read(arena_at(queue), now);
    return read && std::ranges::all_of(now, [](std::byte byte) { return byte == kPoison; }) &&
           machine.on_disk(queue * kAreaBytes, kAreaBytes) == disk_then_[queue] &&
           machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1)) == 0;
  }
  bool untouched() {
    return untouched(0) && untouched(1) && untouched(2) && machine.driver.take_interrupts(0) == 0;
  }

  /// A write through `queue` reads back, and both are told of by interrupts.
  bool works(uint16_t queue) {
    machine.run();
    machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1));
    const auto data = pattern(4096, static_cast<uint8_t>(random_()));
    in_arena(queue, [&] {
      machine.submit(
          {.type = VIRTIO_BLK_T_OUT, .sector = queue * kAreaSectors, .data = data, .queue = queue});
    });
    machine.run();
    const unsigned told = machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1));
    in_arena(queue, [&] {
      machine.submit({.type = VIRTIO_BLK_T_IN,
                      .sector = queue * kAreaSectors,
                      .parts = {4096},
                      .queue = queue});
    });
    machine.run();
    const BlkRequest& read = machine.requests.back();
    return read.used == 4097 && machine.status_of(read) == VIRTIO_BLK_S_OK &&
           machine.data_of(read) == data && told == 1 &&
           machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1)) == 1;
  }

  /// All that was offered and not reset has come back, with a good status.
  bool all_done() const {
    return std::ranges::all_of(machine.requests, [&](const BlkRequest& request) {
      return request.used && machine.status_of(request) == VIRTIO_BLK_S_OK;
    });
  }
  size_t file_operations() const {
    return machine.loop.in_flight(SimOp::Read) + machine.loop.in_flight(SimOp::Write) +
           machine.loop.in_flight(SimOp::Flush) + machine.loop.in_flight(SimOp::Allocate);
  }
  /// Lets the device do whatever it may still have in mind.
  void provoke(uint16_t queue) {
    machine.driver.kick(QueueIndex(queue));
    machine.loop.run_until_idle();
  }
  uint16_t any_queue() { return static_cast<uint16_t>(random_() % kQueues); }

  BlkMachine machine;
  size_t taken_back = 0;  ///< requests that were out when a reset was done

 private:
  static constexpr uint64_t kAreaBytes = kAreaSectors * kSector;

  GuestAddr arena_at(uint16_t queue) const {
    return GuestAddr(PciMachine::kHeapStart + queue * kArenaBytes);
  }
  /// Asks again and again until `done` is true: also in the middle of the loop's turns, as a vCPU
  /// that runs beside it does.
  void watch(const std::function<bool()>& done) {
    struct Glance final : Task {
      Glance(IoLoop& owner, const std::function<bool()>& what) : loop(owner), done(what) {}
      void run() noexcept override {
        seen = done();
        if (!seen) loop.post(*this);
      }
      IoLoop& loop;
      const std::function<bool()>& done;
      bool seen = false;
    } glance(machine.loop, done);
    machine.loop.post(glance);
    for (int turn = 0; !glance.seen; ++turn) {
      REQUIRE(turn < 1000);
      machine.loop.step();
    }
  }
  template <typename Work>
  void in_arena(uint16_t queue, Work work) {
    machine.heap.go_on_behind(queue * kArenaBytes + arenas_[queue]);
    work();
    arenas_[queue] = machine.heap.used() - queue * kArenaBytes;
    REQUIRE(arenas_[queue] < kArenaBytes);
  }

  void submit_some(uint16_t queue) {
    const uint64_t first = queue * kAreaSectors;
    const uint64_t sector = first + random_() % (kAreaSectors - 8);
    for (uint64_t i = random_() % 4; i > 0; --i) {
      if (machine.queues[queue]->free_descriptors() < 4) return;
      BlkShape shape{.sector = sector, .queue = queue};
      BlkRangeLayout range{.sector = sector, .sectors = 8, .flags = 0};
      const auto range_bytes = std::as_bytes(std::span(&range, 1));
      switch (random_() % 8) {
        case 0: shape.type = VIRTIO_BLK_T_FLUSH; break;
        case 1: shape.type = VIRTIO_BLK_T_GET_ID, shape.parts = {20}; break;
        case 2:
          shape.type = random_() % 2 == 0 ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD;
          shape.data.assign(range_bytes.begin(), range_bytes.end());
          break;
        case 3:
        case 4:
          shape.type = VIRTIO_BLK_T_OUT;
          shape.data = pattern(4096, static_cast<uint8_t>(random_()));
          break;
        default: shape.type = VIRTIO_BLK_T_IN, shape.parts = {512, 3584}; break;
      }
      in_arena(queue, [&] { machine.submit(shape); });
    }
  }

  /// Whatever the device was given belongs to the driver again, which at once uses it for others.
  void reclaim(uint16_t queue) {
    taken_back += machine.queues[queue]->out();
    std::erase_if(machine.requests, [&](const BlkRequest& r) { return r.queue == queue; });
    machine.heap.go_on_behind(kQueues * kArenaBytes);
    machine.queues[queue] = make_driver_queue(machine.heap, 2, Features());
    const std::vector<std::byte> poison(arenas_[queue], kPoison);
    const bool written = machine.memory.write(arena_at(queue), poison);
    CHECK(written);
    disk_then_[queue] = machine.on_disk(queue * kAreaBytes, kAreaBytes);
    machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1));
    machine.driver.take_interrupts(0);
  }

  std::mt19937_64 random_;
  std::array<uint64_t, kQueues> arenas_{};  // how much of each is used
  std::array<std::vector<std::byte>, kQueues> disk_then_{};
};

TEST_CASE("a device that was reset touches nothing any more, and works again: 1000 times") {
  const auto seed = GENERATE(range(0, 20));
  RuthlessDriver driver(static_cast<uint64_t>(seed));
  driver.start();
  REQUIRE((driver.works(0) && driver.works(1) && driver.works(2)));
  const size_t descriptors = open_descriptors();
  for (int reset = 0; reset < 50; ++reset) {
    driver.flood();
    driver.reset_device();
    REQUIRE(driver.file_operations() == 0);
    driver.provoke(driver.any_queue());
    REQUIRE(driver.untouched());
    driver.start();
    REQUIRE(driver.works(driver.any_queue()));
  }
  CHECK(driver.taken_back > 500);
  CHECK(driver.machine.driver.status() == 15);
  CHECK(driver.machine.doorbells.present.size() == 3);
  CHECK(driver.machine.interrupts.msi.size() == 4);
  CHECK(driver.machine.loop.in_flight(SimOp::Poll) == 3);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a queue that was reset touches nothing any more while others work on: 1000 times") {
  const auto seed = GENERATE(range(100, 120));
  RuthlessDriver driver(static_cast<uint64_t>(seed));
  driver.start();
  REQUIRE((driver.works(0) && driver.works(1) && driver.works(2)));
  const size_t descriptors = open_descriptors();
  for (int reset = 0; reset < 50; ++reset) {
    const auto queue = static_cast<uint16_t>(reset % kQueues);
    driver.flood();
    driver.reset_queue(queue);
    driver.flood(queue);
    driver.provoke(queue);
    REQUIRE(driver.untouched(queue));
    driver.enable(queue);
    REQUIRE(driver.works(queue));
    REQUIRE(driver.all_done());
  }
  CHECK(driver.taken_back > 100);
  CHECK(driver.machine.driver.status() == 15);
  CHECK(driver.machine.doorbells.present.size() == 3);
  CHECK(driver.machine.interrupts.msi.size() == 4);
  CHECK(driver.machine.loop.in_flight(SimOp::Poll) == 3);
  CHECK(driver.file_operations() == 0);
  CHECK(open_descriptors() == descriptors);
}

}  // namespace
}  // namespace ringlet
