// Runs the ringlet binary as its users do: arguments, pipes or a terminal, signals, exit status.
#include "tests/machine/run_ringlet.h"

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

/// Appends what there is to read; false when there is nothing.
bool read_some(Fd& fd, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t size = fd ? ::read(fd.get(), buffer.data(), buffer.size()) : 0;
  if (size > 0) text.append(buffer.data(), static_cast<size_t>(size));
  if (size == 0) fd.reset();
  return size > 0;
}

/// Far longer than anything takes, sanitizers and a busy machine included.
constexpr std::chrono::seconds kPatience{300};

std::pair<Fd, Fd> make_pipe() {
  std::array<int, 2> fds{};
  check(::pipe2(fds.data(), O_CLOEXEC), "pipe2");
  return {Fd(fds[0]), Fd(fds[1])};
}

void set_nonblocking(const Fd& fd) {
  check(::fcntl(fd.get(), F_SETFL, check(::fcntl(fd.get(), F_GETFL), "F_GETFL") | O_NONBLOCK),
        "F_SETFL");
}

}  // namespace

// ---- Process -----------------------------------------------------------------------------------

Process::Process(Arguments command, Stdio stdio, const Prepare& prepare) {
  // A process that is gone cannot take its input any more: that is no reason for tests to die.
  ::signal(SIGPIPE, SIG_IGN);
  if (stdio == Stdio::Terminal) {
    int ours = -1;
    int theirs = -1;
    check(::openpty(&ours, &theirs, nullptr, nullptr, nullptr), "openpty");
    terminal_.reset(ours);
    terminal_child_end_.reset(theirs);
    for (const int fd : {ours, theirs}) check(::fcntl(fd, F_SETFD, FD_CLOEXEC), "F_SETFD");
    out_.fd.reset(check(::fcntl(ours, F_DUPFD_CLOEXEC, 0), "F_DUPFD_CLOEXEC"));
    set_nonblocking(out_.fd);
    start_child(command, {theirs, theirs, theirs}, true, prepare);
    return;
  }
  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  auto [log_read, log_write] = make_pipe();
  for (const Fd* fd : {&in_write, &out_read, &log_read}) set_nonblocking(*fd);
  stdin_ = std::move(in_write);
  log_.fd = std::move(log_read);
  if (stdio == Stdio::Pipes) out_.fd = std::move(out_read);
  out_read.reset();
  start_child(command, {in_read.get(), out_write.get(), log_write.get()}, false, prepare);
}

Process::~Process() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Process::start_child(const Arguments& command, std::array<int, 3> fds,
                          bool controlling_terminal, const Prepare& prepare) {
  std::vector<char*> argv;
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  auto [started, starting] = make_pipe();
  pid_ = check(::fork(), "fork");
  if (pid_ != 0) {
    pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "pidfd_open")));
    // The pipe ends with exec: a signal sent from now on finds no handler of the tests'.
    starting.reset();
    char nothing = 0;
    check(::read(started.get(), &nothing, 1), "exec");
    return;
  }
  // In the child: only async-signal-safe calls. It must not outlive tests that crash.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_DFL);
  if (controlling_terminal) {
    ::setsid();
    ::ioctl(fds[0], TIOCSCTTY, 0);
  }
  for (int fd = 0; fd < 3; ++fd) ::dup2(fds[static_cast<size_t>(fd)], fd);
  // Whoever started the tests may ignore some, as nohup and the background jobs of a script do.
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) ::signal(signal, SIG_DFL);
  if (prepare) prepare();
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

void Process::send_signal(int signal) const {
  check(::kill(pid_, signal), "kill");
}

void Process::hang_up() {
  terminal_.reset();
  terminal_child_end_.reset();
  out_.fd.reset();
}

bool Process::wait_for_output(std::string_view text) {
  return wait_for(out_, text);
}

bool Process::wait_for_log(std::string_view text) {
  return wait_for(log_, text);
}

