// The moment between a queue found empty and the wish for a kick, in which a driver may act too.
#include "tests/sim/kick_gap.h"

#include "virtio/queue.h"

namespace ringlet {

bool real_allow_kicks(Queue& queue) asm("__real__ZN7ringlet5Queue11allow_kicksEv");
bool wrapped_allow_kicks(Queue& queue) asm("__wrap__ZN7ringlet5Queue11allow_kicksEv");

std::function<void()>& in_kick_gap() {
  static thread_local std::function<void()> gap;
  return gap;
}

// A member function's `this` is passed like a first argument.
bool wrapped_allow_kicks(Queue& queue) {
  if (in_kick_gap()) in_kick_gap()();
  return real_allow_kicks(queue);
}

}  // namespace ringlet
