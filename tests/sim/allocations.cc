// Counts what a thread has allocated and not yet freed.
#include "tests/sim/allocations.h"

#include <cstdlib>
#include <new>

namespace ringlet {
namespace {

thread_local int64_t live = 0;

}  // namespace

int64_t live_allocations() {
  return live;
}

}  // namespace ringlet

#ifdef RINGLET_COUNT_ALLOCATIONS

void* operator new(std::size_t size) {
  ++ringlet::live;
  if (void* const memory = std::aligned_alloc(16, (size + 15) / 16 * 16)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  if (memory != nullptr) --ringlet::live;
  std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
  operator delete(memory);
}

#endif
