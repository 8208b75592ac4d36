// Opening an io_uring: with what this kernel offers, and allowed to do no more than is needed.
#include "kvm/uring_setup.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

#include <unistd.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

/// Linux 6.12, linux/io_uring.h: IORING_FEAT_MIN_TIMEOUT and what it makes of the padding in struct
/// io_uring_getevents_arg.
constexpr uint32_t kFeatMinTimeout = 1U << 15;
struct GetEventsArg {
  uint64_t sigmask;
  uint32_t sigmask_size;
  uint32_t min_wait_us;
  uint64_t timeout;
};
static_assert(sizeof(GetEventsArg) == sizeof(io_uring_getevents_arg));

/// Linux 6.12, linux/io_uring.h: IORING_REGISTER_CLONE_BUFFERS and its argument. All of the other
/// ring's table when the rest is zero.
constexpr unsigned kRegisterCloneBuffers = 30;
struct CloneBuffers {
  uint32_t source_fd;
  uint32_t rest[7];
};

/// liburing answers -errno.
void check_ring(int result, const char* what) {
  if (result < 0) throw std::system_error(-result, std::generic_category(), what);
}

/// Why the kernel refuses to make a ring, and what to do about it: one line.
std::string refusal(int error) {
  const char* const path = "/proc/sys/kernel/io_uring_disabled";
  std::string value;
  std::ifstream(path) >> value;
  if (error == EPERM && !value.empty() && value != "0") {
    return "io_uring is switched off on this host: sysctl kernel.io_uring_disabled is " + value +
           ", ringlet needs 0 (or 1 and membership in kernel.io_uring_group)";
  }
  if (error == EPERM || error == ENOSYS) {
    return "io_uring is not to be had here: look at sysctl kernel.io_uring_disabled, at the "
           "container's seccomp profile, and whether the kernel has CONFIG_IO_URING";
  }
  if (error == ENOMEM) return "io_uring_setup (RLIMIT_MEMLOCK, \"ulimit -l\", may be too low)";
  return "io_uring_setup";
}

}  // namespace

UringRing::UringRing(const UringOptions& options) : features_(options.allow) {
  open(options);
  try {
    add_file_table(options);
    std::array<unsigned, 2> workers{options.bounded_workers, options.unbounded_workers};
    features_.worker_limit =
        features_.worker_limit && io_uring_register_iowq_max_workers(&ring_, workers.data()) == 0;
    restrict_to_needs();
  } catch (...) {
    io_uring_queue_exit(&ring_);
    throw;
  }
}

UringRing::~UringRing() {
  io_uring_queue_exit(&ring_);
}

void UringRing::register_buffers(std::span<const iovec> buffers) {
  check_ring(
      io_uring_register_buffers(&ring_, buffers.data(), static_cast<unsigned>(buffers.size())),
      "IORING_REGISTER_BUFFERS");
}

bool UringRing::share_buffers_of(const UringRing& other) {
  CloneBuffers clone{.source_fd = static_cast<uint32_t>(other.ring_.ring_fd), .rest = {}};
  features_.share_buffers =
      features_.share_buffers &&
      ::syscall(__NR_io_uring_register, ring_.ring_fd, kRegisterCloneBuffers, &clone, 1) == 0;
  return features_.share_buffers;
}

void UringRing::enable() {
  check_ring(io_uring_enable_rings(&ring_), "IORING_REGISTER_ENABLE_RINGS");
}

// liburing knows of no such wait yet, nor does it hand out the entries that are ready otherwise.
int UringRing::submit_and_wait_for(unsigned completions, uint32_t patience_us) {
  io_uring_sq& queue = ring_.sq;
  queue.sqe_head = queue.sqe_tail;
  // The kernel reads it in the system call, on this thread.
  IO_URING_WRITE_ONCE(*queue.ktail, queue.sqe_tail);
  const unsigned ready = queue.sqe_tail - IO_URING_READ_ONCE(*queue.khead);
  __kernel_timespec timeout{.tv_sec = 1, .tv_nsec = 0};
  GetEventsArg argument{.sigmask = 0,
                        .sigmask_size = 0,
                        .min_wait_us = patience_us,
                        .timeout = reinterpret_cast<uintptr_t>(&timeout)};
  return io_uring_enter2(static_cast<unsigned>(ring_.ring_fd), ready, completions,
                         IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                         reinterpret_cast<sigset_t*>(&argument), sizeof argument);
}

