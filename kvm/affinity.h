// Which of the host's CPUs a thread may run on.
#pragma once

#include <vector>

namespace ringlet {

/// CPUs of the host, each once and below CPU_SETSIZE.
using CpuList = std::vector<unsigned>;

/// Keeps the calling thread on these CPUs; does nothing for an empty list. Failure is logged: a
/// CPU can go offline at any time.
void pin_this_thread(const CpuList& cpus) noexcept;

}  // namespace ringlet
