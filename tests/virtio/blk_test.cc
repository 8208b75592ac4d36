// Tests of virtio-blk, driven as a guest would through its PCI transport on the simulated loop.
#include <linux/virtio_blk.h>

#include <cstring>
#include <string>

#include <catch2/catch.hpp>

#include "tests/fake/blk_machine.h"

namespace ringlet {
namespace {

std::vector<std::byte> pattern(size_t bytes, uint8_t seed) {
  std::vector<std::byte> data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 7 + i / 256 + seed);
  return data;
}

std::vector<std::byte> on_disk(BlkMachine& machine, uint64_t offset, size_t bytes) {
  const auto& disk = machine.disk().bytes;
  const auto at = disk.begin() + static_cast<std::ptrdiff_t>(offset);
  return {at, at + static_cast<std::ptrdiff_t>(bytes)};
}

TEST_CASE("a driver negotiates, writes, flushes, reads back and learns the serial number") {
  BlkMachine machine;
  machine.start();
  const auto data = pattern(4096, 3);
  const BlkRequest& write = machine.submit({.type = VIRTIO_BLK_T_OUT, .sector = 8, .data = data});
  machine.run();
  CHECK(machine.status_of(write) == VIRTIO_BLK_S_OK);
  CHECK(write.used == 1);
  CHECK(on_disk(machine, 4096, 4096) == data);
  CHECK(machine.driver.take_interrupts(1) == 1);
  const BlkRequest& flush = machine.submit({.type = VIRTIO_BLK_T_FLUSH});
  machine.run();
  CHECK(machine.status_of(flush) == VIRTIO_BLK_S_OK);
  CHECK(machine.disk().stable == machine.disk().bytes);
  const BlkRequest& read =
      machine.submit({.type = VIRTIO_BLK_T_IN, .sector = 8, .parts = {512, 3584}});
  machine.run();
  CHECK(machine.status_of(read) == VIRTIO_BLK_S_OK);
  CHECK(read.used == 4097);
  CHECK(machine.data_of(read) == data);
  const BlkRequest& id = machine.submit({.type = VIRTIO_BLK_T_GET_ID, .parts = {20}});
  machine.run();
  CHECK(id.used == 21);
  const auto serial = machine.data_of(id);
  CHECK(std::memcmp(serial.data(), "ringlet-serial-00001", 20) == 0);
  CHECK(machine.driver.take_interrupts(1) == 1);
  CHECK(machine.driver.take_interrupts(0) == 0);
  CHECK(machine.driver.status() == 15);
}

}  // namespace
}  // namespace ringlet
