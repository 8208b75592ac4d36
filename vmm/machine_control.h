// What supervises a machine: the main thread, and later the API, work through this.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringlet {

/// How a machine came to its end.
struct Outcome {
  enum class Kind {
    None,       ///< it still runs
    PowerOff,   ///< the guest switched itself off
    Reset,      ///< the guest asked for a reset
    Panic,      ///< the guest's kernel panicked and said so
    Crash,      ///< triple fault, or KVM could not go on; `details` has registers
    DebugExit,  ///< the guest ended through the debug-exit port with `status`
    HostError,  ///< `details` says what failed
    UserLeft,   ///< Ctrl-A X
  };
  Kind kind = Kind::None;
  uint8_t status = 0;
  std::vector<std::string> details;
};

class MachineControl {
 public:
  virtual ~MachineControl() = default;

  /// Lets the vCPUs run. Main thread.
  virtual void start() = 0;
  /// Becomes readable once there is an outcome. Any thread.
  virtual int outcome_fd() const = 0;
  virtual Outcome outcome() const = 0;
  /// As if someone pressed it: the guest is told and decides. Any thread.
  virtual void press_power_button() = 0;
  /// Stops in order: vCPUs, then the I/O loop with everything under way, then what the guest has
  /// printed is written out. Main thread; does nothing the second time.
  virtual void stop() = 0;
};

}  // namespace ringlet
