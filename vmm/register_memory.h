// Guest memory that the kernel pins once for all transfers of the I/O loops (--register-memory).
#pragma once

#include <memory>
#include <span>

#include "kvm/memory.h"
#include "kvm/uring_loop.h"

namespace ringlet {

/// Registers all of `memory` with each of `loops`, none of which runs yet. Takes every page of it
/// from the host. Throws HostError where there is too little memory or it may not be locked, and
/// std::system_error.
void register_memory(std::span<const std::unique_ptr<UringLoop>> loops, const GuestMemory& memory);

}  // namespace ringlet
