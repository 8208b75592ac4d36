// The table of exit statuses as text.
#include "vmm/exit_status.h"

#include <fmt/format.h>

namespace ringlet {

std::string exit_statuses_as_columns() {
  std::string text;
  for (const auto& [status, meaning] : kExitStatuses) {
    text += fmt::format("  {}  {}\n", static_cast<unsigned>(status), meaning);
  }
  return text;
}

std::string exit_statuses_as_markdown() {
  std::string text = "| status | meaning |\n| --- | --- |\n";
  for (const auto& [status, meaning] : kExitStatuses) {
    text += fmt::format("| {} | {} |\n", static_cast<unsigned>(status), meaning);
  }
  for (const auto note : kExitStatusNotes) text += fmt::format("\n{}\n", note);
  return text;
}

}  // namespace ringlet
