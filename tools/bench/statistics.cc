// Order statistics by linear interpolation between neighbours.
#include "tools/bench/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include <fmt/core.h>

namespace ringlet::bench {

namespace {

double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - std::floor(place));
}

}  // namespace

Summary summarize(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  return {.median = quantile(samples, 0.5),
          .min = samples.front(),
          .low = quantile(samples, 0.25),
          .high = quantile(samples, 0.75)};
}

std::vector<double> ratios_of(const std::vector<double>& samples,
                              const std::vector<double>& others) {
  assert(samples.size() == others.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < samples.size(); ++i) ratios.push_back(samples[i] / others[i]);
  return ratios;
}

double median_ratio(const std::vector<double>& samples, const std::vector<double>& others) {
  return summarize(ratios_of(samples, others)).median;
}

double chance_of_equals(const std::vector<double>& ratios) {
  const auto above = std::ranges::count_if(ratios, [](double ratio) { return ratio > 1; });
  const auto below = std::ranges::count_if(ratios, [](double ratio) { return ratio < 1; });
  // Of as many throws of a coin, so few heads or fewer; and the same of tails.
  const auto throws = static_cast<double>(above + below);
  const auto fewer = static_cast<double>(std::min(above, below));
  double chance = 0;
  double of_so_many = std::exp2(-throws);
  for (double heads = 0; heads <= fewer; ++heads) {
    chance += of_so_many;
    of_so_many *= (throws - heads) / (heads + 1);
  }
  return std::min(1.0, 2 * chance);
}

std::string show(const Summary& summary) {
  return fmt::format("{:.2f} ({:.2f}-{:.2f})", summary.median, summary.low, summary.high);
}

}  // namespace ringlet::bench
