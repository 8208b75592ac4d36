// Tests of what the benchmarks may say of their samples.
#include "tools/bench/statistics.h"

#include <cmath>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

namespace ringlet::bench {
namespace {

TEST_CASE("how far a difference can be chance depends on how often it goes one way") {
  const auto chance = [](int above, int below) {
    std::vector<double> ratios(static_cast<size_t>(above), 1.01);
    ratios.insert(ratios.end(), static_cast<size_t>(below), 0.5);
    return Approx(chance_of_equals(ratios));
  };
  // 2 * (1 + ...) / 2^n.
  CHECK(chance(6, 0) == 2.0 / 64);
  CHECK(chance(0, 5) == 2.0 / 32);
  CHECK(chance(1, 8) == 2.0 * (1 + 9) / 512);
  CHECK(chance(10, 2) == 2.0 * (1 + 12 + 66) / 4096);
  CHECK(chance(3, 3) == 1);
  CHECK(chance(4, 3) == 1);
  CHECK(chance_of_equals({}) == 1);
  CHECK(chance_of_equals({1, 1, 1}) == 1);
}

TEST_CASE("equals with noise of any kind seldom seem to differ") {
  std::mt19937_64 random(1);
  std::cauchy_distribution<double> wild(0, 0.1);
  unsigned differ = 0;
  constexpr unsigned kRuns = 2000;
  for (unsigned run = 0; run < kRuns; ++run) {
    std::vector<double> samples;
    std::vector<double> others;
    for (int round = 0; round < 7; ++round) {
      samples.push_back(std::exp(wild(random)));
      others.push_back(std::exp(wild(random)));
    }
    if (chance_of_equals(ratios_of(samples, others)) <= 0.05) ++differ;
  }
  CHECK(differ > 0);
  CHECK(differ < kRuns / 20);
}

}  // namespace
}  // namespace ringlet::bench
