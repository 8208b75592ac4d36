// What machine to run: one struct, filled by the command line, the JSON file and the REST API,
// and checked in one place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "kvm/affinity.h"
#include "kvm/cpuid.h"
#include "kvm/log.h"
#include "kvm/memory.h"
#include "virtio/blk_config.h"
#include "virtio/options.h"

namespace ringlet {

/// Every type of device: the list that the command line, the JSON file and `ringlet devices` use.
using DeviceConfig = std::variant<BlkConfig>;

struct MachineConfig {
  std::string kernel;
  std::string initrd;
  std::optional<std::string> cmdline;  ///< not set: a default that suits the machine
  uint32_t cpus = 1;
  uint64_t memory = 256ull << 20;  ///< bytes
  MemoryBacking::Kind memory_backing = MemoryBacking::Kind::Anonymous;
  bool huge_pages = false;
  bool thp = true;
  bool prefault = false;
  bool register_memory = false;
  std::string serial = "stdio";  ///< or "none", or the name of a file for the output
  uint64_t grace_ms = 10'000;
  uint32_t io_threads = 1;
  uint64_t io_poll_us = 50;
  std::string pin_vcpus;  ///< a CpuList, as is the next; empty: wherever the host puts them
  std::string pin_io;
  bool boot_timer = false;
  std::optional<uint16_t> debug_exit;     ///< 4 ports from here on
  std::optional<uint16_t> debug_console;  ///< 1 port
  LogLevel log_level = LogLevel::Warn;
  std::string log_file;
  std::vector<CpuidChange> cpuid;
  std::vector<DeviceConfig> devices;  ///< in the order in which they get their PCI slots
};

inline constexpr std::string_view kMemoryBackings[] = {"anonymous", "shared"};
inline constexpr std::string_view kLogLevels[] = {"debug", "info", "warn", "error", "off"};

/// The options of the machine itself. `cpuid` and `devices`, which are lists, are not in here.
inline constexpr Option<MachineConfig> kMachineOptions[] = {
    option<&MachineConfig::kernel>({.name = "kernel",
                                    .doc = "kernel to boot: ELF (vmlinux) or bzImage",
                                    .form = OptionForm::File,
                                    .required = true}),
    option<&MachineConfig::initrd>(
        {.name = "initrd", .doc = "initial RAM disk", .form = OptionForm::File, .min = 1}),
    // One byte of the guest's 64 KiB for it is the final zero.
    option<&MachineConfig::cmdline>(
        {.name = "cmdline",
         .doc = "kernel command line; by default made for console and disks",
         .max = 65'535}),
    option<&MachineConfig::cpus>(
        {.name = "cpus", .doc = "number of virtual CPUs", .min = 1, .max = 64}),
    // KVM: a memory slot holds just under 8 TiB.
    option<&MachineConfig::memory>({.name = "memory",
                                    .doc = "guest memory; a plain number is in MiB",
                                    .form = OptionForm::Memory,
                                    .min = 16ull << 20,
                                    .max = 4ull << 40}),
    option<&MachineConfig::memory_backing>(
        {.name = "memory-backing",
         .doc = "private pages, or a memfd to share with other processes",
         .choices = kMemoryBackings}),
    option<&MachineConfig::huge_pages>(
        {.name = "huge-pages", .doc = "back memory with 2 MiB pages from the host's pool"}),
    option<&MachineConfig::thp>(
        {.name = "thp",
         .doc = "transparent huge pages: faster, but memory the guest touches comes in 2 MiB"}),
    option<&MachineConfig::prefault>(
        {.name = "prefault", .doc = "take all of the guest's memory from the host at the start"}),
    option<&MachineConfig::register_memory>(
        {.name = "register-memory",
         .doc = "pin all of the guest's memory at the start for cheaper direct I/O"}),
    option<&MachineConfig::serial>({.name = "serial",
                                    .doc = "serial console: stdio, none, or a file for its output",
                                    .form = OptionForm::File,
                                    .min = 1}),
    option<&MachineConfig::grace_ms>(
        {.name = "grace",
         .doc = "time the guest has to power off after a first SIGTERM or SIGINT",
         .form = OptionForm::Duration,
         .max = 86'400'000}),
    option<&MachineConfig::io_threads>(
        {.name = "io-threads",
         .doc = "number of I/O loops that the queues are dealt out to, one for each queue at most",
         .min = 1,
         .max = 64}),
    option<&MachineConfig::io_poll_us>(
        {.name = "io-poll",
         .doc = "longest time an I/O loop looks around before it sleeps; 0: sleep at once",
         .form = OptionForm::Instant,
         .max = 10'000}),
    option<&MachineConfig::pin_vcpus>(
        {.name = "pin-vcpus",
         .doc = "keep each virtual CPU on one of these CPUs of the host, in turn: 2-5,8",
         .min = 1}),
    option<&MachineConfig::pin_io>(
        {.name = "pin-io", .doc = "keep the I/O loops on these CPUs of the host: 0,1", .min = 1}),
    option<&MachineConfig::boot_timer>(
        {.name = "boot-timer", .doc = "log when the guest writes 123 to address 0xc0000000"}),
    option<&MachineConfig::debug_exit>(
        {.name = "debug-exit",
         .doc = "port by which the guest ends the machine with its own status",
         .form = OptionForm::Port,
         .min = 1,
         .max = 0xfffc}),
    option<&MachineConfig::debug_console>(
        {.name = "debug-console",
         .doc = "port that prints where the serial console does, usually 0xe9",
         .form = OptionForm::Port,
         .min = 1}),
    option<&MachineConfig::log_level>(
        {.name = "log-level", .doc = "least important messages to log", .choices = kLogLevels}),
    option<&MachineConfig::log_file>({.name = "log-file",
                                      .doc = "append the log to this file instead of stderr",
                                      .form = OptionForm::File,
                                      .min = 1}),
};

/// Calls f(kDeviceType<Config>) for the Config of every type of device.
template <typename F>
void for_each_device_type(F f) {
  [&]<typename... Config>(std::type_identity<std::variant<Config...>>) {
    (f(kDeviceType<Config>), ...);
  }(std::type_identity<DeviceConfig>{});
}

/// The description of the type that `device` has: what f(kDeviceType<Config>, config) returns.
template <typename F>
auto visit_device(const DeviceConfig& device, F f) {
  return std::visit(
      [&]<typename Config>(const Config& config) { return f(kDeviceType<Config>, config); },
      device);
}

/// Where the vCPUs, and the I/O loops, are to run. Throw ConfigError that names the option.
CpuList vcpu_cpus(const MachineConfig& config);
CpuList io_cpus(const MachineConfig& config);

/// Throws ConfigError for the first thing that makes no machine, named by its option (`--memory`,
/// `--disk id`), wherever it came from. Does not look at the host.
void validate(const MachineConfig& config);

/// Throws ConfigError for the first thing that this host has not: a CPU to pin to, or a named file
/// that is missing, of the wrong kind or size, not accessible, no kernel for this machine, or used
/// for two things of which one writes it. Creates and changes nothing.
void validate_on_host(const MachineConfig& config);

}  // namespace ringlet
