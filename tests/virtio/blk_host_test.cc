// Tests of virtio-blk against its host file: ranges, short and failed I/O, O_DIRECT.
#include <linux/falloc.h>
#include <linux/virtio_blk.h>

#include <cerrno>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint8_t kUnsupported = VIRTIO_BLK_S_UNSUPP;
constexpr uint32_t kUnmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

std::vector<std::byte> ranges(std::initializer_list<BlkRangeLayout> list) {
  const auto bytes = std::as_bytes(std::span(list.begin(), list.size()));
  return {bytes.begin(), bytes.end()};
}

bool is_zero(const std::vector<std::byte>& bytes) {
  return bytes == std::vector<std::byte>(bytes.size());
}

// Discard and write zeroes --------------------------------------------------------------------

TEST_CASE("DISCARD punches holes, one for each range") {
  BlkMachine machine;
  machine.disk().bytes = pattern(1 << 20, 1);
  const auto between = machine.on_disk(8192, 8192);
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD,
                     .data = ranges({{8, 8, 0}, {100, 0, 0}, {32, 16, 0}})}) == kOk);
  CHECK(is_zero(machine.on_disk(4096, 4096)));
  CHECK(is_zero(machine.on_disk(16384, 8192)));
  CHECK(machine.on_disk(8192, 8192) == between);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 2);
  CHECK(machine.requests.back().used == 1);
}

TEST_CASE("a DISCARD that the host cannot do is done with, for it is a hint") {
  const auto error = GENERATE(-EOPNOTSUPP, -EINVAL);
  BlkMachine machine;
  machine.start();
  machine.loop.fail_all(SimOp::Allocate, error);
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = ranges({{0, 8, 0}, {16, 8, 0}})}) ==
        kOk);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 2);
  CHECK(machine.loop.submitted(SimOp::Write) == 0);
}

TEST_CASE("a DISCARD that the host fails has failed") {
  BlkMachine machine;
  machine.start();
  machine.loop.fail_next(SimOp::Allocate, -EIO);
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = ranges({{0, 8, 0}, {16, 8, 0}})}) ==
        kIoError);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 1);
}

TEST_CASE("unknown flags, and unmap for DISCARD, are unsupported") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = ranges({{0, 8, kUnmap}})}) ==
        kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = ranges({{0, 8, 2}})}) == kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = ranges({{0, 8, 0x80000001}})}) ==
        kUnsupported);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 0);
}

TEST_CASE("ranges that leave the disk, are too long, too many, cut or missing fail") {
  const auto type = GENERATE(as<uint32_t>{}, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES);
  BlkMachine machine({.disk_bytes = 8192});
  machine.start();
  CHECK(machine.run({.type = type, .data = ranges({{15, 2, 0}})}) == kIoError);
  CHECK(machine.run({.type = type, .data = ranges({{UINT64_MAX, 1, 0}})}) == kIoError);
  CHECK(machine.run({.type = type, .data = ranges({{0, (1U << 22) + 1, 0}})}) == kIoError);
  CHECK(machine.run({.type = type, .data = std::vector<std::byte>(17 * 16)}) == kIoError);
  CHECK(machine.run({.type = type, .data = std::vector<std::byte>(24)}) == kIoError);
  CHECK(machine.run({.type = type}) == kIoError);
  CHECK(machine.loop.submitted(SimOp::Allocate) == 0);
}

TEST_CASE("DISCARD and WRITE_ZEROES that were not negotiated are unsupported") {
  BlkMachine machine;
  machine.start(Features(BlkFeature::Discard) | BlkFeature::WriteZeroes);
  CHECK(machine.run({.type = VIRTIO_BLK_T_DISCARD, .data = ranges({{0, 8, 0}})}) == kUnsupported);
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = ranges({{0, 8, 0}})}) ==
        kUnsupported);
}

TEST_CASE("WRITE_ZEROES zeroes, with and without unmapping") {
  const auto flags = GENERATE(as<uint32_t>{}, 0, kUnmap);
  BlkMachine machine;
  machine.disk().bytes = pattern(1 << 20, 1);
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = ranges({{1, 3, flags}})}) == kOk);
  CHECK(is_zero(machine.on_disk(512, 1536)));
  CHECK(machine.on_disk(0, 512) == pattern(512, 1));
  CHECK(machine.disk().bytes[2048] == pattern(2049, 1)[2048]);
  CHECK(machine.loop.submitted(SimOp::Write) == 0);
}

TEST_CASE("zeroes are written where the host can neither zero nor punch") {
  const auto error = GENERATE(-EOPNOTSUPP, -EINVAL);
  const auto flags = GENERATE(as<uint32_t>{}, 0, kUnmap);
  BlkMachine machine;
  const auto before = pattern(1 << 20, 1);
  machine.disk().bytes = before;
  machine.start();
  machine.loop.fail_all(SimOp::Allocate, error);
  // 300 KiB and a sector: two writes of 256 KiB at most, and one of the rest.
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES,
                     .data = ranges({{1, 601, flags}, {1000, 1, flags}})}) == kOk);
  CHECK(is_zero(machine.on_disk(512, 601 * 512)));
  CHECK(is_zero(machine.on_disk(512000, 512)));
  CHECK(machine.disk().bytes[511] == before[511]);
  CHECK(machine.disk().bytes[602 * 512] == before[602 * 512]);
  CHECK(machine.disk().bytes[512512] == before[512512]);
  CHECK(machine.loop.submitted(SimOp::Write) == 4);
}

