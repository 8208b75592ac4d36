// The probe's look at PCI devices and ports, from user space as any program could.
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_pci.h>
#include <sys/io.h>
#include <sys/mman.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <unistd.h>

#include "probe.h"

namespace {

constexpr const char* kDevices = "/sys/bus/pci/devices/";

/// A device's configuration space, as sysfs lets root read it.
class Config {
 public:
  explicit Config(const std::string& device) : bytes_(read_all(kDevices + device + "/config")) {
    bytes_.resize(PCI_CFG_SPACE_SIZE);
  }

  template <typename T>
  T get(size_t at) const {
    T value{};
    if (at + sizeof value <= bytes_.size()) std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }

  /// The first capability with this ID for which `fits(at)`, or 0.
  template <typename F>
  size_t capability(uint8_t id, F fits) const {
    constexpr int kMost = 48;  // as Linux has it: more cannot be in 192 bytes
    size_t at = get<uint8_t>(PCI_CAPABILITY_LIST);
    for (int i = 0; at != 0 && i < kMost; ++i) {
      if (get<uint8_t>(at) == id && fits(at)) return at;
      at = get<uint8_t>(at + 1);
    }
    return 0;
  }

 private:
  std::string bytes_;
};

bool any(size_t /*at*/) {
  return true;
}

std::optional<virtio_pci_cap> virtio_capability(const Config& config, uint8_t type) {
  const size_t at = config.capability(PCI_CAP_ID_VNDR, [&](size_t candidate) {
    return config.get<virtio_pci_cap>(candidate).cfg_type == type;
  });
  if (at == 0) return std::nullopt;
  return config.get<virtio_pci_cap>(at);
}

template <typename T>
T read_register(const volatile char* bar, size_t at) {
  return *reinterpret_cast<const volatile T*>(bar + at);
}

}  // namespace

/// Each device: identity, whether MSI-X is on and how many vectors Linux uses.
void tell_pci(const std::string& /*argument*/) {
  for (const std::string& device : list(kDevices)) {
    const Config config(device);
    const size_t msix = config.capability(PCI_CAP_ID_MSIX, any);
    const bool on = msix != 0 && (config.get<uint16_t>(msix + PCI_MSIX_FLAGS) & 0x8000) != 0;
    tell("pci %s %04x:%04x class=%06x msix=%s vectors=%zu", device.c_str(), config.get<uint16_t>(0),
         config.get<uint16_t>(2), config.get<uint32_t>(PCI_CLASS_REVISION) >> 8, on ? "on" : "off",
         list(kDevices + device + "/msi_irqs").size());
  }
}

/// Maps the BAR of a virtio disk, beside the kernel's driver, and reads registers in it.
void tell_bar(const std::string& device) {
  const Config config(device);
  const auto common = virtio_capability(config, VIRTIO_PCI_CAP_COMMON_CFG);
  const auto specific = virtio_capability(config, VIRTIO_PCI_CAP_DEVICE_CFG);
  if (!common || !specific || common->bar != 0 || specific->bar != 0) {
    return tell("error bar: no virtio structures in BAR 0");
  }
  constexpr size_t kBarBytes = 0x8000;
  const int fd = ::open((kDevices + device + "/resource0").c_str(), O_RDWR | O_SYNC | O_CLOEXEC);
  void* mapped = ::mmap(nullptr, kBarBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return tell_error("bar: mmap");
  const auto* bar = static_cast<const volatile char*>(mapped);
  tell("bar num_queues=%u device_status=0x%x capacity=%llu",
       read_register<uint16_t>(bar, common->offset + offsetof(virtio_pci_common_cfg, num_queues)),
       read_register<uint8_t>(bar, common->offset + offsetof(virtio_pci_common_cfg, device_status)),
       static_cast<unsigned long long>(
           read_register<uint64_t>(bar, specific->offset + offsetof(virtio_blk_config, capacity))));
}

namespace {

sigjmp_buf port_fault;

void on_fault(int /*signal*/) {
  siglongjmp(port_fault, 1);
}

unsigned read_cmos(unsigned char index) {
  ::outb(index, 0x70);
  return ::inb(0x71);
}

/// Reads ports of three devices; a fault means that the right to do so did not reach the processor.
void read_ports(const char* by) {
  if (sigsetjmp(port_fault, 1) != 0) return tell("ports by %s: fault", by);
  ::outl(0x80000000, 0xcf8);
  const unsigned bridge = ::inl(0xcfc);
  ::outl(0x80000800, 0xcf8);
  const unsigned vendor = ::inw(0xcfc);
  const unsigned line_status = ::inb(0x3f8 + 5);
  // Year, month and day, as the clock has them: binary-coded decimal.
  tell("ports by %s: bridge=0x%08x vendor=0x%04x uart=0x%02x date=%02x%02x%02x", by, bridge, vendor,
       line_status & 0x20, read_cmos(9), read_cmos(8), read_cmos(7));
}

}  // namespace

/// Reads ports with both rights that Linux can give a program.
void tell_ports(const std::string& /*argument*/) {
  struct sigaction action {};
  action.sa_handler = on_fault;
  ::sigaction(SIGSEGV, &action, nullptr);
  read_ports("nothing");
  const bool permitted =
      ::ioperm(0xcf8, 8, 1) == 0 && ::ioperm(0x70, 2, 1) == 0 && ::ioperm(0x3f8, 8, 1) == 0;
  if (!permitted) return tell_error("ioperm");
  read_ports("ioperm");
  ::ioperm(0xcf8, 8, 0);
  if (::iopl(3) != 0) return tell_error("iopl");
  read_ports("iopl");
  ::iopl(0);
}
