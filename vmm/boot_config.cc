// What a machine boots: its files, opened, and the command line that they get.
#include "vmm/boot_config.h"

#include "vmm/boot/command_line.h"

namespace ringlet {
namespace {

/// What the Linux command line's root= is to name: the first disk, if there is one.
std::optional<RootDisk> root_disk(const MachineConfig& config) {
  for (const DeviceConfig& device : config.devices) {
    if (const auto* disk = std::get_if<BlkConfig>(&device)) {
      return RootDisk{.device = "/dev/vda", .read_only = disk->readonly};
    }
  }
  return std::nullopt;
}

}  // namespace

BootConfig boot_config(const MachineConfig& config) {
  BootConfig boot{.kernel = BootFile::open("kernel", config.kernel),
                  .initrd = std::nullopt,
                  .command_line = make_command_line(config.cmdline, root_disk(config)),
                  .rsdp = {}};
  if (!config.initrd.empty()) boot.initrd = BootFile::open("initrd", config.initrd);
  return boot;
}

}  // namespace ringlet
