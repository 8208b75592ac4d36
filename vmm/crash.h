// Last words: what happens when a signal ends the process without warning.
#pragma once

#include "kvm/memory.h"

namespace ringlet {

/// From now on every signal that ends the process restores the terminal first, and then does what
/// it would have done, core dump included. Main thread, before others start.
void install_crash_handlers();

/// A SIGBUS at an address in `memory` ends the process with ExitStatus::MemoryLost: the host had
/// no page for the guest. nullptr ends the watch; `memory` must live until then.
void watch_guest_memory(const GuestMemory* memory) noexcept;

}  // namespace ringlet
