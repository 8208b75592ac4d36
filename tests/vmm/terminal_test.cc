// Tests of the terminal and of its return after a crash, on a pseudo-terminal of their own.
#include "vmm/terminal.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "kvm/fd.h"
#include "vmm/crash.h"
#include "vmm/machine_control.h"
#include "vmm/supervisor.h"

namespace ringlet {
namespace {

bool same_mode(const termios& a, const termios& b) {
  return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag &&
         a.c_lflag == b.c_lflag;
}

termios mode_of(int fd) {
  termios mode{};
  ::tcgetattr(fd, &mode);
  return mode;
}

/// Waits for a child that runs `body` and ends with what that returns; its wait status.
template <typename Body>
int wait_for(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (const int signal : {SIGABRT, SIGQUIT, SIGTERM, SIGINT, SIGHUP, SIGBUS}) {
      ::signal(signal, SIG_DFL);  // Catch has handlers of its own
    }
    ::_exit(body());
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

struct Result {
  int status = -1;        ///< the wait status of the process that ran the body
  bool restored = false;  ///< the terminal is in the mode it had before
};

/// Runs body(terminal) in a process whose controlling terminal it is. The session's leader, a
/// process in between, outlives it: a terminal loses its mode with its session.
template <typename Body>
Result on_terminal(Body body) {
  const Fd master(::posix_openpt(O_RDWR | O_NOCTTY));
  ::grantpt(master.get());
  ::unlockpt(master.get());
  const std::string name = ::ptsname(master.get());
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const Fd from_leader(pipe_ends[0]);
  const Fd to_test(pipe_ends[1]);
  wait_for([&] {
    ::setsid();
    const int terminal = ::open(name.c_str(), O_RDWR);
    const termios before = mode_of(terminal);
    Result result;
    result.status = wait_for([&] { return body(terminal); });
    result.restored = same_mode(before, mode_of(terminal));
    return ::write(to_test.get(), &result, sizeof result) == sizeof result ? 0 : 1;
  });
  Result result;
  REQUIRE(::read(from_leader.get(), &result, sizeof result) == sizeof result);
  return result;
}

TEST_CASE("the guest gets every key while the terminal is raw, and its mode comes back") {
  const auto result = on_terminal([](int fd) {
    const Terminal terminal(fd);
    const termios mode = mode_of(fd);
    const bool raw = (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0 && (mode.c_iflag & IXON) == 0;
    const bool output_processed = (mode.c_oflag & OPOST) != 0;
    return raw && output_processed && terminal.is_raw() ? 17 : 1;
  });
  REQUIRE(WIFEXITED(result.status));
  CHECK(WEXITSTATUS(result.status) == 17);
  CHECK(result.restored);
}

TEST_CASE("a terminal that was left can be entered again") {
  const auto result = on_terminal([](int fd) {
    Terminal terminal(fd);
    const termios raw = mode_of(fd);
    terminal.leave();
    const bool left = !same_mode(raw, mode_of(fd));
    terminal.enter();
    return left && same_mode(raw, mode_of(fd)) ? 17 : 1;
  });
  CHECK(WEXITSTATUS(result.status) == 17);
  CHECK(result.restored);
}

TEST_CASE("a process that never had a terminal raw leaves it alone") {
  const auto result = on_terminal([](int fd) {
    ::setpgid(0, 0);  // a background job
    const Terminal terminal(fd);
    return terminal.is_raw() ? 1 : 17;
  });
  CHECK(WEXITSTATUS(result.status) == 17);
  CHECK(result.restored);
}

TEST_CASE("a file is no terminal") {
  const Fd file(::open("/dev/null", O_RDONLY));
  CHECK_FALSE(Terminal(file.get()).is_raw());
  CHECK_FALSE(Terminal(-1).is_raw());
}

TEST_CASE("an abort restores the terminal and is still an abort") {
  const auto result = on_terminal([](int fd) {
    install_crash_handlers();
    const Terminal terminal(fd);
    std::abort();
    return 0;
  });
  REQUIRE(WIFSIGNALED(result.status));
  CHECK(WTERMSIG(result.status) == SIGABRT);
  CHECK(result.restored);
}

TEST_CASE("a deadly signal restores the terminal and is still deadly") {
  const int signal = GENERATE(SIGQUIT, SIGTERM, SIGUSR1, SIGALRM, SIGXCPU);
  const auto result = on_terminal([signal](int fd) {
    install_crash_handlers();
    const Terminal terminal(fd);
    ::raise(signal);
    return 0;
  });
  REQUIRE(WIFSIGNALED(result.status));
  CHECK(WTERMSIG(result.status) == signal);
  CHECK(result.restored);
}

TEST_CASE("a signal that was ignored stays so") {
  const int status = wait_for([] {
    ::signal(SIGHUP, SIG_IGN);
    install_crash_handlers();
    ::raise(SIGHUP);
    return 17;
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 17);
}

TEST_CASE("a page of guest memory that the host cannot provide has its own exit status") {
  std::string name = "/tmp/ringlet-terminal-XXXXXX";
  const Fd file(::mkstemp(name.data()));
  ::unlink(name.c_str());
  REQUIRE(::ftruncate(file.get(), 0x1000) == 0);
  const int status = wait_for([&] {
    ::close(STDERR_FILENO);
    install_crash_handlers();
    const AddrRange range{0, 0x1000};
    const GuestMemory memory(std::span(&range, 1), {.kind = MemoryBacking::Kind::PrivateFile,
                                                    .huge_pages = false,
                                                    .file = file.get(),
                                                    .file_offset = 0});
    watch_guest_memory(&memory);
    const int cut = ::ftruncate(file.get(), 0);
    return memory.read<uint8_t>(GuestAddr(0)) == cut ? 17 : 18;
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 6);
}

/// A machine that ends with the terminal's state when it is stopped.
class TerminalWatcher : public MachineControl {
 public:
  explicit TerminalWatcher(const Terminal& terminal) : terminal_(terminal) {}
  void start() override {}
  int outcome_fd() const override { return never_.fd(); }
  Outcome outcome() const override { return {}; }
  void press_power_button() override {}
  void stop() override { raw_at_stop = terminal_.is_raw(); }
  bool raw_at_stop = false;

 private:
  const Terminal& terminal_;
  EventFd never_;
};

TEST_CASE("a continued process takes its terminal again") {
  const auto result = on_terminal([](int fd) {
    Signals signals;
    Terminal terminal(fd);
    terminal.leave();
    TerminalWatcher machine(terminal);
    ::raise(SIGCONT);
    ::raise(SIGTERM);
    const auto ending = supervise(machine, signals, terminal, 0);
    return machine.raw_at_stop && ending.signal == SIGTERM ? 17 : 1;
  });
  CHECK(WEXITSTATUS(result.status) == 17);
  CHECK(result.restored);
}

}  // namespace
}  // namespace ringlet
