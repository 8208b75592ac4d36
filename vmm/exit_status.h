// How ringlet's exit status tells one end from another: the one table of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ringlet {

enum class ExitStatus : uint8_t {
  PowerOff = 0,
  HostError = 1,
  Usage = 2,
  Reset = 3,
  Panic = 4,
  Crash = 5,
  MemoryLost = 6,
  Left = 7,
};

constexpr int to_int(ExitStatus status) {
  return static_cast<int>(status);
}

struct ExitStatusRow {
  ExitStatus status;
  std::string_view meaning;
};

inline constexpr ExitStatusRow kExitStatuses[] = {
    {ExitStatus::PowerOff, "the guest powered off; for other commands: success"},
    {ExitStatus::HostError, "the host failed: no usable /dev/kvm, out of memory, an I/O error"},
    {ExitStatus::Usage, "wrong usage or configuration"},
    {ExitStatus::Reset, "the guest asked for a reset"},
    {ExitStatus::Panic, "the guest's kernel panicked, and told so through pvpanic"},
    {ExitStatus::Crash, "triple fault, KVM internal error or failed entry: registers are logged"},
    {ExitStatus::MemoryLost, "the host could not provide a page of guest memory (SIGBUS)"},
    {ExitStatus::Left, "the user left by Ctrl-A X"},
};

/// What the table cannot hold, in one sentence each.
inline constexpr std::string_view kExitStatusNotes[] = {
    "Ended by SIGTERM, SIGINT or SIGHUP, ringlet stops the machine in order and then ends by that "
    "signal itself.",
    "With --debug-exit the guest chooses: writing V ends with status (V << 1) | 1, as in QEMU.",
};

/// The table for --help, a row a line, indented by two.
std::string exit_statuses_as_columns();
/// The table and the notes in Markdown.
std::string exit_statuses_as_markdown();

}  // namespace ringlet
