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

/// The quotients of samples taken in the same round.
std::vector<double> ratios_of(const std::vector<double>& samples,
                              const std::vector<double>& others);
/// The median of those.
double median_ratio(const std::vector<double>& samples, const std::vector<double>& others);

/// The chance, from 0 to 1, that the quotients of equals lie on the same side of 1 at least as
/// often as these do (the two-sided sign test). That holds whatever their distribution is, as long
/// as it favours neither.
double chance_of_equals(const std::vector<double>& ratios);

/// "1.23 (1.10-1.40)": median and quartiles.
std::string show(const Summary& summary);

}  // namespace ringlet::bench
