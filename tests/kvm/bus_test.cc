// Tests of the address spaces that vCPU exits are routed through.
#include "kvm/bus.h"

#include <array>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

constexpr uint64_t kTop = std::numeric_limits<uint64_t>::max();

struct Seen {
  uint64_t offset;
  size_t size;
  bool operator==(const Seen&) const = default;
};

/// Answers reads with one byte value and notes what it was asked.
class Answering final : public BusDevice {
 public:
  explicit Answering(uint8_t value) : value_(std::byte{value}) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override {
    seen.push_back({offset, data.size()});
    for (std::byte& byte : data) byte = value_;
  }
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override {
    seen.push_back({offset, data.size()});
  }
  std::vector<Seen> seen;

 private:
  std::byte value_;
};

uint32_t read32(Bus& bus, uint64_t at) {
  uint32_t value = 0;
  bus.read(at, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

TEST_CASE("an access reaches the device that holds its address, by offset") {
  Bus bus("test");
  Answering low(0x11);
  Answering high(0x22);
  REQUIRE(bus.insert({0x1000, 0x100}, low));
  REQUIRE(bus.insert({0x1100, 0x100}, high));
  CHECK(read32(bus, 0x10fc) == 0x11111111);
  CHECK(read32(bus, 0x1100) == 0x22222222);
  CHECK(low.seen == std::vector<Seen>{{0xfc, 4}});
  CHECK(high.seen == std::vector<Seen>{{0, 4}});
}

TEST_CASE("an access that no range holds as a whole reads as ones and writes nowhere") {
  Bus bus("test");
  Answering device(0x11);
  REQUIRE(bus.insert({0x1000, 0x100}, device));
  CHECK(read32(bus, 0xffc) == 0xffffffff);
  CHECK(read32(bus, 0xffe) == 0xffffffff);
  CHECK(read32(bus, 0x10fe) == 0xffffffff);
  CHECK(read32(bus, 0x1100) == 0xffffffff);
  CHECK(read32(bus, kTop - 1) == 0xffffffff);
  bus.write(0x10fe, std::array<std::byte, 4>{});
  CHECK(device.seen.empty());
}

TEST_CASE("an empty bus reads as ones") {
  Bus bus("test");
  CHECK(read32(bus, 0) == 0xffffffff);
}

TEST_CASE("a read comes to the device filled with ones") {
  class Lazy final : public BusDevice {
    void read(uint64_t, std::span<std::byte>) noexcept override {}
    void write(uint64_t, std::span<const std::byte>) noexcept override {}
  };
  Bus bus("test");
  Lazy device;
  REQUIRE(bus.insert({0, 0x10}, device));
  CHECK(read32(bus, 0) == 0xffffffff);
}

TEST_CASE("ranges that overlap, are empty or wrap are refused") {
  Bus bus("test");
  Answering device(0);
  REQUIRE(bus.insert({0x1000, 0x100}, device));
  CHECK_FALSE(bus.insert({0x1000, 0x100}, device));
  CHECK_FALSE(bus.insert({0x10ff, 1}, device));
  CHECK_FALSE(bus.insert({0xfff, 2}, device));
  CHECK_FALSE(bus.insert({0, kTop}, device));
  CHECK_FALSE(bus.insert({0x2000, 0}, device));
  CHECK_FALSE(bus.insert({kTop, 2}, device));
  CHECK_FALSE(bus.is_free({0x1080, 0x10}));
  CHECK(bus.is_free({0x1100, 0x10}));
  CHECK(bus.is_free({0xff0, 0x10}));
}

TEST_CASE("the last address of the space can be used") {
  Bus bus("test");
  Answering device(0x33);
  REQUIRE(bus.insert({kTop - 3, 4}, device));
  CHECK(read32(bus, kTop - 3) == 0x33333333);
  CHECK(read32(bus, kTop - 2) == 0xffffffff);
}

TEST_CASE("a removed range is free again") {
  Bus bus("test");
  Answering device(0x11);
  REQUIRE(bus.insert({0x1000, 0x100}, device));
  bus.remove(0x1001);
  CHECK(read32(bus, 0x1000) == 0x11111111);
  bus.remove(0x1000);
  CHECK(read32(bus, 0x1000) == 0xffffffff);
  CHECK(bus.insert({0x10ff, 0x100}, device));
}

}  // namespace
}  // namespace ringlet
