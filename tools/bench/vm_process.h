// A VMM under measurement, seen from outside: what it prints, uses and leaves.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvm/fd.h"

namespace ringlet::bench {

using Command = std::vector<std::string>;

/// In KiB, without the guest's memory.
struct MemoryUse {
  double rss = 0;
  double private_dirty = 0;
  /// Of the guest's memory, what it or the VMM has touched.
  double guest_rss = 0;
};

/// A running VMM whose guest prints to its standard output. Killed and reaped at the end.
class VmProcess {
 public:
  /// Starts `command`; its errors go to ours. Throws std::system_error when it cannot be started.
  explicit VmProcess(const Command& command);
  ~VmProcess();
  VmProcess(const VmProcess&) = delete;
  VmProcess& operator=(const VmProcess&) = delete;

  /// Waits for the guest's first byte. Throws std::runtime_error when the process ends before it.
  void wait_for_first_byte();
  /// The next line of its output without its end; none when there is no further line.
  std::optional<std::string> read_line();
  /// Waits for output or its end, at most so long; whether there is something now.
  bool wait_for_output(int timeout_ms) const;
  pid_t pid() const { return pid_; }
  /// To it and those it started, as strace does.
  void send_signal(int signal) const;
  /// Reads what it still prints and waits for its end; its status as waitpid() gives it.
  int wait_for_end();
  /// Since before the process was started, in ms.
  double wall_ms() const;
  /// Of all its threads, user and kernel, those that have ended included, in ms.
  double cpu_ms() const;
  /// `guest_mib` tells the guest's memory from the rest: the mapping of that size.
  MemoryUse memory(uint64_t guest_mib) const;
  /// How often each of its threads has been given a CPU so far, by thread ID.
  std::map<std::string, uint64_t> times_scheduled() const;
  /// Kills it; from SIGKILL to reaped, in ms.
  double kill();

 private:
  Command command_;
  Fd output_;
  std::string unread_;
  int64_t started_ns_ = 0;
  pid_t pid_ = -1;
};

}  // namespace ringlet::bench