TEST_CASE("zeroes that are written short or interrupted are written on") {
  BlkMachine machine;
  machine.disk().bytes = pattern(1 << 20, 1);
  machine.start();
  machine.loop.fail_all(SimOp::Allocate, -EOPNOTSUPP);
  machine.loop.fail_next(SimOp::Write, -EINTR);
  machine.loop.shorten_next(SimOp::Write, 0xffff'ffff);
  machine.loop.shorten_next(SimOp::Write, 1000);
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = ranges({{0, 64, 0}})}) == kOk);
  CHECK(is_zero(machine.on_disk(0, 32768)));
  CHECK_FALSE(machine.disk().bytes[32768 + 1] == std::byte{0});
}

// Short and failed I/O ------------------------------------------------------------------------

TEST_CASE("short transfers are carried on with until all is done") {
  BlkMachine machine;
  machine.start();
  const auto data = pattern(4096, 5);
  for (const size_t bytes : std::vector<size_t>{1, 1000, 1024, 512})
    machine.loop.shorten_next(SimOp::Write, bytes);
  CHECK(machine.run(
            {.type = VIRTIO_BLK_T_OUT, .sector = 2, .parts = {1, 1500, 2595}, .data = data}) ==
        kOk);
  CHECK(machine.on_disk(1024, 4096) == data);
  CHECK(machine.loop.submitted(SimOp::Write) == 5);
  for (const size_t bytes : std::vector<size_t>{1, 1000, 1024, 512})
    machine.loop.shorten_next(SimOp::Read, bytes);
  const BlkRequest& read =
      machine.submit({.type = VIRTIO_BLK_T_IN, .sector = 2, .parts = {1, 1500, 2595}});
  machine.run();
  CHECK(machine.data_of(read) == data);
  CHECK(read.used == 4097);
}

TEST_CASE("what interrupts an operation does not end the request") {
  const auto error = GENERATE(-EINTR, -EAGAIN);
  BlkMachine machine;
  machine.start();
  machine.loop.fail_next(SimOp::Read, error);
  machine.loop.fail_next(SimOp::Read, error);
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512}}) == kOk);
  CHECK(machine.loop.submitted(SimOp::Read) == 3);
}

TEST_CASE("host errors fail the request and nothing else") {
  const auto error = GENERATE(-EIO, -ENOSPC, -EBADF);
  BlkMachine machine;
  machine.start();
  machine.loop.fail_next(SimOp::Write, error);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kIoError);
  CHECK(machine.requests.back().used == 1);
  CHECK(machine.blk.counters().host_errors == 1);
  CHECK(machine.driver.status() == 15);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
}

TEST_CASE("a disk file that was truncated gives an error, not an endless read") {
  BlkMachine machine;
  machine.start();
  machine.disk().bytes.resize(256);
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512}}) == kIoError);
  CHECK(machine.requests.back().used == 256);
}

// O_DIRECT ------------------------------------------------------------------------------------

TEST_CASE("aligned requests go to the O_DIRECT descriptor, others past it") {
  BlkMachine machine({.direct_alignment = 512});
  machine.start();
  machine.loop.run_until_idle();
  machine.loop.clear_history();
  const auto data = pattern(1024, 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = data}) == kOk);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .parts = {100, 924}, .data = data}) == kOk);
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512, 512}}) == kOk);
  const auto& history = machine.loop.history();
  CHECK(history.at(0).file == machine.disk_file);
  CHECK(history.at(1).file == machine.buffered_file);
  CHECK(history.at(2).file == machine.disk_file);
  CHECK(machine.on_disk(0, 1024) == data);
}

TEST_CASE("what is left of a short direct transfer may go past O_DIRECT") {
  BlkMachine machine({.direct_alignment = 512});
  machine.start();
  machine.loop.run_until_idle();
  machine.loop.clear_history();
  machine.loop.shorten_next(SimOp::Write, 700);
  const auto data = pattern(2048, 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = data}) == kOk);
  CHECK(machine.loop.history().at(0).file == machine.disk_file);
  CHECK(machine.loop.history().at(1).file == machine.buffered_file);
  CHECK(machine.on_disk(0, 2048) == data);
}

TEST_CASE("offsets that O_DIRECT cannot take go past it, of zeroes too") {
  BlkMachine machine({.direct_alignment = 4096});
  machine.start();
  machine.loop.run_until_idle();
  machine.loop.clear_history();
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .sector = 1, .parts = {512}}) == kOk);
  CHECK(machine.loop.history().at(0).file == machine.buffered_file);
  machine.loop.fail_all(SimOp::Allocate, -EOPNOTSUPP);
  machine.loop.clear_history();
  CHECK(machine.run({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = ranges({{8, 16, 0}, {8, 1, 0}})}) ==
        kOk);
  CHECK(machine.loop.history().at(1).file == machine.disk_file);
  CHECK(machine.loop.history().at(3).file == machine.buffered_file);
}

TEST_CASE("a disk whose file the loop has no room for fails, and asks nothing of the host") {
  BlkMachine machine;
  machine.loop.stand_in(BlkMachine::kDiskFd, IoFile{});
  machine.start();
  machine.submit({.type = VIRTIO_BLK_T_IN});
  machine.loop.run_until_idle();
  CHECK((machine.driver.status() & status::kNeedsReset) != 0);
  CHECK(machine.queues[0]->used_index() == 0);
}

}  // namespace
}  // namespace ringlet
