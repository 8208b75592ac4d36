// Draws the disk benchmark's ratios as a picture for the documentation.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/blk_results.h"

namespace ringlet::bench {

/// Bars of ringlet's IOPS and CPU time per request over those of QEMU's best, with quartiles.
/// `caption` says what they were taken on.
std::string draw_svg(const std::vector<CaseResult>& results, const std::string& caption);

}  // namespace ringlet::bench
