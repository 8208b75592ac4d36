// The machine: every part of it, put together from a MachineConfig, in start-up order.
#include "vmm/machine.h"

#include <algorithm>
#include <bit>
#include <system_error>
#include <utility>

#include <unistd.h>

#include "kvm/error.h"
#include "kvm/log.h"
#include "virtio/blk.h"
#include "vmm/acpi/tables.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/loader.h"
#include "vmm/boot_config.h"
#include "vmm/crash.h"
#include "vmm/disk_file.h"
#include "vmm/layout.h"
#include "vmm/register_memory.h"

namespace ringlet {
namespace {

/// RAM below the hole, then the rest above it.
std::vector<AddrRange> ram_ranges(uint64_t bytes) {
  std::vector<AddrRange> ranges{{0, ram_low_size(bytes)}};
  if (bytes > kRamLowMax) ranges.push_back({kRamHighBase, bytes - kRamLowMax});
  return ranges;
}

AddrRange place_window64(const MachineConfig& config, const Kvm& kvm) {
  const auto window = window64(ram_end(config.memory), kvm.address_bits());
  if (window) return *window;
  throw ConfigError(fmt::format(
      "--memory: {} MiB do not fit; this host's guests have {} address bits, and PCI needs some",
      config.memory / kMiB, kvm.address_bits()));
}

uint32_t queue_count(const BlkConfig& config) {
  return config.queues;
}

/// On how many loops a device with so many queues is.
uint32_t part_count(uint32_t queues, size_t loops) {
  return static_cast<uint32_t>(std::min<size_t>(queues, loops));
}

uint32_t all_queues(const MachineConfig& config) {
  uint32_t queues = 0;
  for (const auto& any : config.devices) {
    visit_device(any, [&](const auto&, const auto& device) { queues += queue_count(device); });
  }
  return queues;
}

/// Rings and a file table for what the devices can have under way at once, and no larger: a host of
/// many small machines keeps them for each.
UringOptions loop_options(const MachineConfig& config, size_t loops) {
  constexpr uint32_t kFilesOfMachine = 32;  // serial port, wake-up
  constexpr uint32_t kFilesOfDevice = 8;    // what it works on, configuration changes, INTx
  constexpr uint32_t kCompletionsOfQueue = 256;
  uint32_t queues = 0;  // of a device the largest part
  uint32_t files = kFilesOfMachine;
  for (const auto& any : config.devices) {
    visit_device(any, [&](const auto&, const auto& device) {
      const uint32_t parts = part_count(queue_count(device), loops);
      const uint32_t own = (queue_count(device) + parts - 1) / parts;
      queues += own;
      // Doorbells of its own queues, but whichever of the device's vectors the driver gives them.
      files += kFilesOfDevice + own + queue_count(device);
    });
  }
  UringOptions options;
  options.cq_entries = std::clamp(std::bit_ceil(queues * kCompletionsOfQueue),
                                  2 * options.sq_entries, options.cq_entries);
  options.files = files;
  options.poll_ns = config.io_poll_us * 1000;
  return options;
}

std::vector<std::unique_ptr<UringLoop>> make_loops(const MachineConfig& config) {
  const size_t count = std::max(part_count(all_queues(config), config.io_threads), 1U);
  const UringOptions options = loop_options(config, count);
  std::vector<std::unique_ptr<UringLoop>> loops;
  while (loops.size() < count) loops.push_back(std::make_unique<UringLoop>(options));
  return loops;
}

/// Opens what the host has to give for a device and makes an instance of the device for each loop
/// that is to serve it. One overload for each type.
void make_device(const BlkConfig& config, uint32_t parts, PciDevice& slot) {
  slot.source = file_label("disk", config.path);
  Blk* first_part = nullptr;
  const auto add_part = [&](DiskFile disk) {
    auto part = std::make_unique<Blk>(blk_settings(config, slot.name), disk.backing, first_part);
    if (first_part == nullptr) first_part = part.get();
    slot.parts.push_back(std::move(part));
    slot.files.push_back(std::move(disk.file));
    if (disk.buffered) slot.files.push_back(std::move(disk.buffered));
  };
  DiskFile first = open_disk(config);
  std::vector<DiskFile> others;
  while (others.size() + 1 < parts) others.push_back(open_again(first));
  add_part(std::move(first));
  for (DiskFile& other : others) add_part(std::move(other));
}

Outcome outcome_of(const Vcpu& vcpu, const VcpuExit& exit) {
  using enum VcpuExit::Kind;
  switch (exit.kind) {
    case SystemReset: return {.kind = Outcome::Kind::Reset};
    case SystemPoweroff: return {.kind = Outcome::Kind::PowerOff};
    case SystemCrash: return {.kind = Outcome::Kind::Panic};
    case HostError:
      return {.kind = Outcome::Kind::HostError, .details = vcpu.describe_failure(exit)};
    default: return {.kind = Outcome::Kind::Crash, .details = vcpu.describe_failure(exit)};
  }
}

/// Of a thread that cannot be made the system says nothing but the errno.
template <typename Make>
void naming_threads(Make make) {
  try {
    make();
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "the machine's threads");
  }
}

}  // namespace

