// Tests of chains: copying in and out of their parts, and the status byte at their end.
#include "virtio/chain.h"

#include <array>
#include <cstring>
#include <string>

#include <catch2/catch.hpp>

#include "tests/fake/queue_pair.h"

namespace ringlet {
namespace {

/// A chain of the given readable and writable lengths, which lie one behind the other in a
/// buffer that counts up from zero.
struct Popped {
  Popped(std::initializer_list<uint32_t> readable, std::initializer_list<uint32_t> writable) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    REQUIRE(pair.memory.write(pair.buffer, bytes));
    std::vector<Segment> segments;
    uint64_t at = 0;
    for (const uint32_t length : readable) {
      segments.push_back({pair.buffer.plus(at).value(), length, false});
      at += length;
    }
    for (const uint32_t length : writable) {
      segments.push_back({pair.buffer.plus(at).value(), length, true});
      at += length;
    }
    pair.driver.add(segments);
    (void)pair.driver.publish();
    chain = pair.device->pop();
    REQUIRE(chain);
  }
  ~Popped() { Queue::abandon(std::move(*chain)); }

  std::vector<std::byte> memory() {
    std::vector<std::byte> now(bytes.size());
    REQUIRE(pair.memory.read(pair.buffer, now));
    return now;
  }

  QueuePair pair{16};
  std::array<std::byte, 100> bytes;
  std::optional<Chain> chain;
};

TEST_CASE("a read gathers bytes across descriptors and takes them off the chain") {
  Popped popped({3, 4, 5}, {});
  std::array<std::byte, 5> first{};
  CHECK(popped.chain->read(first));
  CHECK(std::memcmp(first.data(), popped.bytes.data(), 5) == 0);
  CHECK(popped.chain->readable_bytes() == 7);
  CHECK(popped.chain->readable().size() == 2);
  std::array<std::byte, 7> rest{};
  CHECK(popped.chain->read(rest));
  CHECK(std::memcmp(rest.data(), popped.bytes.data() + 5, 7) == 0);
  CHECK(popped.chain->readable().empty());
}

TEST_CASE("a read that ends with a descriptor leaves the next one whole") {
  Popped popped({16, 8}, {});
  std::array<std::byte, 16> header{};
  CHECK(popped.chain->read(header));
  CHECK(popped.chain->readable().size() == 1);
  CHECK(popped.chain->readable()[0].iov_len == 8);
}

TEST_CASE("a read of more than there is takes nothing") {
  Popped popped({3, 4}, {8});
  std::array<std::byte, 8> data{};
  CHECK_FALSE(popped.chain->read(data));
  CHECK(popped.chain->readable_bytes() == 7);
  CHECK(popped.chain->readable().size() == 2);
}

TEST_CASE("a write scatters bytes across descriptors and takes them off the chain") {
  Popped popped({10}, {3, 4, 5});
  const std::array<std::byte, 6> data{std::byte{0xa0}, std::byte{0xa1}, std::byte{0xa2},
                                      std::byte{0xa3}, std::byte{0xa4}, std::byte{0xa5}};
  CHECK(popped.chain->write(data) == 6);
  CHECK(popped.chain->writable_bytes() == 6);
  CHECK(popped.chain->writable().size() == 2);
  const auto memory = popped.memory();
  CHECK(std::memcmp(memory.data() + 10, data.data(), 6) == 0);
  CHECK(memory[9] == std::byte{9});
  CHECK(memory[16] == std::byte{16});
}

TEST_CASE("a write of more than fits is cut") {
  Popped popped({}, {3, 2});
  const std::array<std::byte, 9> data{};
  CHECK(popped.chain->write(data) == 5);
  CHECK(popped.chain->writable().empty());
  CHECK(popped.memory()[5] == std::byte{5});
  CHECK(popped.chain->write(data) == 0);
}

TEST_CASE("a write marks the pages it touches") {
  Popped popped({}, {64});
  popped.pair.memory.track_dirty();
  const std::array<std::byte, 1> data{};
  CHECK(popped.chain->write(data) == 1);
  CHECK(popped.pair.memory.take_dirty(0)[0] == uint64_t{1} << (popped.pair.buffer.value() / 4096));
}

TEST_CASE("the status is the last writable byte, and no part of the data any more") {
  Popped popped({4}, {8, 1});
  REQUIRE(popped.chain->take_status());
  CHECK(popped.chain->writable_bytes() == 8);
  CHECK(popped.chain->writable().size() == 1);
  popped.chain->put_status(0x5a);
  CHECK(popped.memory()[12] == std::byte{0x5a});
  CHECK(popped.memory()[11] == std::byte{11});
}

TEST_CASE("the status may share its descriptor with data") {
  Popped popped({4}, {9});
  REQUIRE(popped.chain->take_status());
  CHECK(popped.chain->writable_bytes() == 8);
  popped.chain->put_status(0x5a);
  CHECK(popped.memory()[12] == std::byte{0x5a});
}

TEST_CASE("the status stays where it is while data is written before it") {
  Popped popped({}, {4, 4});
  REQUIRE(popped.chain->take_status());
  const std::array<std::byte, 16> data{};
  CHECK(popped.chain->write(data) == 7);
  popped.chain->put_status(0x5a);
  CHECK(popped.memory()[7] == std::byte{0x5a});
}

TEST_CASE("a chain without writable bytes has no status") {
  Popped popped({4}, {});
  CHECK_FALSE(popped.chain->take_status());
}

TEST_CASE("a moved chain is the same chain") {
  Popped popped({4}, {8});
  Chain moved(std::move(*popped.chain));
  CHECK(moved.writable_bytes() == 8);
  CHECK(&moved.queue() == popped.pair.device.get());
  popped.chain.emplace(std::move(moved));
  CHECK(popped.chain->readable_bytes() == 4);
}

}  // namespace
}  // namespace ringlet
