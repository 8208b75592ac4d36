// Tests of virtio-blk's requests, driven as a guest would through PCI on the simulated loop.
#include <linux/virtio_blk.h>

#include <cerrno>
#include <cstring>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint8_t kUnsupported = VIRTIO_BLK_S_UNSUPP;

TEST_CASE("a driver negotiates, writes, flushes, reads back and learns the serial number") {
  BlkMachine machine;
  machine.start();
  const auto data = pattern(4096, 3);
  const BlkRequest& write = machine.submit({.type = VIRTIO_BLK_T_OUT, .sector = 8, .data = data});
  machine.run();
  CHECK(machine.status_of(write) == kOk);
  CHECK(write.used == 1);
  CHECK(machine.on_disk(4096, 4096) == data);
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
  const BlkRequest& read =
      machine.submit({.type = VIRTIO_BLK_T_IN, .sector = 8, .parts = {512, 3584}});
  machine.run();
  CHECK(machine.status_of(read) == kOk);
  CHECK(read.used == 4097);
  CHECK(machine.data_of(read) == data);
  const BlkRequest& id = machine.submit({.type = VIRTIO_BLK_T_GET_ID, .parts = {20}});
  machine.run();
  CHECK(id.used == 21);
  const auto serial = machine.data_of(id);
  CHECK(std::memcmp(serial.data(), "ringlet-serial-00001", 20) == 0);
  CHECK(machine.driver.take_interrupts(0) == 0);
  CHECK(machine.driver.status() == 15);
}

// Reads and writes ----------------------------------------------------------------------------

TEST_CASE("data comes in any number and shape of segments, direct and indirect") {
  const auto indirect = GENERATE(Features(), Features(Feature::IndirectDesc));
  const auto parts = GENERATE(
      std::vector<uint32_t>{2048}, std::vector<uint32_t>{1, 2047},
      std::vector<uint32_t>{511, 513, 1000, 24}, std::vector<uint32_t>{0, 2048, 0},
      std::vector<uint32_t>{100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 848});
  BlkMachine machine;
  machine.start(indirect);
  const auto data = pattern(2048, 9);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .sector = 3, .parts = parts, .data = data}) == kOk);
  CHECK(machine.on_disk(1536, 2048) == data);
  const BlkRequest& read = machine.submit({.type = VIRTIO_BLK_T_IN, .sector = 3, .parts = parts});
  machine.run();
  CHECK(machine.data_of(read) == data);
  CHECK(read.used == 2049);
}

TEST_CASE("a transfer may be as long as the segment limit says") {
  BlkMachine machine({.settings = {.name = "disk", .queue_size = 64}});
  machine.start({}, 64);
  CHECK(machine.driver.device_config(offsetof(BlkConfigLayout, seg_max), 4) == 62);
  const std::vector<uint32_t> parts(62, 512);
  const auto data = pattern(62 * 512, 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .parts = parts, .data = data}) == kOk);
  CHECK(machine.on_disk(0, 62 * 512) == data);
}

TEST_CASE("a transfer of nothing succeeds") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .sector = 1}) == kOk);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .sector = 1}) == kOk);
  CHECK(machine.requests.back().used == 1);
  CHECK(machine.loop.submitted(SimOp::Read) == 0);
}

TEST_CASE("a transfer that is no multiple of 512 bytes fails and touches nothing") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(513, 1)}) == kIoError);
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {511}}) == kIoError);
  CHECK(machine.requests.back().used == 0);
  CHECK(machine.loop.submitted(SimOp::Write) == 0);
  CHECK(machine.loop.submitted(SimOp::Read) == 0);
}

TEST_CASE("a transfer beyond the disk's end fails and touches nothing") {
  BlkMachine machine({.disk_bytes = 8192});
  machine.start();
  const auto type = GENERATE(as<uint32_t>{}, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT);
  CHECK(machine.run({.type = type, .sector = 15, .parts = {512}}) == kOk);
  CHECK(machine.run({.type = type, .sector = 15, .parts = {1024}}) == kIoError);
  CHECK(machine.run({.type = type, .sector = 16, .parts = {512}}) == kIoError);
  CHECK(machine.run({.type = type, .sector = UINT64_MAX, .parts = {512}}) == kIoError);
  CHECK(machine.run({.type = type, .sector = UINT64_MAX / 512 + 1, .parts = {512}}) == kIoError);
  CHECK(machine.loop.submitted(SimOp::Read) + machine.loop.submitted(SimOp::Write) == 1);
  CHECK(machine.disk().bytes.size() == 8192);
}

