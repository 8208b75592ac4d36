// The kernel's command line: a default, and the edits that this machine needs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ringlet {

/// For Linux on the serial console. A panic or reboot ends in a reset through the keyboard
/// controller at once (panic=-1, reboot=k), which every kernel can do, with ACPI or without; where
/// the kernel has pvpanic, the machine has heard of a panic by then. The rest spares the kernel
/// probes for what is not there: a PS/2 mouse, three more serial ports.
inline constexpr std::string_view kDefaultCommandLine =
    "console=ttyS0 reboot=k panic=-1 i8042.noaux 8250.nr_uarts=1";

/// The disk that holds the root file system.
struct RootDisk {
  std::string device = "/dev/vda";  ///< or PARTUUID=...
  bool read_only = false;
};

/// What the kernel gets: `given` or else the default, without pci=off (all devices here are
/// on PCI), and with root= for `root` unless it is there already.
std::string make_command_line(const std::optional<std::string>& given,
                              const std::optional<RootDisk>& root);

/// Throws ConfigError unless `line` is printable ASCII: a newline or NUL would cut it short, and
/// the kernel prints it to the console.
void check_command_line(std::string_view line);

// The edits by themselves. They see parameters as Linux does: split at white space outside of
// double quotes, and up to "--", where the arguments of init begin.

/// `line` with "root=DEVICE" and, unless it says one of them, "rw" or "ro", in front of "--". Just
/// `line` when it has a root= already.
std::string add_root(std::string line, const RootDisk& root);

/// `line` without "off" in all of its pci= parameters; other options in them stay.
std::string remove_pci_off(std::string line);

}  // namespace ringlet
