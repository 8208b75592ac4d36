// The command line: `ringlet run`, `ringlet devices`, `ringlet check`.
#pragma once

#include <span>
#include <string>

#include "vmm/config.h"

namespace ringlet {

enum class Command {
  Print,  ///< write `text` to stdout: --help, --version, devices
  DryRun,
  Run,
  Check,
};

struct CommandLine {
  Command command = Command::Print;
  std::string text;
  MachineConfig machine;  ///< Run and DryRun; validated
  bool json = false;      ///< Check
};

/// Reads the arguments, without the program's name. Throws ConfigError with one line.
///
/// `run` starts from --config's file, if there is one: options on the command line replace its
/// values, and devices and CPUID changes come after its own.
CommandLine parse_command_line(std::span<const char* const> args);

/// The types of device with every option, as `ringlet devices` prints them; of one type unless
/// `type` is empty. Throws ConfigError when there is no such type.
std::string describe_devices(std::string_view type);

/// All that the tables know, in Markdown: machine options, devices, exit statuses.
std::string reference_as_markdown();

}  // namespace ringlet