Machine::Machine(const MachineConfig& config)
    : memory_(ram_ranges(config.memory), {.kind = config.memory_backing,
                                          .huge_pages = config.huge_pages,
                                          .transparent_huge_pages = config.thp,
                                          .prefault = config.prefault}),
      window64_(place_window64(config, kvm_)),
      vm_(kvm_, memory_,
          {.identity_map = GuestAddr(kKvmIdentityMap.base), .tss = GuestAddr(kKvmTss.base)}),
      interrupts_(vm_),
      doorbells_(vm_),
      pit_(vm_, buses_.port),
      loops_(make_loops(config)),
      io_cpus_(io_cpus(config)),
      bridge_(buses_, {.ecam = kEcam, .window32 = kPciWindow32, .window64 = window64_}) {
  watch_guest_memory(&memory_);
  add_devices(config);
  make_vcpus(config);
  load_guest(config);
  memory_.allow_huge_pages();
  // Afterwards, as pinned pages that are small never become huge.
  if (config.register_memory) register_memory(loops_, memory_);
  // Last of what can be refused, since it may create the console's file.
  legacy_ = std::make_unique<LegacyDevices>(config, buses_, interrupts_, *loops_.front(), *this);
  naming_threads([&] {
    threads_ = std::make_unique<VcpuThreads>(
        vcpus_, buses_, [this](Vcpu& vcpu, const VcpuExit& exit) { vcpu_left(vcpu, exit); },
        vcpu_cpus(config));
  });
}

Machine::~Machine() {
  stop();
  watch_guest_memory(nullptr);
}

void Machine::add_devices(const MachineConfig& config) {
  size_t next_loop = 0;
  for (size_t i = 0; i < config.devices.size(); ++i) {
    // Slot 0 is the host bridge.
    const auto number = static_cast<unsigned>(i + 1);
    if (number >= kPciSlots) throw ConfigError("devices: 31 at most, one for each PCI slot");
    auto slot = std::make_unique<PciDevice>();
    visit_device(config.devices[i], [&](const auto& type, const auto& device) {
      slot->name = device.id.empty() ? fmt::format("{} 00:{:02x}.0", type.name, number) : device.id;
      make_device(device, part_count(queue_count(device), loops_.size()), *slot);
    });
    std::vector<DevicePart> parts;
    for (const auto& part : slot->parts) {
      parts.push_back({.device = *part, .loop = *loops_[next_loop++ % loops_.size()]});
    }
    slot->transport =
        std::make_unique<PciTransport>(parts.front().device,
                                       PciTransportParts{.interrupts = interrupts_,
                                                         .doorbells = doorbells_,
                                                         .loop = parts.front().loop,
                                                         .memory = memory_,
                                                         .pin = IntxPin::A,
                                                         .intx_gsi = intx_gsi(number, 0)},
                                       std::span(parts).subspan(1));
    bridge_.add(*slot->transport, number);
    devices_.push_back(std::move(slot));
  }
  bridge_.assign_bars();
}

