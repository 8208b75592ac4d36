// The user's terminal: raw while the guest has it, and given back as it was.
#include "vmm/terminal.h"

#include <atomic>
#include <cassert>

#include <termios.h>
#include <unistd.h>

namespace ringlet {
namespace {

// What a signal handler needs. `original` is written before `raw_fd`, which publishes it.
std::atomic<int> raw_fd{-1};
std::atomic<bool> in_use{false};
termios original{};
bool original_known = false;

bool in_foreground(int fd) {
  return ::tcgetpgrp(fd) == ::getpgrp();
}

termios raw_mode(termios mode) {
  // No line editing, echo, signals or flow control: Ctrl-C, Ctrl-Z and Ctrl-S are the guest's.
  // Output processing stays on: log lines on stderr would otherwise form a staircase.
  const auto output = mode.c_oflag;
  ::cfmakeraw(&mode);
  mode.c_oflag = output;
  mode.c_cc[VMIN] = 1;
  mode.c_cc[VTIME] = 0;
  return mode;
}

}  // namespace

Terminal::Terminal(int fd) : fd_(fd >= 0 && ::isatty(fd) == 1 ? fd : -1) {
  [[maybe_unused]] const bool another = in_use.exchange(true);
  assert(!another);
  original_known = false;
  enter();
}

Terminal::~Terminal() {
  leave();
  in_use = false;
}

void Terminal::enter() noexcept {
  if (fd_ < 0 || !in_foreground(fd_)) return;
  // Read once: after a stop, the shell may hand the terminal back already raw.
  if (!original_known) original_known = ::tcgetattr(fd_, &original) == 0;
  if (!original_known) return;
  raw_fd = fd_;
  const termios raw = raw_mode(original);
  ::tcsetattr(fd_, TCSANOW, &raw);
}

void Terminal::leave() noexcept {
  restore_from_signal();
}

bool Terminal::is_raw() const noexcept {
  return raw_fd >= 0;
}

void Terminal::restore_from_signal() noexcept {
  const int fd = raw_fd.exchange(-1);
  // In the background the terminal is someone else's, and setting it would stop this process.
  if (fd >= 0 && in_foreground(fd)) ::tcsetattr(fd, TCSANOW, &original);
}

}  // namespace ringlet
