// What the guest can ask of the machine as a whole.
#pragma once

#include <cstdint>

namespace ringlet {

enum class GuestRequest : uint8_t {
  PowerOff,
  Reset,
  Panic,
  DebugExit,  ///< with an exit status of the guest's choice
  UserLeft,   ///< not the guest but whoever types at its console: Ctrl-A X
};

class MachineEvents {
 public:
  /// The first request decides how the machine ends. Returns at once. Any thread.
  virtual void guest_request(GuestRequest request, uint8_t status) noexcept = 0;

 protected:
  ~MachineEvents() = default;
};

}  // namespace ringlet
