// The main thread while a machine runs: waits for its end or for a signal.
#include "vmm/supervisor.h"

#include <sys/signalfd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>

#include <poll.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/log.h"

namespace ringlet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array kSignals{SIGTERM, SIGINT, SIGHUP, SIGTSTP, SIGCONT};

bool is_ignored(int signal) {
  struct sigaction action {};
  check(::sigaction(signal, nullptr, &action), "sigaction");
  return action.sa_handler == SIG_IGN;
}

/// The wait until `deadline` for poll(): rounded up, so that it is over when poll() returns.
int poll_timeout_ms(const std::optional<Clock::time_point>& deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

/// Stops as the user's kill -TSTP wants it. Ctrl-Z never comes here: in raw mode it is the guest's.
void stop_process(Terminal& terminal) {
  terminal.leave();
  ::kill(::getpid(), SIGSTOP);  // back with SIGCONT, which waits in the signalfd
}

}  // namespace

Signals::Signals() {
  ::sigemptyset(&set_);
  for (const int signal : kSignals) {
    if (!is_ignored(signal)) ::sigaddset(&set_, signal);
  }
  fd_.reset(check(::signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
  check(::sigprocmask(SIG_BLOCK, &set_, &previous_), "sigprocmask");
}

Signals::~Signals() {
  let_through();
}

std::optional<int> Signals::take() noexcept {
  signalfd_siginfo info{};
  if (::read(fd(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

void Signals::let_through() noexcept {
  ::sigprocmask(SIG_SETMASK, &previous_, nullptr);
}

int exit_status_of(const Outcome& outcome) {
  using Kind = Outcome::Kind;
  switch (outcome.kind) {
    case Kind::PowerOff: return to_int(ExitStatus::PowerOff);
    case Kind::Reset: return to_int(ExitStatus::Reset);
    case Kind::Panic: return to_int(ExitStatus::Panic);
    case Kind::Crash: return to_int(ExitStatus::Crash);
    case Kind::DebugExit: return outcome.status;
    case Kind::UserLeft: return to_int(ExitStatus::Left);
    case Kind::None:
    case Kind::HostError: break;
  }
  return to_int(ExitStatus::HostError);
}

Ending supervise(MachineControl& machine, Signals& signals, Terminal& terminal, uint64_t grace_ms) {
  int ended_by = 0;
  std::optional<Clock::time_point> deadline;
  while (true) {
    std::array<pollfd, 2> fds{{{.fd = machine.outcome_fd(), .events = POLLIN, .revents = 0},
                               {.fd = signals.fd(), .events = POLLIN, .revents = 0}}};
    const int ready = ::poll(fds.data(), fds.size(), poll_timeout_ms(deadline));
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    if (ready > 0 && fds[0].revents != 0) {
      // One that came at the same time must not end the process before the machine has stopped.
      while (const auto signal = signals.take()) {
        if (ended_by == 0 && *signal != SIGTSTP && *signal != SIGCONT) ended_by = *signal;
      }
      signals.let_through();
      machine.stop();
      const Outcome outcome = machine.outcome();
      return {.signal = ended_by, .status = exit_status_of(outcome), .details = outcome.details};
    }
    const auto signal = signals.take();
    if (signal == SIGTSTP) {
      stop_process(terminal);
    } else if (signal == SIGCONT) {
      terminal.enter();
    } else if (signal && ended_by == 0) {
      log_info("signal {}: pressing the power button", *signal);
      ended_by = *signal;
      deadline = Clock::now() + std::chrono::milliseconds(grace_ms);
      machine.press_power_button();
    } else if (signal || (deadline && Clock::now() >= *deadline)) {
      log_info("{}: stopping the machine", signal ? "second signal" : "the grace time is over");
      signals.let_through();
      machine.stop();
      return {.signal = ended_by, .status = 0, .details = {}};
    }
  }
}

void die_by(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
  ::_exit(128 + signal);  // what a shell would report; not reached unless the signal is blocked
}

}  // namespace ringlet
