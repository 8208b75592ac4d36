// What machine to run: the validator.
#include "vmm/config.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "kvm/error.h"
#include "vmm/boot/command_line.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

constexpr uint64_t kPageSize = 4 * kKiB;
constexpr uint64_t kHugePageSize = 2 * kMiB;
constexpr uint64_t kSectorSize = 512;

/// Ports of the machine and of KVM's devices (PIC, PIT, speaker, edge/level control), which the
/// debug devices must leave alone.
constexpr AddrRange kTakenPorts[] = {
    {0x20, 2},   {0x40, 4},      {kI8042DataPort, 5}, {0xa0, 2},
    {0x4d0, 2},  kCmosPorts,     kCom1Ports,          kPvpanicPorts,
    kResetPorts, kPm1EventPorts, kPm1ControlPorts,    kPciConfigPorts,
};

bool overlap(AddrRange a, AddrRange b) {
  return a.base < b.base + b.size && b.base < a.base + a.size;
}

void check_debug_port(std::string_view name, AddrRange ports) {
  for (const auto& taken : kTakenPorts) {
    if (!overlap(ports, taken)) continue;
    throw ConfigError(fmt::format("{}: expected an unused port, got {:#x}, which is the machine's",
                                  name, ports.base));
  }
}

void check_debug_ports(const MachineConfig& config) {
  constexpr uint64_t kExitPorts = 4;
  if (config.debug_exit) check_debug_port("debug-exit", {*config.debug_exit, kExitPorts});
  if (config.debug_console) check_debug_port("debug-console", {*config.debug_console, 1});
  if (config.debug_exit && config.debug_console &&
      overlap({*config.debug_exit, kExitPorts}, {*config.debug_console, 1})) {
    throw ConfigError("debug-console: expected a port outside of debug-exit's four");
  }
}

void check_memory(const MachineConfig& config) {
  const uint64_t unit = config.huge_pages ? kHugePageSize : kPageSize;
  if (config.memory % unit == 0) return;
  throw ConfigError(fmt::format("memory: expected a multiple of {}, got {} bytes",
                                config.huge_pages ? "2 MiB with huge-pages" : "4 KiB",
                                config.memory));
}

void check_devices(const std::vector<DeviceConfig>& devices) {
  // Slot 0 is the host bridge's.
  if (devices.size() > kPciSlots - 1) {
    throw ConfigError(
        fmt::format("devices: expected at most {}, got {}", kPciSlots - 1, devices.size()));
  }
  std::set<std::string> ids;
  for (size_t i = 0; i < devices.size(); ++i) {
    visit_device(devices[i], [&](const auto& type, const auto& device) {
      check_options(type.options, device, device_path(i) + ".");
      if (device.id.empty() || ids.insert(device.id).second) return;
      throw ConfigError(fmt::format("{}.id: expected a name of its own, got {} again",
                                    device_path(i), in_quotes(device.id)));
    });
  }
}

/// The file's state, checked to exist and to be a regular file or, if allowed, a block device.
struct stat check_file(const std::string& path, const std::string& where, bool block_device) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    throw ConfigError(fmt::format("{}: {}: {}", where, in_quotes(path), std::strerror(errno)));
  }
  if (S_ISREG(info.st_mode) || (block_device && S_ISBLK(info.st_mode))) return info;
  throw ConfigError(fmt::format("{}: expected {}, and {} is {}", where,
                                block_device ? "a regular file or a block device" : "a file",
                                in_quotes(path),
                                S_ISDIR(info.st_mode) ? "a directory"
                                : block_device        ? "neither"
                                                      : "something else"));
}

void check_access(const std::string& path, const std::string& where, int mode) {
  if (::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0) return;
  throw ConfigError(fmt::format("{}: {}: {}{}", where, in_quotes(path), std::strerror(errno),
                                mode == R_OK ? "" : " (readonly needs no write access)"));
}

void check_input_file(const std::string& path, const std::string& where) {
  check_file(path, where, false);
  check_access(path, where, R_OK);
}

void check_device_files(const BlkConfig& disk, const std::string& where) {
  const auto info = check_file(disk.path, where + ".path", true);
  check_access(disk.path, where + ".path", R_OK);
  if (!disk.readonly) check_access(disk.path, where + ".path", W_OK);
  const auto size = static_cast<uint64_t>(info.st_size);
  if (S_ISREG(info.st_mode) && (size == 0 || size % kSectorSize != 0)) {
    throw ConfigError(fmt::format("{}.path: expected a multiple of 512 bytes, and {} has {}", where,
                                  in_quotes(disk.path), size));
  }
}

/// A file of the machine, by what happens to it.
struct UsedFile {
  enum class Use { Loaded, ReadOnlyDisk, Disk, Output };
  std::string where;
  std::string path;
  Use use;
};

std::vector<UsedFile> used_files(const MachineConfig& config) {
  using enum UsedFile::Use;
  std::vector<UsedFile> files{{"kernel", config.kernel, Loaded}, {"initrd", config.initrd, Loaded}};
  for (size_t i = 0; i < config.devices.size(); ++i) {
    if (const auto* disk = std::get_if<BlkConfig>(&config.devices[i])) {
      files.push_back({device_path(i) + ".path", disk->path, disk->readonly ? ReadOnlyDisk : Disk});
    }
  }
  if (config.serial != "stdio" && config.serial != "none") {
    files.push_back({"serial", config.serial, Output});
  }
  files.push_back({"log-file", config.log_file, Output});
  std::erase_if(files, [](const UsedFile& file) { return file.path.empty(); });
  return files;
}

bool can_share(UsedFile::Use one, UsedFile::Use other) {
  using enum UsedFile::Use;
  if (one == Output || other == Output) return false;
  if (one == Loaded || other == Loaded) return true;  // before the guest runs
  return one == ReadOnlyDisk && other == ReadOnlyDisk;
}

bool is_same_file(const std::string& one, const std::string& other) {
  struct stat a {};
  struct stat b {};
  if (::stat(one.c_str(), &a) != 0 || ::stat(other.c_str(), &b) != 0) return false;
  const bool keeps_data = S_ISREG(a.st_mode) || S_ISBLK(a.st_mode);
  return keeps_data && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// To open an output is to empty it, and a disk that is written has one user.
void check_shared_files(const MachineConfig& config) {
  const std::vector<UsedFile> files = used_files(config);
  for (size_t i = 0; i < files.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (can_share(files[i].use, files[j].use)) continue;
      if (!is_same_file(files[i].path, files[j].path)) continue;
      throw ConfigError(fmt::format("{}: expected a file of its own, and {} is also {}",
                                    files[i].where, in_quotes(files[i].path), files[j].where));
    }
  }
}

}  // namespace

std::string device_path(size_t index) {
  return fmt::format("devices[{}]", index);
}

void validate(const MachineConfig& config) {
  check_options<MachineConfig>(kMachineOptions, config, "");
  if (config.cmdline) check_command_line(*config.cmdline);
  check_memory(config);
  check_debug_ports(config);
  check_devices(config.devices);
}

void validate_files(const MachineConfig& config) {
  check_input_file(config.kernel, "kernel");
  if (!config.initrd.empty()) check_input_file(config.initrd, "initrd");
  for (size_t i = 0; i < config.devices.size(); ++i) {
    std::visit([&](const auto& device) { check_device_files(device, device_path(i)); },
               config.devices[i]);
  }
  check_shared_files(config);
}

}  // namespace ringlet
