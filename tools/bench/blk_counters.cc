// CPU time and system calls of the I/O side of a process: all its threads but the vCPUs'.
#include "tools/bench/blk_counters.h"

#include <linux/perf_event.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

#include "kvm/error.h"

namespace ringlet::bench {

namespace {

constexpr const char* kTracefs = "/sys/kernel/tracing";

std::filesystem::path tracepoint_file() {
  return std::filesystem::path(kTracefs) / "events/raw_syscalls/sys_enter/id";
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// ringlet calls them "vcpu0", QEMU "CPU 0/KVM".
bool is_vcpu(const std::filesystem::path& task) {
  const std::string name = first_line(task / "comm");
  return name.starts_with("vcpu") || name.ends_with("/KVM");
}

/// Nothing when the kernel has no such tracepoint or hides it.
std::optional<uint64_t> tracepoint() {
  const std::string id = first_line(tracepoint_file());
  if (id.empty()) return std::nullopt;
  return std::stoull(id);
}

int open_event(uint64_t tracepoint, pid_t thread) {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_TRACEPOINT;
  attributes.size = sizeof(attributes);
  attributes.config = tracepoint;
  attributes.inherit = 1;
  return static_cast<int>(::syscall(SYS_perf_event_open, &attributes, thread, -1, -1,
                                    static_cast<unsigned long>(PERF_FLAG_FD_CLOEXEC)));
}

std::filesystem::directory_iterator tasks(pid_t pid) {
  return std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid));
}

}  // namespace

uint64_t io_cpu_ns(pid_t pid) {
  uint64_t vcpus_ns = 0;
  for (const auto& task : tasks(pid)) {
    if (is_vcpu(task.path())) vcpus_ns += std::stoull(first_line(task.path() / "schedstat"));
  }
  clockid_t clock{};
  if (const int error = ::clock_getcpuclockid(pid, &clock); error != 0) {
    throw std::system_error(error, std::generic_category(), "clock_getcpuclockid");
  }
  timespec time{};
  check(::clock_gettime(clock, &time), "clock_gettime");
  const auto all_ns =
      static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
  return all_ns - vcpus_ns;
}

SystemCallCounter::SystemCallCounter(pid_t pid) {
  const uint64_t id = tracepoint().value_or(0);
  for (const auto& task : tasks(pid)) {
    if (is_vcpu(task.path())) continue;
    const int thread = std::stoi(task.path().filename().string());
    const int event = open_event(id, thread);
    // A thread that has ended meanwhile calls nothing any more.
    if (event < 0 && errno == ESRCH) continue;
    events_.emplace_back(check(event, "perf_event_open"));
  }
}

uint64_t SystemCallCounter::count() const {
  uint64_t total = 0;
  for (const Fd& event : events_) {
    uint64_t calls = 0;
    check(::read(event.get(), &calls, sizeof(calls)), "read of a perf event");
    total += calls;
  }
  return total;
}

std::optional<std::string> SystemCallCounter::why_not() {
  const std::optional<uint64_t> id = tracepoint();
  if (!id) return fmt::format("{} cannot be read", tracepoint_file().string());
  const Fd event(open_event(*id, 0));
  if (event.get() < 0) return fmt::format("perf_event_open: {}", std::strerror(errno));
  return std::nullopt;
}

void mount_tracefs() {
  if (std::filesystem::exists(tracepoint_file())) return;
  if (::unshare(CLONE_NEWNS) != 0) return;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
  // Whether this has worked is seen when the tracepoint is looked for.
  static_cast<void>(::mount("tracefs", kTracefs, "tracefs", 0, nullptr));
}

}  // namespace ringlet::bench
