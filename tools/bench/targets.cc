// What ringlet is to stay within, beside what was measured.
#include "tools/bench/targets.h"

#include <fmt/core.h>

namespace ringlet::bench {

void print_targets(std::span<const Target> targets) {
  fmt::print("\n{:<64} {:>8} {:>9}\n", "target", "at most", "measured");
  for (const Target& target : targets) {
    fmt::print("{:<64} {:>8.2f} {:>9.2f}  {}\n", target.what, target.at_most, target.measured,
               target.measured <= target.at_most ? "met" : "MISSED");
  }
}

}  // namespace ringlet::bench
