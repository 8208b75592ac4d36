// What the disk benchmark measures: loads, and the command lines that put them on a disk.
#include "tools/bench/blk_cases.h"

#include <algorithm>
#include <string_view>

#include <fmt/core.h>
#include <unistd.h>

#include "tests/kvm/may_pin.h"

namespace ringlet::bench {

namespace {

constexpr const char* kQemu = "/usr/bin/qemu-system-x86_64";
constexpr const char* kFio = "/usr/bin/fio";
constexpr uint64_t kMemoryMib = 256;
constexpr const char* kRegistered = "registered";

// What tools/bench/blk_init reads.
std::string linux_command_line(const BlkSetup& setup, const std::vector<BlkCase>& loads) {
  std::string line = fmt::format(
      "console=ttyS0 quiet loglevel=0 panic=-1 root=/dev/vda ro init=/sbin/blk_init -- {:.0f}",
      setup.seconds * 1000);
  for (const BlkCase& load : loads) {
    line += fmt::format(" {}:{}:{}:{}", load.what(), load.block_bytes, load.depth,
                        load.write ? setup.write_bytes : 0);
  }
  return line;
}

std::string guest_command_line(const BlkSetup& setup, const std::vector<BlkCase>& loads) {
  if (!setup.linux_root.empty()) return linux_command_line(setup, loads);
  std::string line =
      fmt::format("ms={:.0f} wait={} queues={} queue-size={} runs={}", setup.seconds * 1000,
                  setup.wait, setup.queues, setup.queue_size, loads.size());
  for (size_t i = 0; i < loads.size(); ++i) {
    const BlkCase& load = loads[i];
    line += fmt::format(" what{0}={1} block{0}={2} depth{0}={3}", i + 1, load.what(),
                        load.block_bytes, load.depth);
    if (load.write) line += fmt::format(" size{}={}", i + 1, setup.write_bytes);
  }
  return line;
}

void append(Command& command, const Command& words) {
  command.insert(command.end(), words.begin(), words.end());
}

/// How a guest under QEMU writes its lines, and ends.
Command qemu_console(const BlkSetup& setup) {
  if (setup.linux_root.empty()) {
    return {"-device", "isa-debugcon,iobase=0xe9,chardev=console",  //
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4"};
  }
  return {"-serial",
          "chardev:console",
          "-no-reboot",
          "-blockdev",
          "driver=file,node-name=root,read-only=on,filename=" + setup.linux_root,  //
          "-device",
          "virtio-blk-pci,disable-legacy=on,drive=root"};
}

Command ringlet_command(const Party& party, const BlkSetup& setup, bool direct) {
  const std::string disk =
      fmt::format("path={}{},queues={},queue-size={}{}", setup.file, direct ? ",direct" : "",
                  setup.queues, setup.queue_size, setup.ringlet_disk);
  Command command{party.binary, "run",      "--kernel",
                  setup.guest,  "--memory", fmt::format("{}M", kMemoryMib)};
  if (setup.linux_root.empty()) {
    append(command, {"--debug-console", "0xe9", "--debug-exit", "0xf4"});
  } else {
    append(command, {"--disk", fmt::format("path={},readonly", setup.linux_root)});
  }
  append(command, {"--disk", disk});
  append(command, setup.ringlet_args);
  append(command, party.more);
  command.emplace_back("--cmdline");
  return command;
}

Command qemu_command(const Party& party, const BlkSetup& setup, bool direct) {
  const std::string cache = direct ? "on" : "off";
  Command command{party.binary,
                  "-name",
                  "bench,debug-threads=on",  // or nobody could tell vCPU threads from the others
                  "-accel",
                  "kvm",
                  "-cpu",
                  "host,-arch-capabilities",
                  "-machine",
                  "q35",
                  "-nodefaults",
                  "-no-user-config",
                  "-display",
                  "none",
                  "-m",
                  std::to_string(kMemoryMib),
                  "-kernel",
                  setup.guest,
                  "-chardev",
                  "stdio,id=console,signal=off"};
  append(command, qemu_console(setup));
  append(command,
         {"-object", fmt::format("iothread,id=io{}", setup.qemu_polls ? "" : ",poll-max-ns=0"),
          "-blockdev",
          fmt::format("driver=file,node-name=file,filename={},aio={},cache.direct={}", setup.file,
                      party.aio, cache),
          "-blockdev", fmt::format("driver=raw,node-name=disk,file=file,cache.direct={}", cache),
          "-device",
          fmt::format("virtio-blk-pci,disable-legacy=on,drive=disk,iothread=io,num-queues={},"
                      "queue-size={}",
                      setup.queues, setup.queue_size),
          "-append"});
  return command;
}

std::vector<BlkCase> loads(bool direct) {
  std::vector<BlkCase> all;
  for (const bool write : {false, true}) {
    for (const uint32_t depth : {1U, 32U, 128U}) {
      all.push_back({.direct = direct, .write = write, .depth = depth});
    }
  }
  all.push_back({.direct = direct, .random = false, .block_bytes = 128 << 10, .depth = 8});
  return all;
}

std::vector<BlkCase> accesses() {
  std::vector<BlkCase> all;
  for (const std::string access : {"config-read", "port-read", "kick"}) {
    all.push_back({.direct = true, .access = access});
  }
  return all;
}

}  // namespace

std::string BlkCase::what() const {
  if (!is_load()) return access;
  return fmt::format("{}{}", random ? "rand" : "", write ? "write" : "read");
}

std::string BlkCase::group() const {
  if (!is_load()) return "access";
  return direct ? "direct" : "cached";
}

std::string BlkCase::name() const {
  if (!is_load()) return fmt::format("{} {}", group(), access);
  return fmt::format("{} {} {}k depth {}", group(), what(), block_bytes / 1024, depth);
}

std::vector<std::vector<BlkCase>> blk_cases(const std::vector<std::string>& filters) {
  const auto unwanted = [&](const BlkCase& load) {
    return std::none_of(filters.begin(), filters.end(), [&](const std::string& filter) {
      // At the end of a word, so that "depth 1" is not "depth 128" as well.
      return (load.name() + " ").find(filter + " ") != std::string::npos;
    });
  };
  std::vector<std::vector<BlkCase>> all{loads(true), loads(false), accesses()};
  if (!filters.empty()) {
    for (std::vector<BlkCase>& group : all) std::erase_if(group, unwanted);
  }
  std::erase_if(all, [](const std::vector<BlkCase>& group) { return group.empty(); });
  return all;
}

// QEMU's native AIO is for direct I/O only, and the way of I/O is not in the cost of an access.
bool Party::takes(const BlkCase& load) const {
  if (!load.is_load()) {
    return (kind == PartyKind::Ringlet && name != kRegistered) || aio == "io_uring";
  }
  return load.direct || aio != "native";
}

std::vector<Party> blk_parties(const BlkSetup& setup) {
  std::vector<Party> all{{.name = "ringlet", .kind = PartyKind::Ringlet, .binary = setup.ringlet}};
  if (may_pin(kMemoryMib << 20)) {
    all.push_back({.name = kRegistered,
                   .kind = PartyKind::Ringlet,
                   .binary = setup.ringlet,
                   .more = {"--register-memory"}});
  }
  if (!setup.also.empty()) {
    all.push_back({.name = "also",
                   .kind = PartyKind::Ringlet,
                   .binary = setup.also,
                   .more = setup.also_args});
  }
  if (::access(kQemu, X_OK) == 0) {
    for (const std::string aio : {"io_uring", "native", "threads"}) {
      all.push_back({.name = "qemu " + aio, .kind = PartyKind::Qemu, .binary = kQemu, .aio = aio});
    }
  }
  all.push_back({.name = "host fio", .kind = PartyKind::Fio, .binary = kFio});
  if (setup.linux_root.empty() && setup.wait != "hlt") {
    all.push_back(
        {.name = "fio + spinner", .kind = PartyKind::Fio, .binary = kFio, .beside_spin = true});
  }
  return all;
}

Command machine_command(const Party& party, const BlkSetup& setup,
                        const std::vector<BlkCase>& loads) {
  const bool direct = loads.front().direct;
  Command command = party.kind == PartyKind::Qemu ? qemu_command(party, setup, direct)
                                                  : ringlet_command(party, setup, direct);
  command.push_back(guest_command_line(setup, loads));
  return command;
}

// As the guest does: what has come is taken at once, and as many are submitted together.
Command fio_command(const Party& party, const BlkSetup& setup, const BlkCase& load) {
  Command command{party.binary,
                  "--name=bench",
                  "--filename=" + setup.file,
                  "--ioengine=io_uring",
                  "--registerfiles=1",
                  "--rw=" + load.what(),
                  fmt::format("--bs={}", load.block_bytes),
                  fmt::format("--direct={}", load.direct ? 1 : 0),
                  fmt::format("--iodepth={}", load.depth),
                  fmt::format("--iodepth_batch_submit={}", load.depth),
                  "--iodepth_batch_complete_min=1",
                  fmt::format("--iodepth_batch_complete_max={}", load.depth),
                  "--lat_percentiles=1",
                  "--clat_percentiles=0",
                  "--invalidate=0",
                  "--norandommap",
                  "--randrepeat=0",
                  "--time_based",
                  fmt::format("--runtime={:.0f}ms", setup.seconds * 1000),
                  "--thread",
                  "--output-format=json"};
  if (load.write) command.push_back(fmt::format("--size={}", setup.write_bytes));
  return command;
}

}  // namespace ringlet::bench
