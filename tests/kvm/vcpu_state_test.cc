// Tests of the decisions taken when a vCPU's state is restored.
#include "kvm/vcpu_state.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

std::vector<std::byte> filled(size_t size, uint8_t value) {
  return std::vector<std::byte>(size, std::byte{value});
}

TEST_CASE("an XSAVE area goes into a larger one with zeroes behind it") {
  const auto area = fit_xsave(filled(4096, 7), 11008);
  REQUIRE(area);
  CHECK(area->size() == 11008);
  CHECK((*area)[4095] == std::byte{7});
  CHECK((*area)[4096] == std::byte{0});
  CHECK((*area)[11007] == std::byte{0});
}

TEST_CASE("an XSAVE area of the same size stays as it is") {
  CHECK(fit_xsave(filled(4096, 7), 4096) == filled(4096, 7));
}

TEST_CASE("an XSAVE area goes into a smaller one only when nothing is lost") {
  std::vector<std::byte> saved = filled(4096, 7);
  saved.resize(11008);
  CHECK(fit_xsave(saved, 4096) == filled(4096, 7));
  saved[11007] = std::byte{1};
  CHECK_FALSE(fit_xsave(saved, 4096));
  CHECK_FALSE(fit_xsave(saved, 0));
}

TEST_CASE("TSC rates match within 250 parts per million") {
  CHECK(tsc_rate_matches(2'000'000, 2'000'000));
  CHECK(tsc_rate_matches(2'000'500, 2'000'000));
  CHECK(tsc_rate_matches(1'999'500, 2'000'000));
  CHECK_FALSE(tsc_rate_matches(2'000'501, 2'000'000));
  CHECK_FALSE(tsc_rate_matches(1'999'499, 2'000'000));
  CHECK_FALSE(tsc_rate_matches(0xffff'ffff, 1));
}

}  // namespace
}  // namespace ringlet
