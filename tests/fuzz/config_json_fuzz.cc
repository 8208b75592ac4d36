// Fuzzes the machine as JSON: what is refused gets one line that says why, what is accepted and
// valid is printed as the same machine.
#include <cstddef>
#include <cstdint>
#include <string>

#include "kvm/error.h"
#include "tests/fuzz/same_machine.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(data, data + size);
  ringlet::MachineConfig machine;
  try {
    machine = ringlet::machine_from_json(text, "vm.json");
    ringlet::validate(machine);
  } catch (const ringlet::ConfigError& error) {
    ringlet::check_message(error.what());
    return 0;
  }
  ringlet::check_round_trip(machine);
  return 0;
}
