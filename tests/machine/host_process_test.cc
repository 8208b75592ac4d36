// Tests of what happens to the process itself: descriptors closed, a terminal gone, stopped and
// continued, held by a debugger.
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;

constexpr uint64_t kMib = 1 << 20;

/// The process as a whole, as ps shows it: T for stopped.
char state(const Process& process) {
  std::ifstream stat("/proc/" + std::to_string(process.pid()) + "/stat");
  std::string pid, name, state;
  stat >> pid >> name >> state;
  return state[0];
}

/// A guest that writes and announces numbers from 1 on, until it is killed.
class Writer {
  TemporaryDirectory files_;  // before the process, which uses it

 public:
  Process process{guest("writer", "", {"--disk", "path=" + files_.make_disk("disk", kMib)})};

  /// Waits until it has come `further` numbers on.
  bool goes_on(uint64_t further = 5) {
    next_ += further;
    return process.wait_for_output("\n" + std::to_string(next_) + "\n");
  }
  void check_killed() {
    process.send_signal(SIGKILL);
    const Ended end = process.wait_for_end();
    CHECK(end.signal == SIGKILL);
    CHECK(end.log == "");
  }

 private:
  uint64_t next_ = 0;
};

// ---- Standard descriptors ----------------------------------------------------------------------

TEST_CASE("with stdin, stdout and stderr closed no file of the machine takes their place") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kMib);
  const Ended end = run(guest("hello", "code=5", {"--disk", disk, "--log-level", "debug"}), [] {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
  });
  CHECK(end.status == 11);
  CHECK(files.read("disk") == std::string(kMib, '\0'));
}

TEST_CASE("a stdout without room is given up in one line, and the guest goes on") {
  const Ended end = run(guest("hello", "code=5"),
                        [] { ::dup2(::open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO); });
  CHECK(end.status == 11);
  CHECK_THAT(end.log,
             EndsWith("console output is discarded from now on: No space left on device\n"));
  CHECK(std::ranges::count(end.log, '\n') == 1);
}

// ---- The terminal ------------------------------------------------------------------------------

TEST_CASE("a terminal that goes away presses the power button, and the guest ends in order") {
  const TemporaryDirectory files;
  const std::string log = files.path("log");
  Process process(guest("legacy", "what=powerbutton",
                        {"--grace", "600s", "--log-file", log, "--log-level", "info"}),
                  Process::Stdio::Terminal);
  REQUIRE(process.wait_for_output("waiting for the power button"));
  process.hang_up();
  const Ended end = process.wait_for_end();
  CHECK(end.signal == SIGHUP);
  CHECK_THAT(files.read("log"), Contains("signal 1: pressing the power button"));
}

TEST_CASE("a machine that ignores hang-ups goes on without its terminal") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kMib);
  Process process(guest("script", "do=w0,r100,r100!,w7,f", {"--disk", disk}),
                  Process::Stdio::Terminal, [] { ::signal(SIGHUP, SIG_IGN); });
  REQUIRE(process.wait_for_output("r100: 0"));
  process.hang_up();
  std::filesystem::resize_file(disk, 50 * 4096);
  CHECK(process.wait_for_end().status == 1);
  CHECK(files.read("disk").substr(7 * 4096, 4096) == std::string(4096, 'H'));
}

// ---- Stopped and continued ---------------------------------------------------------------------

TEST_CASE("a machine that is stopped and continued goes on where it was, again and again") {
  Writer writer;
  for (int round = 0; round < 20; ++round) {
    REQUIRE(writer.goes_on());
    writer.process.send_signal(SIGSTOP);
    REQUIRE(writer.process.wait_without_reading([&] { return state(writer.process) == 'T'; }));
    writer.process.send_signal(SIGCONT);
  }
  CHECK(writer.goes_on());
  writer.check_killed();
}

// ---- A debugger --------------------------------------------------------------------------------

/// Attaches to every thread and stops it, and lets all go again: what `gdb -p` and `quit` do.
/// Returns how many threads were held; -1 when this host forbids it.
int hold_all_threads(pid_t pid) {
  std::vector<pid_t> held;
  const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
    const pid_t thread = std::stoi(entry.path().filename());
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) == 0) {
      held.push_back(thread);
    } else if (thread == pid) {
      return -1;
    }  // others may have ended, or be the kernel's own, which do I/O for the process
  }
  for (const pid_t thread : held)
    check(::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr), "stop");
  for (const pid_t thread : held) {
    int status = 0;
    check(::waitpid(thread, &status, __WALL), "waitpid of a thread");
  }
  for (const pid_t thread : held) ::ptrace(PTRACE_DETACH, thread, nullptr, nullptr);
  return static_cast<int>(held.size());
}

TEST_CASE("a machine that a debugger holds and lets go is unharmed, again and again") {
  Writer writer;
  for (int round = 0; round < 20; ++round) {
    REQUIRE(writer.goes_on());
    const int held = hold_all_threads(writer.process.pid());
    if (held < 0) {
      WARN("SKIPPED: no debugger was attached, this host allows none");
      return;
    }
    // The main thread, the I/O loop and the vCPU.
    CHECK(held >= 3);
  }
  CHECK(writer.goes_on());
  writer.check_killed();
}

}  // namespace
}  // namespace ringlet
