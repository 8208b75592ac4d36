// Runs the ringlet binary as its users do: arguments, pipes or a terminal, signals, exit status.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "kvm/fd.h"

namespace ringlet {

using Arguments = std::vector<std::string>;

/// What a finished process leaves.
struct Ended {
  int status = -1;     ///< its exit status; -1 when a signal ended it
  int signal = 0;      ///< that signal
  std::string output;  ///< stdout, from the start
  std::string log;     ///< stderr, or all when it has a terminal
};

/// A running process. One that does not do what it is waited for within minutes is killed, and
/// its test fails; one that is still there at the end is killed as well. Throws std::system_error.
class Process {
 public:
  enum class Stdio {
    Pipes,
    ClosedOutput,  ///< stdout is a pipe whose reader is gone
    Terminal,      ///< all three are a pseudo-terminal, the controlling one
  };

  /// What a child process does to itself before it becomes the program: async-signal-safe calls
  /// only, and no throwing.
  using Prepare = std::function<void()>;

  explicit Process(Arguments command, Stdio stdio = Stdio::Pipes, const Prepare& prepare = {});
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  /// The test's end of the terminal.
  int terminal() const { return terminal_.get(); }
  /// Hands over input while the functions below wait.
  void type(std::string_view input) { input_ += input; }
  /// The end of the input follows what was typed.
  void end_input() { input_ends_ = true; }
  void send_signal(int signal) const;
  /// Takes the terminal away, as a closed window or a lost connection does.
  void hang_up();

  /// Reads on until stdout (the terminal) has `text` behind what an earlier call returned for;
  /// false when the process ends without.
  bool wait_for_output(std::string_view text);
  /// The same with stderr.
  bool wait_for_log(std::string_view text);
  /// Waits, without reading stdout, until `condition` holds, which is asked every few
  /// milliseconds: for what is seen from outside only. False when the time is over.
  bool wait_without_reading(const std::function<bool()>& condition);
  /// Reads everything and waits for the end.
  Ended wait_for_end();

 private:
  struct Stream {
    Fd fd;
    std::string text;
    size_t seen = 0;
  };
  using Clock = std::chrono::steady_clock;

  void start_child(const Arguments& command, std::array<int, 3> fds, bool controlling_terminal,
                   const Prepare& prepare);
  bool wait_for(Stream& stream, std::string_view text);
  /// Moves what can be moved, waiting for it until `deadline`; false when the process has ended
  /// and all that it wrote has been read.
  bool exchange_some(Clock::time_point deadline);
  void write_some();
  int input_fd() const { return terminal_ ? terminal_.get() : stdin_.get(); }

  pid_t pid_ = -1;
  Fd pidfd_;  // readable once the process has ended
  Fd terminal_;
  Fd terminal_child_end_;  // or its settings would go with the process
  Fd stdin_;
  Stream out_;
  Stream log_;
  std::string input_;
  bool input_ends_ = false;
};

/// `ringlet ARGUMENTS...`
Arguments ringlet(std::initializer_list<std::string> arguments);
/// `ringlet run` with one of tests/guests, the debug ports it needs, and more options.
Arguments guest(const std::string& name, const std::string& cmdline, const Arguments& more = {});

/// Starts it and waits for its end.
Ended run(const Arguments& command, const Process::Prepare& prepare = {});

/// A directory that goes with the object, and files in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  /// Makes a file of `size` bytes, all zeroes and not allocated; returns its path.
  std::string make_disk(const std::string& name, uint64_t size) const;
  /// Makes a file of `size` bytes that look random and are the same every time.
  std::string make_filled_disk(const std::string& name, uint64_t size) const;
  std::string write(const std::string& name, std::string_view content) const;
  std::string read(const std::string& name) const;
  /// The names of all files, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

}  // namespace ringlet
