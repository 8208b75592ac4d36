// Counts what a thread has allocated and not yet freed.
#pragma once

#include <cstdint>

namespace ringlet {

/// Pieces of memory, of this thread. Always 0 under sanitizers, which look for leaks themselves.
int64_t live_allocations();

}  // namespace ringlet