TEST_CASE("used lengths count what was written in front of the status, and the status") {
  BlkMachine machine;
  machine.start();
  const BlkRequest& refused =
      machine.submit({.type = VIRTIO_BLK_T_IN, .sector = 1 << 20, .parts = {512}});
  machine.run();
  CHECK(refused.used == 0);
  machine.loop.shorten_next(SimOp::Read, 100);
  machine.loop.fail_next(SimOp::Read, -EIO);
  const BlkRequest& failed = machine.submit({.type = VIRTIO_BLK_T_IN, .parts = {512}});
  machine.run();
  CHECK(machine.status_of(failed) == kIoError);
  CHECK(failed.used == 0);
  const BlkRequest& short_id = machine.submit({.type = VIRTIO_BLK_T_GET_ID, .parts = {8}});
  machine.run();
  CHECK(short_id.used == 9);
  const BlkRequest& long_id = machine.submit({.type = VIRTIO_BLK_T_GET_ID, .parts = {64}});
  machine.run();
  CHECK(long_id.used == 20);
  CHECK(machine.status_of(long_id) == kOk);
}

TEST_CASE("a short serial number is padded with zeroes") {
  BlkMachine machine({.settings = {.name = "disk", .serial = "abc"}});
  machine.start();
  const BlkRequest& id = machine.submit({.type = VIRTIO_BLK_T_GET_ID, .parts = {20}});
  machine.run();
  const auto serial = machine.data_of(id);
  CHECK(std::memcmp(serial.data(), "abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0);
}

TEST_CASE("a request of unknown type is unsupported, with its status at the very end") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = 77}) == kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_SECURE_ERASE, .parts = {16}}) == kUnsupported);
  CHECK(machine.driver.status() == 15);
}

TEST_CASE("a chain without room for a status ends the device") {
  BlkMachine machine;
  machine.start();
  const std::array<Segment, 1> chain{{{machine.heap.take(16), 16, false}}};
  machine.queues[0]->add(chain);
  machine.kick();
  machine.loop.run_until_idle();
  CHECK(machine.queues[0]->take_used()->length == 0);
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
  CHECK(machine.driver.take_interrupts(0) == 1);
  CHECK(machine.blk.counters().guest_errors == 1);
}

TEST_CASE("a chain with half a header ends the device") {
  BlkMachine machine;
  machine.start();
  const std::array<Segment, 2> chain{
      {{machine.heap.take(16), 15, false}, {machine.heap.take(16), 1, true}}};
  machine.queues[0]->add(chain);
  machine.kick();
  machine.loop.run_until_idle();
  CHECK(machine.queues[0]->take_used()->length == 0);
  CHECK(machine.driver.status() == (15 | status::kNeedsReset));
}

TEST_CASE("a read-only disk is read, but never written, discarded or zeroed") {
  BlkMachine machine({.settings = {.name = "disk", .readonly = true}});
  CHECK(machine.driver.offered().has(BlkFeature::ReadOnly));
  CHECK_FALSE(machine.driver.offered().has(BlkFeature::Discard));
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512}}) == kOk);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kIoError);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT}) == kIoError);
  const auto range = std::vector<std::byte>(16);
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = range}) == kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = range}) == kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kOk);
  CHECK(machine.loop.submitted(SimOp::Write) == 0);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 0);
}

TEST_CASE("each of several queues serves requests and has its own interrupt") {
  BlkMachine machine({.settings = {.name = "disk", .queues = 4}});
  machine.start();
  CHECK(machine.driver.queue_count() == 4);
  CHECK(machine.driver.device_config(offsetof(BlkConfigLayout, num_queues), 2) == 4);
  for (uint16_t queue = 0; queue < 4; ++queue) {
    machine.submit({.type = VIRTIO_BLK_T_OUT,
                    .sector = queue,
                    .data = pattern(512, static_cast<uint8_t>(queue)),
                    .queue = queue});
  }
  machine.run();
  for (uint16_t queue = 0; queue < 4; ++queue) {
    CHECK(machine.requests[queue].used == 1);
    CHECK(machine.on_disk(512U * queue, 512) == pattern(512, static_cast<uint8_t>(queue)));
    CHECK(machine.driver.take_interrupts(static_cast<uint16_t>(queue + 1)) == 1);
  }
}

TEST_CASE("the configuration space tells capacity, block size and topology") {
  BlkMachine machine({.disk_bytes = 1 << 20});
  const auto field = [&](size_t offset, size_t width) {
    return machine.driver.device_config(offset, width);
  };
  CHECK(machine.driver.device_structure().length == 60);
  CHECK(field(offsetof(BlkConfigLayout, capacity), 8) == 2048);
  CHECK(field(offsetof(BlkConfigLayout, seg_max), 4) == 254);
  CHECK(field(offsetof(BlkConfigLayout, blk_size), 4) == 512);
  CHECK(field(offsetof(BlkConfigLayout, physical_block_exp), 1) == 0);
  CHECK(field(offsetof(BlkConfigLayout, min_io_size), 2) == 1);
  CHECK(field(offsetof(BlkConfigLayout, writeback), 1) == 1);
  CHECK(field(offsetof(BlkConfigLayout, num_queues), 2) == 1);
  CHECK(field(offsetof(BlkConfigLayout, max_discard_seg), 4) == 16);
  CHECK(field(offsetof(BlkConfigLayout, max_write_zeroes_seg), 4) == 16);
  CHECK(field(offsetof(BlkConfigLayout, write_zeroes_may_unmap), 1) == 1);
  CHECK(field(60, 4) == 0);
}

}  // namespace
}  // namespace ringlet
