// Tests of signals and of the terminal: how they end a machine, and what the user gets back.
#include <sys/syscall.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>

#include <catch2/catch.hpp>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;

/// A guest that takes no notice of the power button.
Arguments deaf_guest(const std::string& grace) {
  return guest("legacy", "what=spin", {"--grace", grace, "--log-level", "info"});
}

bool same_settings(const termios& a, const termios& b) {
  return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag &&
         a.c_lflag == b.c_lflag && std::memcmp(a.c_cc, b.c_cc, sizeof a.c_cc) == 0;
}

termios settings(const Process& process) {
  termios mode{};
  check(::tcgetattr(process.terminal(), &mode), "tcgetattr");
  return mode;
}

bool is_raw(const Process& process) {
  return (settings(process).c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

/// What a fresh pseudo-terminal is set to.
termios fresh_settings() {
  Process process({"/bin/true"}, Process::Stdio::Terminal);
  const termios mode = settings(process);
  process.wait_for_end();
  return mode;
}

/// The process as a whole, as ps shows it: T for stopped.
char state(const Process& process) {
  std::ifstream stat("/proc/" + std::to_string(process.pid()) + "/stat");
  std::string pid, name, state;
  stat >> pid >> name >> state;
  return state[0];
}

/// Waits until the guest runs and has the terminal to itself.
void wait_until_raw(Process& process, const std::string& greeting) {
  REQUIRE(process.wait_for_output(greeting));
  REQUIRE(process.wait_without_reading([&] { return is_raw(process); }));
}

// ---- Signals -----------------------------------------------------------------------------------

TEST_CASE("SIGTERM presses the power button, and a guest that listens powers off") {
  Process process(guest("legacy", "what=powerbutton", {"--grace", "600s"}));
  REQUIRE(process.wait_for_output("waiting for the power button\n"));
  process.send_signal(SIGTERM);
  const Ended end = process.wait_for_end();
  CHECK_THAT(end.output, EndsWith("\npower button\n"));
  CHECK(end.signal == SIGTERM);
}

TEST_CASE("SIGINT and SIGHUP do the same, and end the process themselves") {
  for (const int signal : {SIGINT, SIGHUP}) {
    Process process(guest("legacy", "what=powerbutton", {"--grace", "600s"}));
    REQUIRE(process.wait_for_output("waiting for the power button\n"));
    process.send_signal(signal);
    const Ended end = process.wait_for_end();
    CHECK_THAT(end.output, EndsWith("\npower button\n"));
    CHECK(end.signal == signal);
  }
}

TEST_CASE("a guest that takes no notice is stopped when the grace time is over") {
  Process process(deaf_guest("100ms"));
  REQUIRE(process.wait_for_output("spinning\n"));
  process.send_signal(SIGTERM);
  const Ended end = process.wait_for_end();
  CHECK(end.signal == SIGTERM);
  CHECK_THAT(end.log, Contains("signal 15: pressing the power button") &&
                          Contains("the grace time is over: stopping the machine"));
}

TEST_CASE("a second signal stops the machine at once") {
  Process process(deaf_guest("600s"));
  REQUIRE(process.wait_for_output("spinning\n"));
  process.send_signal(SIGTERM);
  REQUIRE(process.wait_for_log("pressing the power button"));
  process.send_signal(SIGTERM);
  const Ended end = process.wait_for_end();
  CHECK(end.signal == SIGTERM);
  CHECK_THAT(end.log, Contains("second signal: stopping the machine"));
}

TEST_CASE("a guest that halts for good is stopped too, on every vCPU") {
  Process process(guest("legacy", "what=halt", {"--grace", "0ms", "--cpus", "4"}));
  REQUIRE(process.wait_for_output("halting\n"));
  process.send_signal(SIGTERM);
  CHECK(process.wait_for_end().signal == SIGTERM);
}

TEST_CASE("a machine whose output nobody reads goes on to its end") {
  Process process(guest("hello", ""), Process::Stdio::ClosedOutput);
  CHECK(process.wait_for_end().status == 1);
}

TEST_CASE("a machine whose output is stuck goes on to its end") {
  Process process(guest("legacy", "what=serial-flood"));
  // Never reading: the pipe is full, and so is what ringlet keeps for it.
  REQUIRE(process.wait_without_reading([&] { return state(process) == 'Z'; }));
  const Ended end = process.wait_for_end();
  CHECK(end.status == 1);
  CHECK(end.output == std::string(end.output.size(), 'x'));
  CHECK(end.output.size() >= 4096);
}

// ---- The terminal ------------------------------------------------------------------------------

TEST_CASE("Ctrl-A X leaves the machine with status 7, and the terminal is as it was") {
  const termios before = fresh_settings();
  Process process(guest("legacy", "what=spin"), Process::Stdio::Terminal);
  wait_until_raw(process, "spinning");
  process.type("\x01x");
  CHECK(process.wait_for_end().status == 7);
  CHECK(same_settings(settings(process), before));
}

TEST_CASE("a guest with a terminal gets Ctrl-C and everything else that is typed") {
  Process process(guest("legacy", "what=serial-irq"), Process::Stdio::Terminal);
  wait_until_raw(process, "sent by interrupts");
  process.type("a\x03\x1a\x13\x04\x7f\x01\x01z\n");
  REQUIRE(process.wait_for_output("echo: a\x03\x1a\x13\x04\x7f\x01z"));
  process.type("quit\n");
  CHECK(process.wait_for_end().status == 1);
}

TEST_CASE("the terminal is as it was after the guest's own end") {
  const termios before = fresh_settings();
  Process process(guest("legacy", "what=powerbutton"), Process::Stdio::Terminal);
  wait_until_raw(process, "waiting for the power button");
  process.send_signal(SIGTERM);
  process.wait_for_end();
  CHECK(same_settings(settings(process), before));
}

TEST_CASE("the terminal is as it was after SIGTERM stopped a deaf guest") {
  const termios before = fresh_settings();
  Process process(deaf_guest("10ms"), Process::Stdio::Terminal);
  wait_until_raw(process, "spinning");
  process.send_signal(SIGTERM);
  CHECK(process.wait_for_end().signal == SIGTERM);
  CHECK(same_settings(settings(process), before));
}

TEST_CASE("the terminal is as it was after ringlet crashed") {
  const termios before = fresh_settings();
  for (const int signal : {SIGSEGV, SIGABRT, SIGQUIT}) {
    Process process(guest("legacy", "what=spin"), Process::Stdio::Terminal);
    wait_until_raw(process, "spinning");
    process.send_signal(signal);
    process.wait_for_end();
    CHECK(same_settings(settings(process), before));
  }
}

TEST_CASE("a stopped machine gives the terminal back, and takes it again when it goes on") {
  const termios before = fresh_settings();
  Process process(guest("legacy", "what=serial-irq"), Process::Stdio::Terminal);
  wait_until_raw(process, "sent by interrupts");
  process.send_signal(SIGTSTP);
  REQUIRE(process.wait_without_reading([&] { return state(process) == 'T'; }));
  CHECK(same_settings(settings(process), before));
  process.send_signal(SIGCONT);
  CHECK(process.wait_without_reading([&] { return is_raw(process); }));
  process.type("still here\n");
  CHECK(process.wait_for_output("echo: still here"));
}

// ---- Lost memory -------------------------------------------------------------------------------

/// The start of the process's mapping of `name`.
uintptr_t mapping(pid_t pid, const std::string& name) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  uintptr_t start = 0;
  for (std::string line; start == 0 && std::getline(maps, line);) {
    const bool found = line.find(name) != std::string::npos;
    std::from_chars(line.data(), line.data() + (found ? line.find('-') : 0), start, 16);
  }
  return start;
}

/// Sends the SIGBUS that a page which cannot be had raises.
void lose_page(const Process& process, uintptr_t address) {
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_code = SI_QUEUE;  // the kernel's own codes are not for others to send
  info.si_addr = reinterpret_cast<void*>(address);
  check(::syscall(SYS_rt_sigqueueinfo, process.pid(), SIGBUS, &info), "rt_sigqueueinfo");
}

TEST_CASE("a page of guest memory that the host cannot provide ends with status 6") {
  Process process(guest("legacy", "what=spin", {"--memory-backing", "shared"}));
  REQUIRE(process.wait_for_output("spinning\n"));
  const uintptr_t address = mapping(process.pid(), "memfd:");
  REQUIRE(address != 0);
  lose_page(process, address + 4096);
  const Ended end = process.wait_for_end();
  CHECK(end.status == 6);
  CHECK(end.log == "ringlet: the host could not provide a page of guest memory (SIGBUS)\n");
}

TEST_CASE("a SIGBUS from anywhere else is a crash") {
  Process process(guest("legacy", "what=spin", {"--memory-backing", "shared"}));
  REQUIRE(process.wait_for_output("spinning\n"));
  lose_page(process, 4096);
  CHECK(process.wait_for_end().status != 6);
}

}  // namespace
}  // namespace ringlet