// False where the kernel does not know one of the flags; throws for any other refusal.
bool UringRing::try_open(const UringOptions& options, uint32_t flags) {
  io_uring_params params{};
  params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | flags;
  params.cq_entries = options.cq_entries;
  const int result = io_uring_queue_init_params(options.sq_entries, &ring_, &params);
  if (result == -EINVAL) return false;
  if (result < 0) throw std::system_error(-result, std::generic_category(), refusal(-result));
  features_.min_wait = features_.min_wait && (params.features & kFeatMinTimeout) != 0;
  features_.cqe_skip = features_.cqe_skip && (params.features & IORING_FEAT_CQE_SKIP) != 0;
  return true;
}

// A flag that a kernel does not know spoils the whole call, so the newest goes first.
void UringRing::open(const UringOptions& options) {
  const auto flags = [this] {
    return (features_.single_issuer ? IORING_SETUP_SINGLE_ISSUER : 0) |
           (features_.coop_taskrun ? IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG : 0) |
           (features_.submit_all ? IORING_SETUP_SUBMIT_ALL : 0);
  };
  if (try_open(options, flags())) return;
  features_.single_issuer = false;
  if (try_open(options, flags())) return;
  features_.coop_taskrun = false;
  if (try_open(options, flags())) return;
  features_.submit_all = false;
  if (try_open(options, flags())) return;
  throw std::system_error(EINVAL, std::generic_category(),
                          "io_uring_setup: this kernel is too old, 5.13 is the oldest that works");
}

void UringRing::add_file_table(const UringOptions& options) {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit(RLIMIT_NOFILE)");
  files_ = static_cast<uint32_t>(std::min<rlim_t>(options.files, limit.rlim_cur));
  features_.sparse_files =
      features_.sparse_files && io_uring_register_files_sparse(&ring_, files_) == 0;
  if (features_.sparse_files) return;
  const std::vector<int> empty(files_, -1);
  check_ring(io_uring_register_files(&ring_, empty.data(), files_), "IORING_REGISTER_FILES");
  // Neither can be probed by itself, but they came with the same kernel.
  features_.cancel_any = false;
  features_.fixed_only = false;
}

// io_uring passes seccomp filters by: an openat that the filter forbids succeeds through a ring.
// So the ring itself must refuse what the loop never asks for.
void UringRing::restrict_to_needs() {
  if (!features_.restrictions) {
    features_.fixed_only = false;
    return;
  }
  constexpr std::array<uint8_t, 11> kOperations{
      IORING_OP_READ,       IORING_OP_WRITE,       IORING_OP_READV,       IORING_OP_WRITEV,
      IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_FSYNC,       IORING_OP_FALLOCATE,
      IORING_OP_POLL_ADD,   IORING_OP_TIMEOUT,     IORING_OP_ASYNC_CANCEL};
  std::vector<io_uring_restriction> rules;
  const auto add = [&rules](uint16_t what, uint8_t value) {
    io_uring_restriction& rule = rules.emplace_back();
    rule.opcode = what;
    rule.sqe_op = value;  // a union: also register_op and sqe_flags
  };
  for (const uint8_t operation : kOperations) add(IORING_RESTRICTION_SQE_OP, operation);
  add(IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_FILES_UPDATE);  // add_file() while it runs
  uint8_t flags = IOSQE_FIXED_FILE;
  if (features_.cqe_skip) flags |= IOSQE_CQE_SKIP_SUCCESS;
  add(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, flags);
  // Before 5.19 a cancel request may not carry the flag, so it cannot be required of all.
  if (features_.fixed_only) add(IORING_RESTRICTION_SQE_FLAGS_REQUIRED, IOSQE_FIXED_FILE);
  const int result =
      io_uring_register_restrictions(&ring_, rules.data(), static_cast<unsigned>(rules.size()));
  if (result == -EINVAL) {
    features_.restrictions = features_.fixed_only = false;
    return;
  }
  check_ring(result, "IORING_REGISTER_RESTRICTIONS");
}

}  // namespace ringlet
