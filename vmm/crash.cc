// Last words: what happens when a signal ends the process without warning.
#include "vmm/crash.h"

#include <array>
#include <atomic>
#include <cassert>
#include <csignal>
#include <string_view>

#include <unistd.h>

#include "kvm/error.h"
#include "vmm/exit_status.h"
#include "vmm/terminal.h"

namespace ringlet {
namespace {

/// All that end a process by default, but for SIGKILL, which nobody can catch, and for those that
/// main ignores.
constexpr std::array kDeadlySignals{SIGSEGV,   SIGBUS,  SIGILL,  SIGFPE, SIGABRT, SIGTRAP,  SIGSYS,
                                    SIGQUIT,   SIGTERM, SIGINT,  SIGHUP, SIGUSR1, SIGUSR2,  SIGALRM,
                                    SIGVTALRM, SIGPROF, SIGXCPU, SIGIO,  SIGPWR,  SIGSTKFLT};

/// What was there before: the default, or a sanitizer's report.
std::array<struct sigaction, kDeadlySignals.size()> previous_actions{};
std::atomic<const GuestMemory*> watched_memory{nullptr};

/// True when returning from the handler runs the faulty instruction again, which raises the signal
/// anew with all of its details.
bool comes_again(int signal, const siginfo_t& info) {
  const bool fault = signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE;
  return fault && info.si_code > 0 && info.si_code != SI_KERNEL;
}

// Only async-signal-safe calls from here on.
void on_deadly_signal(int signal, siginfo_t* info, void* /*context*/) {
  Terminal::restore_from_signal();
  const GuestMemory* const memory = watched_memory;
  if (signal == SIGBUS && memory != nullptr && memory->contains_host(info->si_addr)) {
    constexpr std::string_view kMessage =
        "ringlet: the host could not provide a page of guest memory (SIGBUS)\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
    ::_exit(static_cast<int>(ExitStatus::MemoryLost));
  }
  for (size_t i = 0; i < kDeadlySignals.size(); ++i) {
    if (kDeadlySignals[i] == signal) ::sigaction(signal, &previous_actions[i], nullptr);
  }
  if (!comes_again(signal, *info)) ::raise(signal);  // waits until the handler returns
}

}  // namespace

void install_crash_handlers() {
  for (size_t i = 0; i < kDeadlySignals.size(); ++i) {
    struct sigaction& previous = previous_actions[i];
    struct sigaction action {};
    action.sa_sigaction = on_deadly_signal;
    action.sa_flags = SA_SIGINFO;
    ::sigfillset(&action.sa_mask);
    check(::sigaction(kDeadlySignals[i], &action, &previous), "sigaction");
    if (previous.sa_handler == SIG_IGN) {  // nohup, or a background job's SIGINT
      check(::sigaction(kDeadlySignals[i], &previous, nullptr), "sigaction");
    }
  }
}

void watch_guest_memory(const GuestMemory* memory) noexcept {
  watched_memory = memory;
}

}  // namespace ringlet
