// The main thread while a machine runs: waits for its end or for a signal.
//
//   SIGTERM, SIGINT, SIGHUP   first: power button, then stop after the grace time
//                             second: stop at once; third: no more waiting at all
//   SIGTSTP                   gives the terminal back, then stops the process
//   SIGCONT                   takes the terminal again
//
// Ended by a signal, the process dies by that signal, as shells and service managers expect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <signal.h>

#include "kvm/fd.h"
#include "vmm/exit_status.h"
#include "vmm/machine_control.h"
#include "vmm/terminal.h"

namespace ringlet {

/// Blocks the signals above in this thread and all that it starts from now on, and makes them
/// readable. One that was ignored before stays so (nohup). Main thread, before others start.
class Signals {
 public:
  /// Throws std::system_error.
  Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  /// Unblocks them.
  ~Signals();

  int fd() const { return fd_.get(); }
  /// The next signal that waits, or nothing. Never blocks.
  std::optional<int> take() noexcept;
  /// Lets signals through to their handlers from now on: they end the process.
  void let_through() noexcept;

 private:
  sigset_t set_{};
  sigset_t previous_{};
  Fd fd_;
};

/// How the process is to end.
struct Ending {
  int signal = 0;  ///< by this one, unless 0
  int status = 0;
  std::vector<std::string> details;  ///< lines for the user
};

/// The exit status that tells of `outcome`.
int exit_status_of(const Outcome& outcome);

/// Returns when the machine, which has been started, has ended or was made to; it is stopped then.
Ending supervise(MachineControl& machine, Signals& signals, Terminal& terminal, uint64_t grace_ms);

/// Ends the process by `signal` with its default action. Everything must be torn down by now.
[[noreturn]] void die_by(int signal);

}  // namespace ringlet
