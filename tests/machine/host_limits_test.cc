// Tests of a host that gives too little: memory, huge pages, descriptors, threads, KVM, io_uring.
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include <catch2/catch.hpp>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "tests/kvm/may_pin.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

/// hello's, when all went well: no other end has it.
constexpr int kDone = 11;
const Arguments kHello = guest("hello", "code=5");

Process::Prepare limit(int resource, rlim_t value) {
  return [=] {
    const rlimit both{.rlim_cur = value, .rlim_max = value};
    ::setrlimit(static_cast<__rlimit_resource>(resource), &both);
  };
}

/// One line for the operator and the status that tells of the host.
void check_refused(const Ended& end, const std::string& why) {
  CHECK(end.status == 1);
  CHECK(end.signal == 0);
  CHECK(end.output == "");
  CHECK_THAT(end.log, StartsWith("ringlet: ") && Contains(why) && EndsWith("\n"));
  CHECK(std::ranges::count(end.log, '\n') == 1);
}

// ---- Memory ------------------------------------------------------------------------------------

// Sanitizers want addresses, descriptors and threads for themselves, and say so when there are
// none.
TEST_CASE("a limit of memory anywhere below what is needed is one line", "[limits]") {
  const Arguments command = guest("hello", "code=5", {"--memory", "16M"});
  constexpr rlim_t kStep = 256 << 10;
  size_t refused = 0;
  rlim_t bytes = 16 * kStep;
  for (Ended end; end.status != kDone; bytes += kStep) {
    INFO(bytes << " bytes");
    REQUIRE(bytes < rlim_t{1} << 30);
    end = run(command, limit(RLIMIT_AS, bytes));
    // Below some size nothing can be said, as the program is not even loaded.
    if (end.signal == SIGSEGV || end.signal == SIGKILL || end.status == kDone) continue;
    check_refused(end, "ulimit -v");
    ++refused;
  }
  CHECK(refused > 100);
}

/// Whoever has the right may pin as much as there is.
Process::Prepare limit_pinned(rlim_t bytes) {
  return [=] {
    limit(RLIMIT_MEMLOCK, bytes)();
    ::prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);  // root gets what is in this set
  };
}

TEST_CASE("a limit of locked memory below what is to be registered is one line", "[limits]") {
  // It takes another right to give one up for good.
  if (may_pin_all() && ::prctl(PR_CAPBSET_READ, CAP_SETPCAP) != 1) {
    WARN("SKIPPED: memory was not kept from being pinned, nobody here may give up the right to");
    return;
  }
  const Arguments command = guest("hello", "code=5", {"--memory", "16388K", "--register-memory"});
  check_refused(run(command, limit_pinned(rlim_t{16} << 20)),
                "--register-memory: 16388 KiB of guest memory cannot be pinned; expected as much "
                "free memory, and room in this user's limit on locked memory (\"ulimit -l\")");
}

// ---- Descriptors and threads -------------------------------------------------------------------

TEST_CASE("a limit of descriptors anywhere below what is needed is one line", "[limits]") {
  const TemporaryDirectory files;
  const Arguments command =
      guest("hello", "code=5", {"--disk", files.make_disk("disk", 1 << 20) + ",queues=4"});
  size_t refused = 0;
  rlim_t count = 3;
  for (Ended end; end.status != kDone; ++count) {
    INFO(count << " descriptors");
    REQUIRE(count < 100);
    end = run(command, limit(RLIMIT_NOFILE, count));
    if (end.status == kDone) continue;
    check_refused(end, "Too many open files");
    CHECK_THAT(end.log, Contains("ulimit -n"));
    ++refused;
  }
  CHECK(refused > 10);
}

TEST_CASE("a disk that finds no descriptor for its queues fails, and the machine goes on",
          "[limits]") {
  const TemporaryDirectory files;
  const Arguments command = guest("blk", "queues=4 requests=64",
                                  {"--disk", files.make_disk("disk", 4 << 20) + ",queues=4"});
  size_t failed = 0;
  bool done = false;
  for (rlim_t count = 3; !done; ++count) {
    INFO(count << " descriptors");
    REQUIRE(count < 100);
    Process process(command, Process::Stdio::Pipes, limit(RLIMIT_NOFILE, count));
    // While it starts, the line goes on with what to do.
    if (process.wait_for_log("eventfd: Too many open files\n")) {
      ++failed;
      continue;
    }
    done = process.wait_for_end().output.find("first 4 MiB") != std::string::npos;
  }
  CHECK(failed > 0);
}

/// Becomes a user who runs nothing else, who may still open everything, and who may have `count`
/// threads. Whoever is not root stays who he is, and has more already.
Process::Prepare limit_threads(rlim_t count) {
  return [=, user = 100'000 + static_cast<uid_t>(::getpid())] {
    limit(RLIMIT_NPROC, count)();
    if (::geteuid() != 0) return;
    ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    ::syscall(SYS_setresuid, user, user, user);
    constexpr uint32_t kOpenAll = 1 << CAP_DAC_OVERRIDE;
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {
        {.effective = kOpenAll, .permitted = kOpenAll, .inheritable = kOpenAll}, {}};
    ::syscall(SYS_capset, &header, &data);
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // went with the user
  };
}

