// Tests of virtio-blk's neighbours: requests joined into one operation of the host.
#include <linux/virtio_blk.h>

#include <algorithm>
#include <cerrno>

#include <catch2/catch.hpp>

#include "tests/fake/careful_driver.h"
#include "virtio/queue.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint32_t kIn = VIRTIO_BLK_T_IN;
constexpr uint32_t kOut = VIRTIO_BLK_T_OUT;

/// An operation on the disk as the host saw it.
struct Seen {
  SimOp op;
  uint64_t offset;
  uint64_t length;
  bool operator==(const Seen&) const = default;
};

/// A disk that is up, whose driver makes several requests available at once.
struct MergeMachine : BlkMachine {
  explicit MergeMachine(const BlkMachineOptions& options = {}, uint16_t queue_size = 64)
      : BlkMachine(options) {
    start({}, queue_size);
    loop.run_until_idle();
    loop.clear_history();
  }
  /// Makes all of them available as one batch.
  void offer(const std::vector<BlkShape>& shapes) {
    for (const BlkShape& shape : shapes) add(shape);
    kick();
  }
  std::vector<Seen> seen() {
    std::vector<Seen> operations;
    for (const SimRecord& record : loop.history()) {
      if (record.op == SimOp::Timeout) continue;
      operations.push_back({record.op, record.offset, record.length});
    }
    return operations;
  }
  std::vector<uint8_t> statuses() const {
    std::vector<uint8_t> all;
    for (const BlkRequest& request : requests) all.push_back(status_of(request));
    return all;
  }
  uint64_t merged() const { return blk.counters().merged; }
};

BlkShape read(uint64_t sector, uint32_t bytes = 1024) {
  return {.type = kIn, .sector = sector, .parts = {bytes}};
}
BlkShape write(uint64_t sector, uint8_t seed, size_t bytes = 1024) {
  return {.type = kOut, .sector = sector, .data = pattern(bytes, seed)};
}

// What is joined ------------------------------------------------------------------------------

TEST_CASE("reads of a batch that follow each other on the disk become one, each with its own end") {
  MergeMachine machine;
  machine.disk().bytes = pattern(1 << 20, 1);
  machine.offer({read(8, 512), {.type = kIn, .sector = 9, .parts = {100, 924}}, read(11, 2048)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 4096, 3584}});
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kOk, kOk});
  CHECK(machine.data_of(machine.requests[0]) == machine.on_disk(4096, 512));
  CHECK(machine.data_of(machine.requests[1]) == machine.on_disk(4608, 1024));
  CHECK(machine.data_of(machine.requests[2]) == machine.on_disk(5632, 2048));
  CHECK(machine.requests[1].used == 1025);
  CHECK(machine.blk.counters().reads == 3);
  CHECK(machine.blk.counters().read_bytes == 3584);
  CHECK(machine.merged() == 2);
}

TEST_CASE("writes that follow each other become one, and stable ones for a write-through cache") {
  const bool writeback = GENERATE(true, false);
  MergeMachine machine({.settings = {.name = "disk", .writeback = writeback}});
  machine.offer({write(2, 1), write(4, 2)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Write, 1024, 2048}});
  CHECK(machine.loop.history().at(0).sync == !writeback);
  CHECK((machine.disk().stable == machine.disk().bytes) == !writeback);
  CHECK(machine.on_disk(1024, 1024) == pattern(1024, 1));
  CHECK(machine.on_disk(2048, 1024) == pattern(1024, 2));
  CHECK(machine.requests[1].used == 1);
  CHECK(machine.blk.counters().written_bytes == 2048);
}

TEST_CASE("what leaves a gap, overlaps, goes backwards or the other way is not joined") {
  MergeMachine machine;
  machine.offer({read(0), read(3), read(4), read(2), write(4, 1), read(6)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 1024},
                                            {SimOp::Read, 1536, 1024},
                                            {SimOp::Read, 2048, 1024},
                                            {SimOp::Read, 1024, 1024},
                                            {SimOp::Write, 2048, 1024},
                                            {SimOp::Read, 3072, 1024}});
  CHECK(machine.merged() == 0);
}

TEST_CASE("neighbours on both sides of O_DIRECT's rules are not joined") {
  MergeMachine machine({.direct_alignment = 512});
  machine.offer({read(0), {.type = kIn, .sector = 2, .parts = {100, 924}}, read(4), read(6)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 1024},
                                            {SimOp::Read, 1024, 1024},
                                            {SimOp::Read, 2048, 2048}});
  CHECK(machine.loop.history().at(1).file == machine.buffered_file);
  CHECK(machine.loop.history().at(2).file == machine.disk_file);
}

