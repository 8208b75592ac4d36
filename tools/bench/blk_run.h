// One measurement of the disk benchmark: starts a party, and reads counters at the right moments.
#pragma once

#include <optional>
#include <vector>

#include "tools/bench/blk_cases.h"

namespace ringlet::bench {

struct BlkSample {
  double iops = 0;
  double cpu_us = 0;  ///< of the I/O side, per request; fio's own work is in it
  double p50_us = 0;  ///< latency as the guest, or fio, sees it
  double p99_us = 0;
  std::optional<double> calls;  ///< system calls of the I/O side per request, where counted
  std::optional<double> kicks;  ///< notifications per request
};

/// Boots the machine once and measures the loads in turn, each with the page cache prepared.
/// Throws std::runtime_error when the guest or the VMM fails.
std::vector<BlkSample> measure_machine(const Party& party, const BlkSetup& setup,
                                       const std::vector<BlkCase>& loads, bool count_calls);

BlkSample measure_fio(const Party& party, const BlkSetup& setup, const BlkCase& load,
                      bool count_calls);

}  // namespace ringlet::bench