bool Process::wait_for(Stream& stream, std::string_view text) {
  const auto deadline = Clock::now() + kPatience;
  while (true) {
    const size_t at = stream.text.find(text, stream.seen);
    if (at != std::string::npos) {
      stream.seen = at + text.size();
      return true;
    }
    if (!exchange_some(deadline)) return false;
  }
}

bool Process::wait_without_reading(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + kPatience;
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    write_some();
    constexpr int kIntervalMs = 5;
    ::poll(nullptr, 0, kIntervalMs);
  }
  return true;
}

Ended Process::wait_for_end() {
  const auto deadline = Clock::now() + kPatience;
  while (exchange_some(deadline)) {
  }
  int status = 0;
  check(::waitpid(pid_, &status, 0), "waitpid");
  pid_ = -1;
  return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
          .output = out_.text,
          .log = log_.text};
}

bool Process::exchange_some(Clock::time_point deadline) {
  const bool writes = !input_.empty() && input_fd() >= 0;
  // A negative descriptor is passed over.
  std::array<pollfd, 4> fds{{
      {.fd = out_.fd.get(), .events = POLLIN, .revents = 0},
      {.fd = log_.fd.get(), .events = POLLIN, .revents = 0},
      {.fd = writes ? input_fd() : -1, .events = POLLOUT, .revents = 0},
      {.fd = pidfd_.get(), .events = POLLIN, .revents = 0},
  }};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(std::max<int64_t>(left, 0)));
  if (ready == 0) {
    throw std::runtime_error("a process did not do its work in time; it printed: " + out_.text +
                             "\nand logged: " + log_.text);
  }
  write_some();
  const bool read_output = read_some(out_.fd, out_.text);
  const bool read_log = read_some(log_.fd, log_.text);
  const bool ended = fds[3].revents != 0;
  return read_output || read_log || !ended;
}

void Process::write_some() {
  if (input_fd() >= 0 && !input_.empty()) {
    const ssize_t size = ::write(input_fd(), input_.data(), input_.size());
    if (size > 0) input_.erase(0, static_cast<size_t>(size));
    if (size < 0 && errno != EAGAIN) input_.clear();
  }
  if (input_ends_ && input_.empty()) stdin_.reset();
}

// ---- What is run -------------------------------------------------------------------------------

Arguments ringlet(std::initializer_list<std::string> arguments) {
  Arguments command{RINGLET_BINARY};
  command.insert(command.end(), arguments);
  return command;
}

Arguments guest(const std::string& name, const std::string& cmdline, const Arguments& more) {
  Arguments command = ringlet({"run", "--kernel", RINGLET_GUESTS "/" + name, "--cmdline", cmdline,
                               "--debug-console", "0xe9", "--debug-exit", "0xf4"});
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

Ended run(const Arguments& command, const Process::Prepare& prepare) {
  Process process(command, Process::Stdio::Pipes, prepare);
  process.end_input();
  return process.wait_for_end();
}

// ---- Files -------------------------------------------------------------------------------------

TemporaryDirectory::TemporaryDirectory() {
  // Not below /tmp, which may be a memory file system: those know no direct I/O.
  std::string name = std::filesystem::current_path() / "ringlet-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw_errno("mkdtemp");
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::make_disk(const std::string& name, uint64_t size) const {
  write(name, "");
  std::filesystem::resize_file(path(name), size);
  return path(name);
}

std::string TemporaryDirectory::make_filled_disk(const std::string& name, uint64_t size) const {
  std::mt19937_64 random(1);
  std::string content;
  while (content.size() < size) {
    const uint64_t value = random();
    content.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return write(name, std::string_view(content).substr(0, size));
}

std::string TemporaryDirectory::write(const std::string& name, std::string_view content) const {
  std::ofstream file(path(name), std::ios::binary);
  file << content;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path(name));
  return path(name);
}

std::string TemporaryDirectory::read(const std::string& name) const {
  std::ifstream file(path(name), std::ios::binary);
  std::string text(std::filesystem::file_size(path(name)), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::vector<std::string> TemporaryDirectory::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace ringlet
