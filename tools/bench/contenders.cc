// Command lines with nothing on board that the guest does not need.
#include "tools/bench/contenders.h"

#include <fmt/core.h>
#include <unistd.h>

namespace ringlet::bench {

namespace {

Command qemu(const Setup& setup, const std::string& binary, const std::string& machine,
             const std::string& disk_device) {
  return {binary,
          "-accel",
          "kvm",
          "-cpu",
          "host,-arch-capabilities",
          "-machine",
          machine,
          "-nodefaults",
          "-no-user-config",
          "-display",
          "none",
          "-m",
          std::to_string(setup.memory_mib),
          "-kernel",
          setup.guest,
          "-chardev",
          "stdio,id=console,signal=off",
          "-device",
          "isa-serial,chardev=console",
          "-blockdev",
          "driver=file,filename=" + setup.disk + ",node-name=disk" +
              (setup.shared_disk ? ",read-only=on" : ""),
          "-device",
          disk_device + ",drive=disk"};
}

bool installed(const std::string& binary) {
  return ::access(binary.c_str(), X_OK) == 0;
}

}  // namespace

std::vector<Contender> contenders(const Setup& setup) {
  const std::string microvm = "microvm,acpi=off,rtc=off,pit=off,pic=off,isa-serial=off";
  const std::string full = "/usr/bin/qemu-system-x86_64";
  const std::string lean = "/usr/bin/qemu-system-x86_64-microvm";
  std::vector<Contender> all{{"floor", {setup.floor, std::to_string(setup.memory_mib)}},
                             {"ringlet",
                              {setup.ringlet, "run", "--kernel", setup.guest, "--memory",
                               fmt::format("{}M", setup.memory_mib), "--disk",
                               "path=" + setup.disk + (setup.shared_disk ? ",readonly" : "")}}};
  if (installed(lean)) {
    all.push_back({"qemu microvm, lean binary", qemu(setup, lean, microvm, "virtio-blk-device")});
  }
  if (installed(full)) {
    all.push_back({"qemu microvm", qemu(setup, full, microvm, "virtio-blk-device")});
    all.push_back({"qemu q35", qemu(setup, full, "q35", "virtio-blk-pci,disable-legacy=on"), true});
  }
  return all;
}

}  // namespace ringlet::bench
