// What ringlet is to stay within, beside what was measured.
#pragma once

#include <span>
#include <string>

namespace ringlet::bench {

struct Target {
  /// With its unit.
  std::string what;
  double at_most = 0;
  double measured = 0;
};

/// One line each, with the verdict.
void print_targets(std::span<const Target> targets);

}  // namespace ringlet::bench
