// Tests of virtio-blk's FLUSH: what it promises about power cuts (virtio 1.3, 5.2.6).
#include <linux/virtio_blk.h>

#include <cerrno>

#include <catch2/catch.hpp>

#include "tests/fake/careful_driver.h"
#include "tests/fake/save_restore.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;

TEST_CASE("FLUSH means flush: nothing tells the driver before the host's flush completes") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK(machine.driver.take_interrupts(1) == 1);
  machine.loop.hold(SimOp::Flush);
  const BlkRequest& flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.loop.run_until_idle();
  CHECK(machine.loop.in_flight(SimOp::Flush) == 1);
  CHECK(machine.queues[0]->used_index() == 1);
  CHECK(machine.status_of(flush) == BlkMachine::kNoStatus);
  CHECK(machine.driver.take_interrupts(1) == 0);
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(flush.used == 1);
  CHECK(machine.status_of(flush) == kOk);
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("other requests pass a flush by") {
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  const BlkRequest& flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512}}) == kOk);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK_FALSE(flush.used);
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(machine.status_of(flush) == kOk);
  // It was asked for before that write.
  CHECK_FALSE(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("each FLUSH has a flush of its own, also while another is under way") {
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  const BlkRequest& second = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  CHECK(machine.loop.in_flight(SimOp::Flush) == 2);
  machine.loop.release_oldest(SimOp::Flush);
  machine.run();
  CHECK_FALSE(second.used);
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(machine.status_of(second) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("what was acknowledged before a FLUSH was offered is stable when it completes") {
  const auto seed = GENERATE(range(0, 100));
  BlkMachine machine(adversarial(seed));
  machine.start();
  CarefulDriver driver(static_cast<uint64_t>(seed));
  for (int i = 0; i < 300; ++i) {
    driver.submit(machine);
    machine.loop.step();
    driver.collect(machine);
    REQUIRE(driver.flushed_is_stable(machine));
  }
  machine.loop.run_until_idle();
  driver.collect(machine);
  CHECK(driver.flushed_is_stable(machine));
  CHECK(driver.flushes() > 20);
  CHECK(driver.promised() > 100);
}

TEST_CASE("a flush that the host fails is reported as failed, and so is every later one") {
  // The host may have thrown away what it could not write, and would call the next flush a success.
  const auto error = GENERATE(-EIO, -ENOSPC, -EDQUOT);
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  machine.loop.fail_next(SimOp::Flush, error);
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kIoError);
  CHECK(machine.blk.counters().host_errors == 1);
  CHECK(machine.requests.back().used == 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kIoError);
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kIoError);
  CHECK(machine.loop.submitted(SimOp::Flush) == 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_IN, .parts = {512}}) == kOk);
}

TEST_CASE("a flush that was under way as another one failed is not reported as done") {
  // The host tells of what it lost once, to the one that failed.
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  machine.loop.fail_next(SimOp::Flush, -EIO);
  const BlkRequest& failed = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  const BlkRequest& other = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(machine.status_of(failed) == kIoError);
  CHECK(machine.status_of(other) == kIoError);
}

TEST_CASE("a flush that fails while a reset waits for it is not forgotten") {
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  machine.loop.fail_next(SimOp::Flush, -EIO);
  machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  machine.loop.release(SimOp::Flush);
  machine.loop.run_until_idle();
  CHECK(machine.driver.status() == 0);
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kIoError);
}

TEST_CASE("a flush that was interrupted is asked for again") {
  const auto error = GENERATE(-EINTR, -EAGAIN);
  BlkMachine machine;
  machine.start();
  machine.loop.fail_next(SimOp::Flush, error);
  machine.loop.fail_next(SimOp::Flush, error);
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kOk);
  CHECK(machine.loop.submitted(SimOp::Flush) == 3);
}

TEST_CASE("a disk is not quiet before its flush has completed") {
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  const BlkRequest& flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.run();
  CHECK(quiet.runs == 0);
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(quiet.runs == 1);
  CHECK(machine.status_of(flush) == kOk);
}

TEST_CASE("a FLUSH that is offered to a paused disk is done when it runs again") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  Noted quiet;
  machine.transport.quiesce(quiet);
  machine.run();
  const BlkRequest& flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  CHECK(machine.loop.submitted(SimOp::Flush) == 0);
  CHECK_FALSE(flush.used);
  machine.transport.resume();
  machine.run();
  CHECK(machine.status_of(flush) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("a reset waits for a flush and leaves no trace of it") {
  BlkMachine machine;
  machine.start();
  machine.loop.hold(SimOp::Flush);
  const BlkRequest flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  CHECK(machine.driver.status() == 15);
  machine.loop.release(SimOp::Flush);
  machine.loop.run_until_idle();
  CHECK(machine.driver.status() == 0);
  CHECK(machine.queues[0]->used_index() == 0);
  CHECK(machine.status_of(flush) == BlkMachine::kNoStatus);
  CHECK(machine.driver.take_interrupts(1) == 0);
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_FLUSH}) == kOk);
}

}  // namespace
}  // namespace ringlet
