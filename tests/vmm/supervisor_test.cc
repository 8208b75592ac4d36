// Tests of the main thread's supervision, with a machine that only notes what is asked of it.
#include "vmm/supervisor.h"

#include <sys/wait.h>

#include <functional>

#include <catch2/catch.hpp>
#include <unistd.h>

namespace ringlet {
namespace {

constexpr uint64_t kForeverMs = 86'400'000;

class FakeMachine : public MachineControl {
 public:
  void start() override { calls += "start "; }
  int outcome_fd() const override { return ended_.fd(); }
  Outcome outcome() const override { return ending; }
  void press_power_button() override {
    calls += "press ";
    on_press();
  }
  void stop() override { calls += "stop "; }
  void end() { ended_.signal(); }

  std::string calls;
  Outcome ending{.kind = Outcome::Kind::Reset, .status = 0, .details = {"reset"}};
  std::function<void()> on_press = [] {};

 private:
  EventFd ended_;
};

/// As a program finds signals unless its maker ignores some, as nohup does SIGHUP.
struct DefaultActions {
  DefaultActions() {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::signal(signal, SIG_DFL);
  }
};

struct Supervision {
  DefaultActions actions;
  Signals signals;
  Terminal terminal{-1};
  FakeMachine machine;
  Ending run(uint64_t grace_ms) { return supervise(machine, signals, terminal, grace_ms); }
};

TEST_CASE("a machine that ends by itself is stopped and gives its status") {
  Supervision test;
  test.machine.end();
  const auto ending = test.run(kForeverMs);
  CHECK(ending.signal == 0);
  CHECK(ending.status == 3);
  CHECK(ending.details == std::vector<std::string>{"reset"});
  CHECK(test.machine.calls == "stop ");
}

TEST_CASE("a signal presses the power button, and the process ends by it all the same") {
  Supervision test;
  test.machine.on_press = [&] { test.machine.end(); };
  ::raise(SIGTERM);
  const auto ending = test.run(kForeverMs);
  CHECK(ending.signal == SIGTERM);
  CHECK(test.machine.calls == "press stop ");
}

TEST_CASE("a signal that comes as the machine ends lets it stop in order") {
  Supervision test;
  test.machine.end();
  ::raise(SIGTERM);
  const auto ending = test.run(kForeverMs);
  CHECK(ending.signal == SIGTERM);
  CHECK(ending.status == 3);
  CHECK(test.machine.calls == "stop ");
}

TEST_CASE("a guest that does not react is stopped after the grace time") {
  Supervision test;
  ::raise(SIGINT);
  const auto ending = test.run(1);
  CHECK(ending.signal == SIGINT);
  CHECK(test.machine.calls == "press stop ");
}

TEST_CASE("a second signal stops at once, and the first one names the end") {
  Supervision test;
  test.machine.on_press = [] { ::raise(SIGTERM); };
  ::raise(SIGHUP);
  const auto ending = test.run(kForeverMs);
  CHECK(ending.signal == SIGHUP);
  CHECK(test.machine.calls == "press stop ");
}

TEST_CASE("a process ends by the signal that it is to die by") {
  const pid_t child = ::fork();
  if (child == 0) die_by(SIGTERM);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("a signal that was ignored before is not taken") {
  ::signal(SIGHUP, SIG_IGN);
  {
    Signals signals;
    ::raise(SIGHUP);
    CHECK_FALSE(signals.take().has_value());
  }
  ::signal(SIGHUP, SIG_DFL);
}

TEST_CASE("every outcome has the exit status that the table gives it") {
  using Kind = Outcome::Kind;
  CHECK(exit_status_of({.kind = Kind::PowerOff, .status = 0, .details = {}}) == 0);
  CHECK(exit_status_of({.kind = Kind::HostError, .status = 0, .details = {}}) == 1);
  CHECK(exit_status_of({.kind = Kind::Reset, .status = 0, .details = {}}) == 3);
  CHECK(exit_status_of({.kind = Kind::Panic, .status = 0, .details = {}}) == 4);
  CHECK(exit_status_of({.kind = Kind::Crash, .status = 0, .details = {}}) == 5);
  CHECK(exit_status_of({.kind = Kind::UserLeft, .status = 0, .details = {}}) == 7);
  CHECK(exit_status_of({.kind = Kind::DebugExit, .status = 33, .details = {}}) == 33);
}

}  // namespace
}  // namespace ringlet
