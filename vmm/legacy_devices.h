// The PC's own devices, in one piece: made and put on the buses together.
#pragma once

#include <memory>

#include "kvm/bus.h"
#include "kvm/fd.h"
#include "kvm/io_loop.h"
#include "kvm/irq.h"
#include "vmm/config.h"
#include "vmm/events.h"
#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/console.h"
#include "vmm/legacy/rtc.h"
#include "vmm/legacy/serial.h"
#include "vmm/legacy/small_ports.h"

namespace ringlet {

/// The others have nothing to remember.
struct LegacyState {
  SerialState serial;
  RtcState rtc;
  AcpiPmState acpi_pm;
};

class LegacyDevices {
 public:
  /// All but `config` must outlive this. Throws ConfigError when the ports that the user chose are
  /// taken or the console's file cannot be opened, and std::system_error.
  LegacyDevices(const MachineConfig& config, Buses& buses, InterruptSource& interrupts,
                IoLoop& loop, MachineEvents& events);

  /// With no vCPU running. Output that nobody has read yet is not part of it: flush the console.
  LegacyState save() const;
  /// After the interrupt controllers. Throws ConfigError when the state cannot be.
  void restore(const LegacyState& state);

  /// Empties the console's file, if there is one, and starts to read input. Once.
  void start();

  AcpiPm& acpi_pm() { return acpi_pm_; }
  Console& console() { return console_; }

 private:
  void put(Bus& bus, AddrRange range, BusDevice& device, const char* name);

  Fd output_;
  Fd input_;
  bool own_file_;  // the output is a file of the machine's own
  Serial serial_;
  Console console_;
  AcpiPm acpi_pm_;
  Rtc rtc_;
  I8042 i8042_;
  Pvpanic pvpanic_;
  DebugExit debug_exit_;
  DebugConsole debug_console_;
  BootTimer boot_timer_;
};

}  // namespace ringlet
