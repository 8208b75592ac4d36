// Lists of the host's CPUs as a user writes them.
#pragma once

#include <string_view>

#include "kvm/affinity.h"

namespace ringlet {

/// Reads "2-5,8", as `taskset -c` takes it; empty for an empty text. Throws ConfigError that begins
/// with `where`, an option's name.
CpuList parse_cpu_list(std::string_view text, std::string_view where);

/// Throws ConfigError for the first CPU that this process may not run on: there is none of that
/// number, it is offline, or a control group or `taskset` keeps it away.
void check_allowed(const CpuList& cpus, std::string_view where);

}  // namespace ringlet
