// Tests of clauses of virtio 1.3 that a disk shows best: framing, what a device may write, the
// features and configuration of 5.2.5, requests that are judged as a whole.
#include <linux/virtio_blk.h>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint8_t kUnsupported = VIRTIO_BLK_S_UNSUPP;
constexpr uint64_t kWriteback = offsetof(BlkConfigLayout, writeback);

std::vector<std::byte> bytes_at(const BlkMachine& machine, GuestAddr at, size_t length) {
  std::vector<std::byte> bytes(length);
  REQUIRE(machine.memory.read(at, bytes));
  return bytes;
}

// Framing (2.7.4) -----------------------------------------------------------------------------

/// A read of sector 1 as one run of guest memory: header, 512 bytes of data, status.
struct OneRun {
  explicit OneRun(BlkMachine& machine) : at(machine.heap.take_filled(529, std::byte{0xee})) {
    BlkRequestHeader header;
    header.type = VIRTIO_BLK_T_IN;
    header.sector = 1;
    REQUIRE(machine.memory.write_value(at, header));
  }
  Segment part(uint64_t from, uint64_t to) const {
    return {at.plus(from).value(), static_cast<uint32_t>(to - from), from >= 16};
  }
  GuestAddr at;
};

TEST_CASE("header, data and status may be cut into descriptors anywhere") {
  const auto cuts =
      GENERATE(std::vector<uint64_t>{0, 16, 529}, std::vector<uint64_t>{0, 1, 15, 16, 17, 528, 529},
               std::vector<uint64_t>{0, 4, 8, 12, 16, 272, 529},
               std::vector<uint64_t>{0, 7, 16, 100, 527, 529});
  const auto indirect = GENERATE(Features(), Features(Feature::IndirectDesc));
  BlkMachine machine;
  machine.packed = GENERATE(false, true);
  machine.disk().bytes = pattern(1 << 20, 4);
  machine.start(indirect);
  const OneRun run(machine);
  std::vector<Segment> chain;
  for (size_t i = 1; i < cuts.size(); ++i) chain.push_back(run.part(cuts[i - 1], cuts[i]));
  REQUIRE(machine.queues[0]->add(chain));
  machine.kick();
  machine.loop.run_until_idle();
  CHECK(machine.queues[0]->take_used()->length == 513);
  CHECK(bytes_at(machine, run.at.plus(16).value(), 512) == machine.on_disk(512, 512));
  CHECK(bytes_at(machine, run.at.plus(528).value(), 1).front() == std::byte{kOk});
}

// What a device may write (2.7.5.1) -----------------------------------------------------------

TEST_CASE("a device writes neither to what it reads nor to the driver's rings") {
  const auto without = GENERATE(Features(), Features(Feature::IndirectDesc));
  BlkMachine machine;
  machine.start(without);
  const BlkRequest& write = machine.submit({.type = VIRTIO_BLK_T_OUT, .data = pattern(4096, 5)});
  const BlkRequest& read = machine.submit({.type = VIRTIO_BLK_T_IN, .parts = {1024, 3072}});
  const BlkRequest& unknown = machine.submit({.type = 77, .data = pattern(64, 6)});
  const QueueConfig& rings = machine.queues[0]->config();
  const auto descriptors = bytes_at(machine, rings.descriptors, 16 * 16);
  const auto avail = bytes_at(machine, rings.driver_area, 4 + 2 * 16 + 2);
  const auto read_header = bytes_at(machine, read.header, 16);
  const auto write_header = bytes_at(machine, write.header, 16);
  machine.loop.run_until_idle();
  CHECK(machine.queues[0]->used_index() == 3);
  CHECK(bytes_at(machine, rings.descriptors, 16 * 16) == descriptors);
  CHECK(bytes_at(machine, rings.driver_area, 4 + 2 * 16 + 2) == avail);
  CHECK(bytes_at(machine, read.header, 16) == read_header);
  CHECK(bytes_at(machine, write.header, 16) == write_header);
  CHECK(machine.data_of(write) == pattern(4096, 5));
  CHECK(machine.data_of(unknown) == pattern(64, 6));
}

TEST_CASE(
    "with packed queues a device writes neither to what it reads nor to what it was not given") {
  const auto without = GENERATE(Features(), Features(Feature::IndirectDesc));
  BlkMachine machine;
  machine.packed = true;
  machine.start(without);
  const BlkRequest& write = machine.submit({.type = VIRTIO_BLK_T_OUT, .data = pattern(4096, 5)});
  const BlkRequest& read = machine.submit({.type = VIRTIO_BLK_T_IN, .parts = {1024, 3072}});
  const QueueConfig& rings = machine.queues[0]->config();
  const auto free = machine.queues[0]->free_descriptors();
  const GuestAddr behind = rings.descriptors.plus(16 * (16U - free)).value();
  const auto not_given = bytes_at(machine, behind, size_t{16} * free);
  const auto events = bytes_at(machine, rings.driver_area, 4);
  const auto read_header = bytes_at(machine, read.header, 16);
  const auto write_header = bytes_at(machine, write.header, 16);
  machine.loop.run_until_idle();
  CHECK(machine.queues[0]->used_index() == 2);
  CHECK(bytes_at(machine, behind, size_t{16} * free) == not_given);
  CHECK(bytes_at(machine, rings.driver_area, 4) == events);
  CHECK(bytes_at(machine, read.header, 16) == read_header);
  CHECK(bytes_at(machine, write.header, 16) == write_header);
  CHECK(machine.data_of(write) == pattern(4096, 5));
}

