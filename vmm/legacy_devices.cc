// The PC's own devices, in one piece: made and put on the buses together.
#include "vmm/legacy_devices.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "kvm/error.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

/// Where the guest's console output goes; an empty Fd for nowhere.
Fd open_output(const MachineConfig& config) {
  if (config.serial == "none" && !config.debug_console) return {};
  if (config.serial == "none" || config.serial == "stdio")
    return Fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  // What it holds stays until the machine starts. A named pipe without a reader is an error then,
  // not a wait without end.
  constexpr int kFlags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  Fd file(::open(config.serial.c_str(), kFlags, 0644));
  // The I/O loop waits for room in it better than it asks again and again.
  if (file && ::fcntl(file.get(), F_SETFL, O_WRONLY) == 0) return file;
  const std::string label = file_label("serial", config.serial);
  if (is_shortage(errno)) throw_errno(label);
  throw ConfigError(
      fmt::format("{}: cannot be opened for writing: {}", label, std::strerror(errno)));
}

bool is_file_name(const std::string& serial) {
  return serial != "stdio" && serial != "none";
}

/// Nothing will ever come from there, and finding that out takes io_uring a thread of its own.
bool is_null_device(int fd) {
  struct stat file {};
  constexpr unsigned kMemoryDevices = 1;
  constexpr unsigned kNull = 3;
  return ::fstat(fd, &file) == 0 && S_ISCHR(file.st_mode) &&
         file.st_rdev == makedev(kMemoryDevices, kNull);
}

/// Where the guest's console input comes from; an empty Fd for nowhere.
Fd open_input(const MachineConfig& config) {
  if (config.serial != "stdio" || is_null_device(STDIN_FILENO)) return {};
  return Fd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
}

}  // namespace

LegacyDevices::LegacyDevices(const MachineConfig& config, Buses& buses, InterruptSource& interrupts,
                             IoLoop& loop, MachineEvents& events)
    : output_(open_output(config)),
      input_(open_input(config)),
      own_file_(is_file_name(config.serial)),
      serial_(interrupts.make_line(kCom1Gsi)),
      console_(serial_, loop, output_.get(), input_.get(), ::isatty(STDIN_FILENO) == 1, events),
      acpi_pm_(interrupts.make_line(kSciGsi), events),
      i8042_(events),
      pvpanic_(events),
      debug_exit_(events),
      debug_console_([this](std::byte byte) { console_.write_debug(byte); }) {
  constexpr AddrRange kI8042Ports{kI8042CommandPort, 1};
  constexpr AddrRange kPmPorts{kPm1EventPorts.base,
                               kResetPorts.base + kResetPorts.size - kPm1EventPorts.base};
  if (config.serial != "none") put(buses.port, kCom1Ports, serial_, "serial");
  put(buses.port, kCmosPorts, rtc_, "rtc");
  put(buses.port, kI8042Ports, i8042_, "i8042");
  put(buses.port, kPvpanicPorts, pvpanic_, "pvpanic");
  put(buses.port, kPmPorts, acpi_pm_, "acpi");
  if (config.debug_exit) {
    put(buses.port, {*config.debug_exit, DebugExit::kPorts}, debug_exit_, "debug-exit");
  }
  if (config.debug_console) {
    put(buses.port, {*config.debug_console, 1}, debug_console_, "debug-console");
  }
  if (config.boot_timer) put(buses.mmio, kBootTimer, boot_timer_, "boot-timer");
}

void LegacyDevices::start() {
  // EINVAL: a pipe or terminal, which keeps nothing.
  if (own_file_ && ::ftruncate(output_.get(), 0) != 0 && errno != EINVAL) {
    throw_errno("emptying the console's file");
  }
  console_.start();
}

LegacyState LegacyDevices::save() const {
  return {.serial = serial_.save(), .rtc = rtc_.save(), .acpi_pm = acpi_pm_.save()};
}

void LegacyDevices::restore(const LegacyState& state) {
  serial_.restore(state.serial);
  rtc_.restore(state.rtc);
  acpi_pm_.restore(state.acpi_pm);
}

void LegacyDevices::put(Bus& bus, AddrRange range, BusDevice& device, const char* name) {
  if (bus.insert(range, device)) return;
  throw ConfigError(fmt::format("{}: ports {:#x} to {:#x} belong to another device", name,
                                range.base, range.base + range.size - 1));
}

}  // namespace ringlet