TEST_CASE("neighbours are joined up to 256 KiB and 128 segments") {
  constexpr uint32_t kKiB = 1024;
  MergeMachine machine({}, 256);
  machine.offer({read(0, 100 * kKiB), read(200, 100 * kKiB), read(400, 100 * kKiB),
                 read(600, 156 * kKiB), read(912, 300 * kKiB), read(1512, kKiB)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 200 * kKiB},
                                            {SimOp::Read, 200 * kKiB, 256 * kKiB},
                                            {SimOp::Read, 456 * kKiB, 300 * kKiB},
                                            {SimOp::Read, 756 * kKiB, kKiB}});
  machine.loop.clear_history();
  const auto segments = [](uint64_t sector, size_t count) {
    return BlkShape{.type = kIn, .sector = sector, .parts = std::vector<uint32_t>(count, 512)};
  };
  machine.offer({segments(0, 90), segments(90, 38), segments(128, 1)});
  machine.run();
  CHECK(machine.seen() ==
        std::vector<Seen>{{SimOp::Read, 0, 128 * 512}, {SimOp::Read, 128 * 512, 512}});
}

TEST_CASE("requests that are refused do not come between neighbours") {
  MergeMachine machine;
  machine.offer({read(0), read(1 << 20), {.type = kIn, .sector = 0}, read(2)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 2048}});
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kIoError, kOk, kOk});
}

TEST_CASE("a flush between neighbours begins behind the first and before the second") {
  MergeMachine machine;
  machine.offer({write(0, 1), {.type = VIRTIO_BLK_T_FLUSH}, write(2, 2)});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Write, 0, 1024},
                                            {SimOp::Flush, 0, 0},
                                            {SimOp::Write, 1024, 1024}});
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kOk, kOk});
}

TEST_CASE("neighbours of different batches or queues are not waited for") {
  MergeMachine machine({.settings = {.name = "disk", .queues = 2}});
  machine.loop.hold(SimOp::Read);
  machine.submit(read(0));
  machine.loop.run_until_idle();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 1024}});
  BlkShape other = read(4);
  other.queue = 1;
  machine.submit(read(2));
  machine.submit(other);
  machine.loop.run_until_idle();
  CHECK(machine.seen().size() == 3);
  machine.loop.release(SimOp::Read);
  machine.run();
}

// What goes wrong -----------------------------------------------------------------------------

TEST_CASE("neighbours whose operation fails are done again alone, and only who fails then fails") {
  const auto error = GENERATE(-EIO, -EINTR, -EAGAIN, -ENOSPC);
  const auto type = GENERATE(as<uint32_t>{}, kIn, kOut);
  const SimOp op = type == kIn ? SimOp::Read : SimOp::Write;
  MergeMachine machine;
  machine.loop.hold(op);
  machine.offer({{.type = type, .sector = 0, .data = pattern(1024, 1)},
                 {.type = type, .sector = 2, .data = pattern(1024, 2)},
                 {.type = type, .sector = 4, .data = pattern(1024, 3)}});
  machine.loop.fail_next(op, error);
  machine.loop.fail_next(op, -EINTR);
  machine.loop.fail_next(op, -EIO);
  machine.loop.release(op);
  machine.run();
  CHECK(machine.seen() ==
        std::vector<Seen>{
            {op, 0, 3072}, {op, 0, 1024}, {op, 1024, 1024}, {op, 2048, 1024}, {op, 0, 1024}});
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kIoError, kOk});
  CHECK(machine.blk.counters().host_errors == 1);
  CHECK(machine.blk.counters().reads + machine.blk.counters().writes == 3);
}

TEST_CASE("of a joined transfer that comes out short the rest is done again") {
  const auto type = GENERATE(as<uint32_t>{}, kIn, kOut);
  const SimOp op = type == kIn ? SimOp::Read : SimOp::Write;
  MergeMachine machine;
  machine.disk().bytes = pattern(1 << 20, 9);
  machine.loop.shorten_next(op, 1500);
  machine.offer({{.type = type, .sector = 0, .data = pattern(1024, 1)},
                 {.type = type, .sector = 2, .data = pattern(1024, 2)},
                 {.type = type, .sector = 4, .data = pattern(1024, 3)}});
  machine.run();
  CHECK(machine.seen() == std::vector<Seen>{{op, 0, 3072}, {op, 1024, 1024}, {op, 2048, 1024}});
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kOk, kOk});
  std::vector<std::byte> all;
  for (const BlkRequest& request : machine.requests) {
    CHECK(request.used == (type == kIn ? 1025 : 1));
    std::ranges::copy(machine.data_of(request), std::back_inserter(all));
  }
  CHECK(machine.on_disk(0, 3072) == all);
}

TEST_CASE("a file that ends within joined reads fails those behind its end") {
  MergeMachine machine;
  machine.disk().bytes.resize(1024 + 100);
  machine.offer({read(0), read(2), read(4)});
  machine.run();
  CHECK(machine.statuses() == std::vector<uint8_t>{kOk, kIoError, kIoError});
  CHECK(machine.requests[0].used == 1025);
  CHECK(machine.requests[1].used == 100);
  CHECK(machine.requests[2].used == 0);
}

