// Tests of virtio-blk's cache modes: which writes survive a power cut (virtio 1.3, 5.2.5, 5.2.6).
#include <linux/virtio_blk.h>

#include <cerrno>

#include <catch2/catch.hpp>

#include "tests/fake/careful_driver.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint64_t kWriteback = offsetof(BlkConfigLayout, writeback);

std::vector<std::byte> one_range(uint64_t sector, uint32_t sectors) {
  const BlkRangeLayout range{.sector = sector, .sectors = sectors, .flags = 0};
  const auto bytes = std::as_bytes(std::span(&range, 1));
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("with a write-back cache a write is stable only after a flush") {
  BlkMachine machine;
  machine.start();
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK_FALSE(machine.disk().stable == machine.disk().bytes);
}

/// How a driver comes to have a write-through cache.
struct WriteThrough {
  Features without;       ///< features that it does not negotiate
  bool writeback = true;  ///< the disk's setting
  uint8_t mode = 0;       ///< what the driver writes into the configuration
};

TEST_CASE("with a write-through cache every write is stable when it is acknowledged") {
  using enum BlkFeature;
  const auto how =
      GENERATE(WriteThrough{.without = Features(Flush), .mode = 1},
               WriteThrough{.without = Features(Flush) | ConfigWce, .mode = 1},
               WriteThrough{.without = {}, .writeback = false}, WriteThrough{.without = {}});
  const auto seed = GENERATE(range(0, 25));
  BlkMachineOptions options = adversarial(seed);
  options.settings.writeback = how.writeback;
  BlkMachine machine(options);
  machine.start(how.without);
  machine.loop.run_until_idle();
  machine.driver.set_device_config(kWriteback, 1, how.mode);
  CarefulDriver driver(static_cast<uint64_t>(seed));
  for (int i = 0; i < 100; ++i) {
    driver.submit(machine);
    machine.loop.step();
    driver.collect(machine);
    REQUIRE(driver.acknowledged_is_stable(machine));
  }
  machine.loop.run_until_idle();
  driver.collect(machine);
  CHECK(driver.acknowledged_is_stable(machine));
  CHECK(driver.acknowledged() > 50);
}

TEST_CASE("a write that cannot be made stable has failed") {
  BlkMachine machine({.settings = {.name = "disk", .writeback = false}});
  machine.start();
  machine.loop.fail_next(SimOp::Write, -EIO);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kIoError);
}

TEST_CASE("with a write-through cache WRITE_ZEROES is stable when it completes") {
  BlkMachine machine({.settings = {.name = "disk", .writeback = false}});
  machine.disk().bytes = pattern(1 << 20, 1);
  machine.start();
  machine.loop.hold(SimOp::Flush);
  const BlkRequest& zeroes =
      machine.submit({.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = one_range(0, 8)});
  machine.run();
  CHECK_FALSE(zeroes.used);
  machine.loop.release(SimOp::Flush);
  machine.run();
  CHECK(machine.status_of(zeroes) == kOk);
}

TEST_CASE("with a write-through cache zeroes that cannot be made stable have failed") {
  BlkMachine machine({.settings = {.name = "disk", .writeback = false}});
  machine.start();
  machine.loop.fail_next(SimOp::Flush, -EIO);
  const BlkShape zeroes{.type = VIRTIO_BLK_T_WRITE_ZEROES, .data = one_range(0, 8)};
  CHECK(machine.run(zeroes) == kIoError);
  CHECK(machine.run(zeroes) == kIoError);
}

TEST_CASE("without FLUSH every write is stable when it completes") {
  BlkMachine machine;
  machine.start(Features(BlkFeature::Flush) | BlkFeature::ConfigWce);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("a driver that sets the cache mode but cannot flush finds a write-through cache") {
  BlkMachine machine;
  machine.start(BlkFeature::Flush);
  machine.loop.run_until_idle();
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("a disk configured as write-through starts so, also after a reset") {
  BlkMachine machine({.settings = {.name = "disk", .writeback = false}});
  machine.start();
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
  machine.driver.set_device_config(kWriteback, 1, 1);
  machine.loop.run_until_idle();
  machine.driver.start_reset();
  machine.loop.run_until_idle();
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
}

TEST_CASE("the driver turns the cache to write-through and back") {
  BlkMachine machine;
  machine.start();
  machine.driver.set_device_config(kWriteback, 1, 0);
  CHECK(machine.driver.device_config(kWriteback, 1) == 0);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 1)}) == kOk);
  CHECK(machine.disk().stable == machine.disk().bytes);
  machine.driver.set_device_config(kWriteback, 1, 1);
  CHECK(machine.run({.type = VIRTIO_BLK_T_OUT, .data = pattern(512, 2)}) == kOk);
  CHECK_FALSE(machine.disk().stable == machine.disk().bytes);
}

TEST_CASE("a cache mode counts for requests made available after it, even in the same drain") {
  // While the first request is handled, the driver writes the mode and then makes another
  // request available; the loop has not had its mail yet when it pops that one.
  struct LateWriter final : Device {
    explicit LateWriter(Blk& blk) : blk_(blk) {}
    const DeviceTraits& traits() const noexcept override { return blk_.traits(); }
    void attach(DeviceHost& host) noexcept override { blk_.attach(host); }
    void activate(Features features) noexcept override { blk_.activate(features); }
    void handle(Chain chain) noexcept override {
      blk_.handle(std::move(chain));
      if (meanwhile) std::exchange(meanwhile, nullptr)();
    }
    void batch_end(QueueIndex queue) noexcept override { blk_.batch_end(queue); }
    void config_written(std::span<const std::byte> config) noexcept override {
      blk_.config_written(config);
    }
    void cancel(QueueIndex queue) noexcept override { blk_.cancel(queue); }
    void reset() noexcept override { blk_.reset(); }
    Blk& blk_;
    std::function<void()> meanwhile;
  };
  LateWriter* device = nullptr;
  BlkMachine machine({.wrap = [&](Blk& blk) {
    auto wrapper = std::make_unique<LateWriter>(blk);
    device = wrapper.get();
    return wrapper;
  }});
  machine.start();
  machine.loop.run_until_idle();
  machine.loop.clear_history();
  device->meanwhile = [&] {
    machine.driver.set_device_config(kWriteback, 1, 0);
    machine.submit({.type = VIRTIO_BLK_T_OUT, .sector = 1, .data = pattern(512, 2)});
  };
  machine.submit({.type = VIRTIO_BLK_T_IN, .parts = {512}});
  machine.run();
  const SimRecord& write = machine.loop.history().at(1);
  CHECK(write.op == SimOp::Write);
  CHECK(write.sync);
}

}  // namespace
}  // namespace ringlet
