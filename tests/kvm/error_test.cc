// Tests of the messages that users get.
#include "kvm/error.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

TEST_CASE("a message for users is one line, whatever it quotes") {
  const ConfigError error("vm.json: \"a\nb\x1b[1m\x7f\": unknown key, caf\u00e9");
  CHECK(std::string(error.what()) == "vm.json: \"a?b?[1m?\": unknown key, caf\u00e9");
}

TEST_CASE("a message for users is cut where it quotes too much") {
  const ConfigError error("cmdline: " + std::string(5000, 'x'));
  CHECK(std::string(error.what()) == "cmdline: " + std::string(988, 'x') + "...");
}

}  // namespace
}  // namespace ringlet