/// The fewest threads with which `command` ends as it should; checks that less is one line.
rlim_t count_threads(const Arguments& command) {
  for (rlim_t count = 1; count < 20; ++count) {
    INFO(count << " threads");
    const Ended end = run(command, limit_threads(count));
    if (end.status == kDone) return count;
    check_refused(end, "Resource temporarily unavailable; ");
    CHECK_THAT(end.log, Contains("ulimit -u"));
  }
  return 0;
}

TEST_CASE("a limit of threads anywhere below what is needed is one line", "[limits]") {
  if (::geteuid() != 0) {
    WARN("SKIPPED: no limit of threads above 1 was tried, that takes root");
    return check_refused(run(kHello, limit_threads(1)), "Resource temporarily unavailable; ");
  }
  // The main thread, the I/O loop, vCPUs, and on some kernels one of KVM's in the process.
  CHECK(count_threads(kHello) >= 3);
  CHECK(count_threads(guest("hello", "code=5", {"--cpus", "4"})) >= 6);
}

TEST_CASE("requests that the kernel has no thread for fail, which is logged without one too",
          "[limits]") {
  if (::geteuid() != 0) {
    WARN("SKIPPED: no request lacked a thread, that takes root");
    return;
  }
  const TemporaryDirectory files;
  const Arguments command =
      guest("script", "do=w0,f,r0", {"--disk", files.make_disk("disk", 1 << 20)});
  const Ended end = run(command, limit_threads(count_threads(kHello)));
  // Whether the write needs a thread depends on the file system, and with it what is read.
  CHECK_THAT(end.output, StartsWith("w0: ") && Contains("\nf: 1\nr0: 0 "));
  CHECK(end.status == 1);
  CHECK_THAT(end.log, Contains("disk 00:01.0: request type 4"));
}

// ---- What the kernel refuses -------------------------------------------------------------------

/// Lets every io_uring_setup fail, as kernel.io_uring_disabled and containers do.
Process::Prepare refuse_io_uring(int error) {
  return [number = static_cast<uint32_t>(error)] {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = static_cast<unsigned short>(std::size(filter)),
                             .filter = filter};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  };
}

/// Puts `file` in the place of `path` for this process alone. False without the right to mount,
/// which a container's root need not have.
bool cover(const std::string& file, const char* path) {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount(file.c_str(), path, nullptr, MS_BIND, nullptr) == 0;
}

bool may_cover() {
  const TemporaryDirectory files;
  const std::string file = files.write("file", "");
  return run({"/bin/true"}, [&] {
           if (!cover(file, file.c_str())) ::_exit(1);
         }).status == 0;
}

TEST_CASE("an io_uring that is forbidden or absent is one line that tells where to look") {
  for (const int error : {EPERM, ENOSYS}) {
    const Ended end = run(kHello, refuse_io_uring(error));
    check_refused(end, "io_uring is not to be had here: look at sysctl kernel.io_uring_disabled");
  }
}

TEST_CASE("an io_uring that is switched off is one line with the switch and its value") {
  if (!may_cover()) {
    WARN("SKIPPED: io_uring was not switched off, that takes the right to mount");
    return;
  }
  const TemporaryDirectory files;
  const std::string value = files.write("value", "2\n");
  const Process::Prepare prepare = [&] {
    cover(value, "/proc/sys/kernel/io_uring_disabled");
    refuse_io_uring(EPERM)();
  };
  check_refused(run(kHello, prepare),
                "io_uring is switched off on this host: sysctl kernel.io_uring_disabled is 2");
  const Ended report = run(ringlet({"check"}), prepare);
  CHECK(report.status == 1);
  CHECK_THAT(report.output, Contains("kernel.io_uring_disabled is 2: sysctl "));
}

TEST_CASE("a /dev/kvm that may not be opened is one line that tells who may") {
  if (!may_cover()) {
    WARN("SKIPPED: /dev/kvm was not forbidden, that takes the right to mount");
    return;
  }
  const TemporaryDirectory files;
  const std::string device = files.write("kvm", "");
  ::chmod(device.c_str(), 0);
  ::chown(device.c_str(), 0, 0);
  const Ended end = run(kHello, [&] {
    cover(device, "/dev/kvm");
    for (const int right : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) {
      ::prctl(PR_CAPBSET_DROP, right, 0, 0, 0);
    }
  });
  check_refused(end, "/dev/kvm: Permission denied: it belongs to user 0 and group root");
}

TEST_CASE("a host without /dev/kvm is one line that tells what to load") {
  if (!may_cover()) {
    WARN("SKIPPED: /dev/kvm was not taken away, that takes the right to mount");
    return;
  }
  const TemporaryDirectory empty;
  const std::string path = empty.path("");
  const Ended end = run(kHello, [&] { cover(path, "/dev"); });
  check_refused(end, "/dev/kvm: No such file or directory: load the module kvm_intel or kvm_amd");
}

}  // namespace
}  // namespace ringlet
