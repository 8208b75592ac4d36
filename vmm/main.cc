// The program: reads the command line, runs a machine, and turns every end into an exit status.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/log.h"
#include "vmm/check.h"
#include "vmm/cli.h"
#include "vmm/config_json.h"
#include "vmm/crash.h"
#include "vmm/machine.h"
#include "vmm/supervisor.h"
#include "vmm/terminal.h"

namespace ringlet {
namespace {

/// What a user is told when there is no machine (any more), in one line.
void complain(std::string_view message) {
  fmt::print(stderr, "ringlet: {}\n", message);
}

/// Which limit of the host a call has met, so that whoever set it finds it; empty for none.
std::string hint_for(const std::error_code& error) {
  if (error.category() != std::generic_category()) return {};
  switch (error.value()) {
    case EMFILE: {
      rlimit limit{};
      ::getrlimit(RLIMIT_NOFILE, &limit);
      return fmt::format("; expected a limit of open files (ulimit -n) above {}", limit.rlim_max);
    }
    case ENFILE: return "; the host's limit of open files, sysctl fs.file-max, is reached";
    case EAGAIN:
      return "; a limit of threads (ulimit -u, pids.max of the control group) or of memory "
             "(ulimit -v) is reached";
    case ENOMEM: return "; the host is out of memory, or a limit (ulimit -v) is too low";
    default: return {};
  }
}

/// A file opened later must not become stdin, stdout or stderr because a caller closed those.
void fill_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) check(::open("/dev/null", O_RDWR), "/dev/null");
  }
}

/// A disk with many queues needs hundreds of descriptors, more than the usual soft limit, which is
/// that low only for programs that use select().
void raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit(RLIMIT_NOFILE)");
  constexpr rlim_t kEnough = 16'384;
  if (limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, kEnough));
  check(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit(RLIMIT_NOFILE)");
}

/// By default glibc makes each thread a heap of its own, tens of microseconds and some pages each.
/// None of ours allocates enough to mind sharing one.
void share_one_heap() {
  ::mallopt(M_ARENA_MAX, 1);
}

int print(const std::string& text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) throw_errno("stdout");
  return to_int(ExitStatus::PowerOff);
}

/// Everything that lives as long as the machine, in the order of its start; the reverse order is
/// the shutdown.
Ending run_machine(const MachineConfig& config) {
  Signals signals;
  Machine machine(config);
  Terminal terminal(config.serial == "stdio" ? STDIN_FILENO : -1);
  machine.start();
  return supervise(machine, signals, terminal, config.grace_ms);
}

int run(const MachineConfig& config) {
  share_one_heap();
  validate_on_host(config);
  log_setup(config.log_level, config.log_file);
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  // Output that nobody reads and files at their limit are errors to handle, not reasons to die.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  install_crash_handlers();
  raise_descriptor_limit();
  const Ending ending = run_machine(config);
  constexpr int kLogFlushMs = 1000;
  log_flush(kLogFlushMs);
  for (const auto& line : ending.details) complain(line);
  if (ending.signal != 0) die_by(ending.signal);
  return ending.status;
}

int run_command(std::span<const char* const> args) {
  const CommandLine line = parse_command_line(args);
  switch (line.command) {
    case Command::Print: return print(line.text);
    case Command::DryRun:
      validate_on_host(line.machine);
      return print(machine_to_json(line.machine));
    case Command::Check: {
      const CheckReport report = check_host();
      print(line.json ? report_as_json(report) : report_as_table(report));
      return to_int(report.can_run ? ExitStatus::PowerOff : ExitStatus::HostError);
    }
    case Command::Run: break;
  }
  return run(line.machine);
}

}  // namespace
}  // namespace ringlet

int main(int argc, char** argv) {
  using ringlet::ExitStatus;
  ExitStatus status = ExitStatus::HostError;
  try {
    ringlet::fill_standard_descriptors();
    const std::vector<const char*> args(argv + std::min(argc, 1), argv + argc);
    return ringlet::run_command(args);
  } catch (const ringlet::ConfigError& error) {
    ringlet::complain(error.what());
    status = ExitStatus::Usage;
  } catch (const std::system_error& error) {
    ringlet::complain(error.what() + ringlet::hint_for(error.code()));
  } catch (const std::bad_alloc&) {
    ringlet::complain("out of memory" + ringlet::hint_for({ENOMEM, std::generic_category()}));
  } catch (const std::exception& error) {
    ringlet::complain(error.what());
  }
  constexpr int kLogFlushMs = 1000;
  ringlet::log_flush(kLogFlushMs);
  return ringlet::to_int(status);
}