TEST_CASE("a malformed chain does not keep the neighbours before it") {
  MergeMachine machine;
  machine.add(read(0));
  machine.add(read(2));
  auto& queue = machine.split_queue();
  queue.put_avail(static_cast<uint16_t>(queue.avail_index() + 2), 999);
  queue.set_avail_index(static_cast<uint16_t>(queue.avail_index() + 3));
  machine.driver.kick(QueueIndex(0));
  machine.loop.run_until_idle();
  CHECK((machine.driver.status() & status::kNeedsReset) != 0);
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Read, 0, 2048}});
  CHECK(machine.queues[0]->used_index() == 2);
}

// Resets and cache modes ----------------------------------------------------------------------

TEST_CASE("a reset waits for a joined operation, which is cancelled and completes nobody") {
  const bool only_queue = GENERATE(true, false);
  const auto seed = GENERATE(range(0, 20));
  const bool adversarial = GENERATE(true, false);
  MergeMachine machine({.loop = {.seed = static_cast<uint64_t>(seed), .adversarial = adversarial}});
  machine.loop.hold(SimOp::Read);
  machine.offer({read(0), read(2), read(4)});
  machine.loop.run_until_idle();
  CHECK(machine.loop.in_flight(SimOp::Read) == 1);
  only_queue ? machine.driver.start_queue_reset(QueueIndex(0)) : machine.driver.start_reset();
  machine.loop.run_until_idle();
  CHECK_FALSE(
      (only_queue ? machine.driver.queue_reset_done(QueueIndex(0)) : machine.driver.status() == 0));
  machine.loop.release(SimOp::Read);
  machine.loop.run_until_idle();
  CHECK(
      (only_queue ? machine.driver.queue_reset_done(QueueIndex(0)) : machine.driver.status() == 0));
  CHECK(machine.queues[0]->used_index() == 0);
  CHECK(machine.statuses() == std::vector<uint8_t>(3, BlkMachine::kNoStatus));
  CHECK(machine.loop.submitted(SimOp::Read) == 1);
}

/// Keeps the end of a batch from the disk, and lets the test say when something else happens.
class Withholder final : public Device {
 public:
  explicit Withholder(Blk& blk) : blk_(blk) {}
  const DeviceTraits& traits() const noexcept override { return blk_.traits(); }
  void attach(DeviceHost& host) noexcept override { blk_.attach(host); }
  void activate(Features features) noexcept override { blk_.activate(features); }
  void handle(Chain chain) noexcept override { blk_.handle(std::move(chain)); }
  void config_written(std::span<const std::byte> config) noexcept override {
    blk_.config_written(config);
  }
  void cancel(QueueIndex queue) noexcept override { blk_.cancel(queue); }
  void reset() noexcept override { blk_.reset(); }

 private:
  Blk& blk_;
};

BlkMachineOptions withholding() {
  return {.wrap = [](Blk& blk) { return std::make_unique<Withholder>(blk); }};
}

TEST_CASE("requests that wait for the end of their batch come home from a reset without any I/O") {
  const bool only_queue = GENERATE(true, false);
  MergeMachine machine(withholding());
  machine.offer({read(0), read(2)});
  machine.loop.run_until_idle();
  only_queue ? machine.driver.start_queue_reset(QueueIndex(0)) : machine.driver.start_reset();
  machine.loop.run_until_idle();
  CHECK(
      (only_queue ? machine.driver.queue_reset_done(QueueIndex(0)) : machine.driver.status() == 0));
  CHECK(machine.seen().empty());
  CHECK(machine.statuses() == std::vector<uint8_t>(2, BlkMachine::kNoStatus));
}

TEST_CASE("a write is stable or not by the cache mode that it came under") {
  MergeMachine machine(withholding());
  constexpr uint64_t kWriteback = offsetof(BlkConfigLayout, writeback);
  machine.driver.set_device_config(kWriteback, 1, 0);
  machine.loop.run_until_idle();
  machine.offer({write(0, 1), write(2, 2)});
  machine.loop.run_until_idle();
  CHECK(machine.seen().empty());
  machine.driver.set_device_config(kWriteback, 1, 1);
  machine.loop.run_until_idle();
  CHECK(machine.seen() == std::vector<Seen>{{SimOp::Write, 0, 2048}});
  CHECK(machine.loop.history().at(0).sync);
  machine.collect();
  CHECK(machine.requests[1].used == 1);
}

TEST_CASE("a disk is quiet only when joined requests have come home") {
  struct Done final : Task {
    void run() noexcept override { done = true; }
    bool done = false;
  } done;
  MergeMachine machine;
  machine.loop.hold(SimOp::Write);
  machine.offer({write(0, 1), write(2, 2)});
  machine.loop.run_until_idle();
  machine.transport.quiesce(done);
  machine.loop.run_until_idle();
  CHECK_FALSE(done.done);
  machine.loop.release(SimOp::Write);
  machine.run();
  CHECK(done.done);
  CHECK(machine.requests[1].used == 1);
}

}  // namespace
}  // namespace ringlet
