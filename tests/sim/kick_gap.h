// The moment between a queue found empty and the wish for a kick, in which a driver may act too.
#pragma once

#include <functional>

namespace ringlet {

/// Runs at that moment of any queue on this thread. The linker puts it there (--wrap), so that the
/// product need not know: a chain made available then gets no kick, and must be noticed all the
/// same (virtio 1.3, 2.7.10).
std::function<void()>& in_kick_gap();

}  // namespace ringlet
