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
#include "vmm/boot/loader.h"
#include "vmm/boot_config.h"
#include "vmm/cpu_list.h"
#include "vmm/disk_file.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

constexpr std::string_view kPinVcpus = "--pin-vcpus";
constexpr std::string_view kPinIo = "--pin-io";

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
  if (config.debug_exit) check_debug_port("--debug-exit", {*config.debug_exit, kExitPorts});
  if (config.debug_console) check_debug_port("--debug-console", {*config.debug_console, 1});
  if (config.debug_exit && config.debug_console &&
      overlap({*config.debug_exit, kExitPorts}, {*config.debug_console, 1})) {
    throw ConfigError(
        fmt::format("--debug-console: expected a port outside of --debug-exit's four, got {:#x}",
                    *config.debug_console));
  }
}

void check_memory(const MachineConfig& config) {
  const uint64_t unit = config.huge_pages ? kHugePage : kPage;
  if (config.memory % unit == 0) return;
  throw ConfigError(fmt::format("--memory: expected a multiple of {}, got {} bytes",
                                config.huge_pages ? "2 MiB with --huge-pages" : "4 KiB",
                                config.memory));
}

void check_devices(const std::vector<DeviceConfig>& devices) {
  // Slot 0 is the host bridge's.
  if (devices.size() > kPciSlots - 1) {
    throw ConfigError(
        fmt::format("devices: expected at most {}, got {}", kPciSlots - 1, devices.size()));
  }
  std::set<std::string> ids;
  for (const DeviceConfig& each : devices) {
    visit_device(each, [&](const auto& type, const auto& device) {
      const std::string where = fmt::format("--{} ", type.name);
      check_options(type.options, device, where);
      if (device.id.empty() || ids.insert(device.id).second) return;
      throw ConfigError(fmt::format("{}id: expected a name of its own, got {} again", where,
                                    in_quotes(device.id)));
    });
  }
}

/// A file that is written. Creates nothing.
void check_output(const std::string& path, const std::string& role) {
  const auto reject = [&](std::string_view why) {
    throw ConfigError(fmt::format("{}: {}", file_label(role, path), why));
  };
  struct stat info {};
  std::string written = path;
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) reject("is a directory; expected a file for output");
    if (S_ISSOCK(info.st_mode)) reject("is a socket; expected a file for output");
  } else if (errno == ENOENT) {
    const size_t slash = path.rfind('/');
    written = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  } else {
    reject(fmt::format("cannot be opened for writing: {}", std::strerror(errno)));
  }
  if (::faccessat(AT_FDCWD, written.c_str(), W_OK, AT_EACCESS) == 0) return;
  reject(fmt::format("cannot be opened for writing: {}", std::strerror(errno)));
}

/// A file of the machine, by what happens to it.
struct UsedFile {
  enum class Use { Loaded, ReadOnlyDisk, Disk, Output };
  std::string role;
  std::string path;
  Use use;
};

std::vector<UsedFile> used_files(const MachineConfig& config) {
  using enum UsedFile::Use;
  std::vector<UsedFile> files{{"kernel", config.kernel, Loaded}, {"initrd", config.initrd, Loaded}};
  for (const DeviceConfig& device : config.devices) {
    if (const auto* disk = std::get_if<BlkConfig>(&device)) {
      files.push_back({"disk", disk->path, disk->readonly ? ReadOnlyDisk : Disk});
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
      throw ConfigError(fmt::format("{}: expected a file of its own, this is also {}",
                                    file_label(files[i].role, files[i].path),
                                    file_label(files[j].role, files[j].path)));
    }
  }
}

}  // namespace

CpuList vcpu_cpus(const MachineConfig& config) {
  return parse_cpu_list(config.pin_vcpus, kPinVcpus);
}

CpuList io_cpus(const MachineConfig& config) {
  return parse_cpu_list(config.pin_io, kPinIo);
}

void validate(const MachineConfig& config) {
  check_options<MachineConfig>(kMachineOptions, config, "--");
  if (config.cmdline) check_command_line(*config.cmdline);
  check_memory(config);
  check_debug_ports(config);
  vcpu_cpus(config);
  io_cpus(config);
  check_devices(config.devices);
}

void validate_on_host(const MachineConfig& config) {
  check_allowed(vcpu_cpus(config), kPinVcpus);
  check_allowed(io_cpus(config), kPinIo);
  check_boot(boot_config(config), ram_low_size(config.memory));
  for (const DeviceConfig& device : config.devices) {
    std::visit([](const BlkConfig& disk) { check_disk(disk); }, device);
  }
  for (const UsedFile& file : used_files(config)) {
    if (file.use == UsedFile::Use::Output) check_output(file.path, file.role);
  }
  check_shared_files(config);
}

}  // namespace ringlet
