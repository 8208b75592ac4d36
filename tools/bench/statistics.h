// Medians and their like of a few dozen measurements.
#pragma once

#include <string>
#include <vector>

namespace ringlet::bench {

struct Summary {
  double median = 0;
  double min = 0;
  /// The first and third quartile.
  double low = 0;
  double high = 0;
};

/// All zero when there are no samples.
Summary summarize(std::vector<double> samples);

/// The median of the quotients of samples taken in the same round.
double median_ratio(const std::vector<double>& samples, const std::vector<double>& others);

/// "1.23 (1.10-1.40)": median and quartiles.
std::string show(const Summary& summary);

}  // namespace ringlet::bench
