// What every guest needs: its main function and the library's everyday parts.
#pragma once

#include "lib/console.h"
#include "lib/memory.h"
#include "lib/span.h"
#include "lib/start_info.h"

namespace guest {

// Defined by each guest. Runs in ring 3 with all ports open; returning means success.
void guest_main();

}  // namespace guest
