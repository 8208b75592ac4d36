// Starts a process with its output in a pipe, and reads what /proc tells of it.
#include "tools/bench/vm_process.h"

#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <spawn.h>
#include <unistd.h>

#include "kvm/error.h"

namespace ringlet::bench {

namespace {

int64_t now_ns(clockid_t clock) {
  timespec time{};
  check(::clock_gettime(clock, &time), "clock_gettime");
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

pid_t spawn(const Command& command, int output) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawnattr_t attributes{};
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawn_file_actions_t actions{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  pid_t pid = -1;
  errno = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (errno != 0) throw_errno(command[0]);
  return pid;
}

}  // namespace

VmProcess::VmProcess(const Command& command) : command_(command) {
  std::array<int, 2> ends{};
  check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
  output_.reset(ends[0]);
  const Fd theirs(ends[1]);
  started_ns_ = now_ns(CLOCK_MONOTONIC);
  pid_ = spawn(command, theirs.get());
}

VmProcess::~VmProcess() {
  if (pid_ >= 0) kill();
}

void VmProcess::wait_for_first_byte() {
  char byte = 0;
  if (::read(output_.get(), &byte, 1) == 1) return;
  throw std::runtime_error(
      fmt::format("it ended before the guest wrote anything: {}", fmt::join(command_, " ")));
}

std::optional<std::string> VmProcess::read_line() {
  for (;;) {
    if (const size_t end = unread_.find('\n'); end != std::string::npos) {
      const std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(output_.get(), buffer.data(), buffer.size());
    if (count == 0) return std::nullopt;
    if (count < 0 && errno != EINTR) throw_errno("read from a pipe");
    if (count > 0) unread_.append(buffer.data(), static_cast<size_t>(count));
  }
}

bool VmProcess::wait_for_output(int timeout_ms) const {
  pollfd output{.fd = output_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&output, 1, timeout_ms) > 0;
}

void VmProcess::send_signal(int signal) const {
  check(::kill(-pid_, signal), "kill");
}

int VmProcess::wait_for_end() {
  while (read_line()) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

double VmProcess::wall_ms() const {
  return static_cast<double>(now_ns(CLOCK_MONOTONIC) - started_ns_) / 1e6;
}

double VmProcess::cpu_ms() const {
  clockid_t clock{};
  errno = ::clock_getcpuclockid(pid_, &clock);
  if (errno != 0) throw_errno("clock_getcpuclockid");
  return static_cast<double>(now_ns(clock)) / 1e6;
}

MemoryUse VmProcess::memory(uint64_t guest_mib) const {
  std::ifstream smaps(fmt::format("/proc/{}/smaps", pid_));
  MemoryUse use;
  bool is_guest = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kib = 0;
    words >> name >> kib;
    const auto amount = static_cast<double>(kib);
    if (name == "Size:") is_guest = kib == guest_mib << 10;
    if (name == "Rss:") (is_guest ? use.guest_rss : use.rss) += amount;
    if (name == "Private_Dirty:" && !is_guest) use.private_dirty += amount;
  }
  return use;
}

std::map<std::string, uint64_t> VmProcess::times_scheduled() const {
  std::map<std::string, uint64_t> by_thread;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_))) {
    std::ifstream schedstat(task.path() / "schedstat");
    uint64_t ran_ns = 0;
    uint64_t waited_ns = 0;
    uint64_t times = 0;
    schedstat >> ran_ns >> waited_ns >> times;
    by_thread[task.path().filename()] = times;
  }
  return by_thread;
}

double VmProcess::kill() {
  const int64_t from = now_ns(CLOCK_MONOTONIC);
  ::kill(-pid_, SIGKILL);  // with whom it started, as strace does
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return static_cast<double>(now_ns(CLOCK_MONOTONIC) - from) / 1e6;
}

}  // namespace ringlet::bench
