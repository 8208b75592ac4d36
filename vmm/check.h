// `ringlet check`: can this host run virtual machines, and how well?
#pragma once

#include <string>
#include <vector>

namespace ringlet {

enum class CheckStatus {
  Ok,
  Warn,     ///< machines run, but something is slower, less safe or not to be had
  Missing,  ///< no machine runs
};

struct CheckRow {
  std::string name;
  CheckStatus status = CheckStatus::Ok;
  std::string value;  ///< what was found
  std::string hint;   ///< what to do about it; empty when there is nothing to do
};

struct CheckReport {
  std::vector<CheckRow> rows;
  bool can_run = true;  ///< nothing is Missing
};

/// Looks at the host, with what the caller may do; never throws for what it finds there. Files
/// are looked up below `root` (tests bring their own /proc, /sys and /dev).
CheckReport check_host(const std::string& root = "");

/// A row a line, hints below, and a verdict.
std::string report_as_table(const CheckReport& report);
/// {"can_run": true, "checks": [{"name": ..., "status": ..., "value": ..., "hint": ...}]}
std::string report_as_json(const CheckReport& report);

}  // namespace ringlet
