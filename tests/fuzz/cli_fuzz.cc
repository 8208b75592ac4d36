// Fuzzes the command line, an argument a line: what is refused gets one line that says why, what is
// accepted is a machine that can be printed and read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvm/error.h"
#include "tests/fuzz/same_machine.h"
#include "vmm/cli.h"

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at).c_str());  // arguments end at a NUL
    at = end + 1;
  }
  return lines;
}

bool is_utf8(const ringlet::MachineConfig& machine) {
  try {
    ringlet::machine_to_json(machine);
    return true;
  } catch (const ringlet::ConfigError& error) {
    return std::string_view(error.what()).find("UTF-8") == std::string_view::npos;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  if (text.find("--config") != std::string::npos) return 0;  // would open any file there is
  const std::vector<std::string> lines = lines_of(text);
  std::vector<const char*> arguments;
  for (const std::string& line : lines) arguments.push_back(line.c_str());
  ringlet::CommandLine line;
  try {
    line = ringlet::parse_command_line(arguments);
  } catch (const ringlet::ConfigError& error) {
    ringlet::check_message(error.what());
    return 0;
  }
  const bool has_machine =
      line.command == ringlet::Command::Run || line.command == ringlet::Command::DryRun;
  if (has_machine && is_utf8(line.machine)) ringlet::check_round_trip(line.machine);
  return 0;
}
