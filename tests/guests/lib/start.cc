// First C++ code of a guest, in ring 3: readies the library, then calls the guest's own main.
#include "lib/apic.h"
#include "lib/boot_params.h"
#include "lib/console.h"
#include "lib/guest.h"
#include "lib/interrupts.h"
#include "lib/start_info.h"

namespace guest {

extern "C" [[noreturn]] void guest_start(uint64_t start_info_address,
                                         uint64_t boot_params_address) {
  set_up_interrupts();
  if (boot_params_address != 0) {
    read_boot_params(boot_params_address);
  } else {
    read_start_info(start_info_address);
  }
  apic::enable();
  guest_main();
  debug_exit(kExitSuccess);
}

}  // namespace guest
