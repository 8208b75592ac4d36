// Tests of Ctrl-A X.
#include "vmm/escape_keys.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

int number(std::byte byte) {
  return static_cast<int>(byte);
}

EscapeKeys::Result type(EscapeKeys& keys, char key) {
  return keys.key(std::byte(key));
}

TEST_CASE("ordinary keys go to the guest") {
  EscapeKeys keys;
  const auto result = type(keys, 'x');
  CHECK_FALSE(result.leave);
  CHECK(result.count == 1);
  CHECK(number(result.bytes[0]) == 'x');
}

TEST_CASE("Ctrl-A X leaves, and the guest sees none of it") {
  EscapeKeys keys;
  const auto first = type(keys, '\x01');
  CHECK(first.count == 0);
  CHECK_FALSE(first.leave);
  const auto second = type(keys, 'x');
  CHECK(second.count == 0);
  CHECK(second.leave);
}

TEST_CASE("Ctrl-A A sends one Ctrl-A") {
  EscapeKeys keys;
  type(keys, '\x01');
  const auto result = type(keys, 'a');
  CHECK(result.count == 1);
  CHECK(number(result.bytes[0]) == 1);
  CHECK(type(keys, 'x').count == 1);
}

TEST_CASE("Ctrl-A and any other key go to the guest together") {
  EscapeKeys keys;
  type(keys, '\x01');
  const auto result = type(keys, 'q');
  CHECK(result.count == 2);
  CHECK(number(result.bytes[0]) == 1);
  CHECK(number(result.bytes[1]) == 'q');
  CHECK_FALSE(result.leave);
}

}  // namespace
}  // namespace ringlet