void Machine::make_vcpus(const MachineConfig& config) {
  const bool tsc_deadline = kvm_.extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  for (uint32_t id = 0; id < config.cpus; ++id) {
    vcpus_.push_back(std::make_unique<Vcpu>(vm_, id));
    vcpus_.back()->set_cpuid(make_cpuid(kvm_.supported_cpuid(), {.apic_id = id,
                                                                 .cpu_count = config.cpus,
                                                                 .tsc_deadline = tsc_deadline,
                                                                 .changes = config.cpuid}));
  }
  if (config.cpuid.empty()) return;
  forced_cpuid_ = forced_changes(vcpus_.front()->cpuid(), config.cpuid);
  for (const CpuidChange& change : forced_cpuid_) {
    log_warn("cpuid: '{}' has no effect, KVM forces this bit on this host", to_string(change));
  }
}

void Machine::load_guest(const MachineConfig& config) {
  AcpiConfig acpi{.apic_ids = {}, .window64 = window64_, .has_serial = config.serial != "none"};
  for (const auto& vcpu : vcpus_) acpi.apic_ids.push_back(vcpu->id());
  const AcpiTables tables = build_acpi(acpi);
  if (config.cmdline && remove_pci_off(*config.cmdline) != *config.cmdline) {
    log_warn("kernel command line: pci=off was left out, all devices of this machine are on PCI");
  }
  BootConfig boot = boot_config(config);
  boot.rsdp = GuestAddr(tables.rsdp);
  const BootResult loaded = load_kernel(boot, memory_);
  const bool placed = memory_.write(GuestAddr(kAcpiTables.base), tables.blob);
  if (!placed) throw ConfigError("--memory: too small for the ACPI tables");
  std::visit([this](const auto& start) { vcpus_.front()->set_start(start); }, loaded.start);
}

// Running and ending --------------------------------------------------------------------------

void Machine::start() {
  // In this order the loop, once it runs, finds what the legacy devices ask of it and need not be
  // woken, and its thread comes to life beside the guest's first instructions.
  legacy_->start();
  threads_->resume();
  naming_threads([&] {
    for (size_t i = 0; i < loops_.size(); ++i) {
      const std::string name = loops_.size() == 1 ? "io-loop" : fmt::format("io-loop{}", i);
      io_threads_.push_back(std::make_unique<IoThread>(*loops_[i], name, io_cpus_));
    }
  });
}

void Machine::vcpu_left(Vcpu& vcpu, const VcpuExit& exit) {
  finish(outcome_of(vcpu, exit));
}

void Machine::guest_request(GuestRequest request, uint8_t status) noexcept {
  using Kind = Outcome::Kind;
  switch (request) {
    case GuestRequest::PowerOff: return finish({.kind = Kind::PowerOff});
    case GuestRequest::Reset: return finish({.kind = Kind::Reset});
    case GuestRequest::Panic: return finish({.kind = Kind::Panic});
    case GuestRequest::DebugExit: return finish({.kind = Kind::DebugExit, .status = status});
    case GuestRequest::UserLeft: return finish({.kind = Kind::UserLeft});
  }
}

void Machine::finish(Outcome outcome) noexcept {
  {
    const std::scoped_lock lock(outcome_mutex_);
    if (outcome_.kind != Outcome::Kind::None) return;
    outcome_ = std::move(outcome);
  }
  // The guest must not go on behind the instruction that ended it.
  threads_->request_pause();
  outcome_fd_.signal();
}

Outcome Machine::outcome() const {
  const std::scoped_lock lock(outcome_mutex_);
  return outcome_;
}

void Machine::press_power_button() {
  legacy_->acpi_pm().press_power_button();
}

void Machine::stop() {
  if (threads_) threads_->stop();
  if (!io_threads_.empty()) {
    legacy_->console().flush();
    io_threads_.clear();
    for (const auto& device : devices_) {
      if (device->files.empty() || !is_deleted(device->files.front())) continue;
      log_warn("{}: its file was deleted meanwhile, what the guest wrote is lost", device->source);
    }
  }
}

}  // namespace ringlet
