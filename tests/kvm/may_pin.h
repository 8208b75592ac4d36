// Whether this host lets a test pin memory.
#pragma once

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstdint>

#include <unistd.h>

namespace ringlet {

/// Those with CAP_IPC_LOCK may pin what there is.
inline bool may_pin_all() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  ::syscall(SYS_capget, &header, &data);
  return (data[0].effective & (1U << CAP_IPC_LOCK)) != 0;
}

/// False for a user whose limit on locked memory is lower: what takes that is to be skipped,
/// loudly.
inline bool may_pin(uint64_t bytes) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur >= bytes || may_pin_all();
}

}  // namespace ringlet
