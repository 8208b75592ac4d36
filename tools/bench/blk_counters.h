// CPU time and system calls of the I/O side of a process: all its threads but the vCPUs'.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvm/fd.h"

namespace ringlet::bench {

/// CPU time of the process without its vCPU threads, user and kernel, in ns: io_uring's workers
/// and threads that have ended are in it. Exact while the vCPU threads sleep. Throws
/// std::system_error.
uint64_t io_cpu_ns(pid_t pid);

/// Counts the system calls of a process' threads but its vCPU threads by a tracepoint, which
/// needs no stop of the process; threads that they start are counted as well.
class SystemCallCounter {
 public:
  /// From now on. Throws std::system_error where the kernel does not allow it.
  explicit SystemCallCounter(pid_t pid);

  uint64_t count() const;

  /// Why this process may not count, or nothing when it may.
  static std::optional<std::string> why_not();

 private:
  std::vector<Fd> events_;
};

/// Mounts tracefs, for this process and its children only, where the host has not. Harmless where
/// that is not allowed.
void mount_tracefs();

}  // namespace ringlet::bench