// Features and configuration (5.2.5.2, 2.2.2) -------------------------------------------------

TEST_CASE("a disk offers what it does, and nothing else") {
  // SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES; INDIRECT_DESC,
  // EVENT_IDX, VERSION_1, RING_PACKED, RING_RESET.
  CHECK(BlkMachine().driver.offered().bits() == 0x105'3000'6e44);
  const BlkMachine bare({.settings = {.name = "disk", .readonly = true, .discard = false}});
  CHECK(bare.driver.offered().bits() == 0x105'3000'0e64);
  const BlkMachine queues({.settings = {.name = "disk", .queues = 2, .discard = false}});
  CHECK(queues.driver.offered().bits() == 0x105'3000'1e44);
}

TEST_CASE("a disk accepts its features without any one of them") {
  const auto bit = GENERATE(range(0, 64));
  BlkMachine machine({.settings = {.name = "disk", .queues = 2}});
  const Features one = Features(uint64_t{1} << bit).without(Feature::Version1);
  CHECK(machine.driver.negotiate(machine.driver.offered().without(one)));
}

TEST_CASE("fields of features that are offered are read before any is accepted") {
  BlkMachine machine;
  const auto field = [&](size_t offset, size_t width) {
    return machine.driver.device_config(offset, width);
  };
  CHECK(machine.driver.status() == 0);
  CHECK(field(offsetof(BlkConfigLayout, seg_max), 4) == 254);
  CHECK(field(offsetof(BlkConfigLayout, max_discard_sectors), 4) == 1 << 22);
  machine.driver.add_status(status::kAcknowledge);
  machine.driver.add_status(status::kDriver);
  CHECK(field(offsetof(BlkConfigLayout, max_write_zeroes_sectors), 4) == 1 << 22);
  CHECK(field(offsetof(BlkConfigLayout, blk_size), 4) == 512);
}

TEST_CASE("the padding of a disk's configuration is zero") {
  BlkMachine machine;
  CHECK(machine.driver.device_config(offsetof(BlkConfigLayout, unused0), 1) == 0);
  CHECK(machine.driver.device_config(offsetof(BlkConfigLayout, unused1), 2) == 0);
  CHECK(machine.driver.device_config(offsetof(BlkConfigLayout, unused1) + 2, 1) == 0);
}

TEST_CASE("a disk that cannot free blocks says that zeroing frees none") {
  BlkMachine machine({.settings = {.name = "disk", .discard = false}});
  constexpr size_t kField = offsetof(BlkConfigLayout, write_zeroes_may_unmap);
  CHECK(machine.driver.device_config(kField, 1) == 0);
}

TEST_CASE("writeback reads 0 from FEATURES_OK on for a driver that cannot flush") {
  BlkMachine machine;
  const Features offered = machine.driver.offered();
  CHECK(machine.driver.negotiate(offered.without(BlkFeature::Flush)));
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
  machine.driver.driver_ok();
  machine.run();
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
  CHECK(machine.driver.read_isr() == 0);  // it is no change of which to tell
}

TEST_CASE("a cache mode for who cannot flush does not stay for who can") {
  BlkMachine machine;
  machine.driver.negotiate(machine.driver.offered().without(BlkFeature::Flush));
  machine.driver.start_reset();
  machine.start();
  machine.run();
  CHECK(machine.driver.device_config(kWriteback, 1) == 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK_FALSE(machine.disk().stable == machine.disk().bytes);
}

// Requests (5.2.6.2) --------------------------------------------------------------------------

std::vector<std::byte> ranges(std::initializer_list<BlkRangeLayout> list) {
  const auto bytes = std::as_bytes(std::span(list.begin(), list.size()));
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("an unknown flag in any range makes the whole request unsupported, and nothing is done") {
  const auto type = GENERATE(as<uint32_t>{}, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES);
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = type, .data = ranges({{0, 8, 0}, {8, 8, 2}})}) == kUnsupported);
  CHECK(machine.run({.type = type, .data = ranges({{1 << 20, 8, 0}, {8, 8, 2}})}) == kUnsupported);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 0);
}

TEST_CASE("a range beyond the disk's end fails the whole request, and nothing is done") {
  const auto type = GENERATE(as<uint32_t>{}, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES);
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = type, .data = ranges({{0, 8, 0}, {2041, 8, 0}})}) == kIoError);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 0);
}

TEST_CASE("requests of features that are not offered are unsupported") {
  // GET_LIFETIME, SECURE_ERASE, and those of zoned disks: APPEND, REPORT, OPEN, CLOSE, FINISH,
  // RESET, RESET_ALL.
  const auto type = GENERATE(as<uint32_t>{}, 10, 14, 15, 16, 18, 20, 22, 24, 26);
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = type, .data = std::vector<std::byte>(16)}) == kUnsupported);
  CHECK(machine.requests.back().used == 1);
  CHECK(machine.loop.submitted(SimOp::Write) + machine.loop.submitted(SimOp::Allocate) == 0);
}

}  // namespace
}  // namespace ringlet
