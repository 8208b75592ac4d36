// Which of the host's CPUs a thread may run on.
#include "kvm/affinity.h"

#include <cstring>

#include <pthread.h>
#include <sched.h>

#include "kvm/log.h"

namespace ringlet {

void pin_this_thread(const CpuList& cpus) noexcept {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) CPU_SET(cpu, &set);
  const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
  if (error != 0) log_warn("a thread is not kept on its CPUs: {}", std::strerror(error));
}

}  // namespace ringlet
