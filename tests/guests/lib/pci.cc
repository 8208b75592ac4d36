// PCI configuration space: access through ports 0xcf8/0xcfc or ECAM, capabilities, BARs.
#include "lib/pci.h"

#include "lib/console.h"
#include "lib/io.h"
#include "lib/memory.h"

namespace guest::pci {
namespace {

constexpr uint16_t kAddressPort = 0xcf8;
constexpr uint16_t kDataPort = 0xcfc;
constexpr uint32_t kAddressEnable = 0x80000000;
constexpr int kMaxCapabilities = 48;  // as many as fit into 192 bytes
constexpr uint32_t kBars = 6;

// Bits of a BAR.
constexpr uint32_t kBarIo = 1 << 0;
constexpr uint32_t kBarWide = 2 << 1;
constexpr uint32_t kBarTypeMask = 3 << 1;
constexpr uint32_t kBarPrefetchable = 1 << 3;
constexpr uint32_t kBarMemoryFlags = 0xf;
constexpr uint32_t kBarIoFlags = 0x3;

// MSI-X capability and table entry (PCI 3.0, 6.8.2).
constexpr uint16_t kMsixControl = 2;
constexpr uint16_t kMsixTable = 4;
constexpr uint16_t kMsixPending = 8;
constexpr uint16_t kMsixEnable = 1 << 15;
constexpr uint16_t kMsixMaskAll = 1 << 14;
constexpr uint16_t kMsixSizeMask = 0x7ff;
constexpr uint32_t kMsixEntryBytes = 16;

uint64_t ecam_base = 0;

constexpr uint16_t bar_offset(uint32_t index) {
  return static_cast<uint16_t>(kFirstBar + 4 * index);
}

// The address of a table that a capability names by BAR index (bits 2:0) and offset.
uint64_t table_address(const Function& function, uint32_t location) {
  const Bar bar = function.bar(location & 7);
  expect(bar.present && !bar.io, "MSI-X names BAR {}, which is not memory", location & 7);
  return bar.address + (location & ~uint32_t{7});
}

}  // namespace

void set_ecam_base(uint64_t address) {
  ecam_base = address;
  map_device(address, 1 << 20);
}

uint32_t Function::read_bytes(uint16_t offset, size_t size) const {
  if (access_ == Access::Ecam) {
    const uint64_t at = ecam_base + (uint64_t{bdf_.value()} << 12) + offset;
    switch (size) {
      case 1: return mmio_read<uint8_t>(at);
      case 2: return mmio_read<uint16_t>(at);
      default: return mmio_read<uint32_t>(at);
    }
  }
  port_out<uint32_t>(kAddressPort, kAddressEnable | bdf_.value() << 8 | (offset & 0xfcu));
  const auto port = static_cast<uint16_t>(kDataPort + (offset & 3));
  switch (size) {
    case 1: return port_in<uint8_t>(port);
    case 2: return port_in<uint16_t>(port);
    default: return port_in<uint32_t>(port);
  }
}

void Function::write_bytes(uint16_t offset, size_t size, uint32_t value) const {
  if (access_ == Access::Ecam) {
    const uint64_t at = ecam_base + (uint64_t{bdf_.value()} << 12) + offset;
    switch (size) {
      case 1: return mmio_write<uint8_t>(at, static_cast<uint8_t>(value));
      case 2: return mmio_write<uint16_t>(at, static_cast<uint16_t>(value));
      default: return mmio_write<uint32_t>(at, value);
    }
  }
  port_out<uint32_t>(kAddressPort, kAddressEnable | bdf_.value() << 8 | (offset & 0xfcu));
  const auto port = static_cast<uint16_t>(kDataPort + (offset & 3));
  switch (size) {
    case 1: return port_out<uint8_t>(port, static_cast<uint8_t>(value));
    case 2: return port_out<uint16_t>(port, static_cast<uint16_t>(value));
    default: return port_out<uint32_t>(port, value);
  }
}

std::optional<uint16_t> Function::next_capability(uint16_t after) const {
  if ((read<uint16_t>(kStatus) & kStatusCapabilities) == 0) {
    return std::nullopt;
  }
  const auto pointer = after == 0 ? kCapabilityPointer : static_cast<uint16_t>(after + 1);
  const uint16_t next = read<uint8_t>(pointer) & 0xfc;
  return next == 0 ? std::nullopt : std::optional{next};
}

std::optional<uint16_t> Function::find_capability(uint8_t id, uint16_t after) const {
  std::optional<uint16_t> at = next_capability(after);
  for (int i = 0; i < kMaxCapabilities; ++i) {
    if (!at || read<uint8_t>(*at) == id) {
      return at;
    }
    at = next_capability(*at);
  }
  fail("capability list without an end");
}

Bar Function::bar(uint32_t index) const {
  if (index >= kBars) {
    return {};
  }
  const auto low = read<uint32_t>(bar_offset(index));
  if ((low & kBarIo) != 0) {
    return {.present = true,
            .io = true,
            .wide = false,
            .prefetchable = false,
            .address = low & ~kBarIoFlags};
  }
  const bool wide = (low & kBarTypeMask) == kBarWide && index + 1 < kBars;
  const uint64_t high = wide ? read<uint32_t>(bar_offset(index + 1)) : 0;
  const uint64_t address = high << 32 | (low & ~kBarMemoryFlags);
  return {.present = address != 0 || low != 0,
          .io = false,
          .wide = wide,
          .prefetchable = (low & kBarPrefetchable) != 0,
          .address = address};
}

void Function::set_bar(uint32_t index, uint64_t address) const {
  const bool wide = bar(index).wide;
  write<uint32_t>(bar_offset(index), static_cast<uint32_t>(address));
  if (wide) {
    write<uint32_t>(bar_offset(index + 1), static_cast<uint32_t>(address >> 32));
  }
}

uint64_t Function::bar_size(uint32_t index) const {
  const auto command = read<uint16_t>(kCommand);
  const Bar before = bar(index);
  set_command(0, kCommandIo | kCommandMemory);
  const uint16_t offset = bar_offset(index);
  const auto low_before = read<uint32_t>(offset);
  write<uint32_t>(offset, ~uint32_t{0});
  uint64_t ones = read<uint32_t>(offset);
  write<uint32_t>(offset, low_before);
  const uint32_t flags = before.io ? kBarIoFlags : kBarMemoryFlags;
  if (before.wide) {
    const auto high_offset = bar_offset(index + 1);
    const auto high_before = read<uint32_t>(high_offset);
    write<uint32_t>(high_offset, ~uint32_t{0});
    ones |= uint64_t{read<uint32_t>(high_offset)} << 32;
    write<uint32_t>(high_offset, high_before);
  }
  write<uint16_t>(kCommand, command);
  ones &= ~uint64_t{flags};
  return ones & (0 - ones);  // the lowest bit that can be set
}

void Function::set_command(uint16_t set, uint16_t clear) const {
  const auto command = read<uint16_t>(kCommand);
  write<uint16_t>(kCommand, static_cast<uint16_t>((command & ~clear) | set));
}

std::optional<Function> find(uint16_t vendor, uint16_t device, uint32_t n) {
  for (uint8_t slot = 0; slot < 32; ++slot) {
    const Function function{Bdf{0, slot, 0}};
    if (function.read<uint16_t>(kVendorId) == vendor &&
        function.read<uint16_t>(kDeviceId) == device && n-- == 0) {
      return function;
    }
  }
  return std::nullopt;
}

Msix::Msix(const Function& function) : function_(function) {
  const std::optional<uint16_t> found = function.find_capability(kCapabilityMsix);
  expect(found.has_value(), "no MSI-X capability");
  capability_ = *found;
  const auto control = function.read<uint16_t>(static_cast<uint16_t>(capability_ + kMsixControl));
  size_ = static_cast<uint16_t>((control & kMsixSizeMask) + 1);
  table_ = table_address(function,
                         function.read<uint32_t>(static_cast<uint16_t>(capability_ + kMsixTable)));
  pending_ = table_address(
      function, function.read<uint32_t>(static_cast<uint16_t>(capability_ + kMsixPending)));
  map_device(table_, size_ * kMsixEntryBytes);
  map_device(pending_, 8);
}

void Msix::set_entry(uint16_t index, uint64_t address, uint32_t data) {
  const uint64_t entry = table_ + index * kMsixEntryBytes;
  mmio_write<uint32_t>(entry, static_cast<uint32_t>(address));
  mmio_write<uint32_t>(entry + 4, static_cast<uint32_t>(address >> 32));
  mmio_write<uint32_t>(entry + 8, data);
  mmio_write<uint32_t>(entry + 12, 0);
}

void Msix::set_masked(uint16_t index, bool masked) {
  mmio_write<uint32_t>(table_ + index * kMsixEntryBytes + 12, masked ? 1 : 0);
}

bool Msix::pending(uint16_t index) const {
  const auto word = mmio_read<uint32_t>(pending_ + index / 32 * 4);
  return (word >> index % 32 & 1) != 0;
}

void Msix::enable(bool on) {
  const auto at = static_cast<uint16_t>(capability_ + kMsixControl);
  const auto control = function_.read<uint16_t>(at);
  function_.write<uint16_t>(
      at, static_cast<uint16_t>(on ? control | kMsixEnable : control & ~kMsixEnable));
}

void Msix::mask_all(bool on) {
  const auto at = static_cast<uint16_t>(capability_ + kMsixControl);
  const auto control = function_.read<uint16_t>(at);
  function_.write<uint16_t>(
      at, static_cast<uint16_t>(on ? control | kMsixMaskAll : control & ~kMsixMaskAll));
}

}  // namespace guest::pci
