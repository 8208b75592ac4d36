// The configuration space of a PCI function: type 0 header, base address registers, capabilities.
#include "pci/config_space.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace ringlet {

namespace {

constexpr size_t kHeaderSize = 0x40;
constexpr uint16_t kStatusInterrupt = 1 << 3;
constexpr uint16_t kStatusCapabilities = 1 << 4;
constexpr uint32_t kBar64Bit = 0b10 << 1;
constexpr uint32_t kBarPrefetchable = 1 << 3;
constexpr uint64_t kBarFlags = 0xf;
constexpr size_t kBarsEnd = kConfigBar0 + 4 * ConfigSpace::kBars;

// Every register of the header that any function lets the guest write; set-up adds the BARs and
// what capabilities bring. The error bits of Status are cleared by writing ones (6.2.3), but as
// none is ever set, dropping the write is the same.
struct WritableRegister {
  uint16_t at;
  uint8_t width;
  uint16_t mask;
};
constexpr WritableRegister kWritableRegisters[] = {
    {kConfigCommand, 2, PciCommand::kWritable},
    {kConfigCacheLine, 1, 0xff},      // kept for old software, no effect (PCIe 6.0, 7.5.1.1.7)
    {kConfigInterruptLine, 1, 0xff},  // a note from firmware to drivers
};

constexpr bool touches(size_t at, size_t length, size_t begin, size_t end) {
  return at < end && at + length > begin;
}

}  // namespace

ConfigSpace::ConfigSpace(const PciIdentity& identity) {
  assert(identity.class_code <= 0xffffff);
  set(kConfigVendor, 2, identity.vendor);
  set(kConfigDevice, 2, identity.device);
  set(kConfigRevision, 1, identity.revision);
  set(kConfigClass, 3, identity.class_code);
  set(kConfigSubsystemVendor, 2, identity.subsystem_vendor);
  set(kConfigSubsystem, 2, identity.subsystem);
  for (const WritableRegister& reg : kWritableRegisters) {
    set_writable(reg.at, reg.width, reg.mask);
  }
}

void ConfigSpace::set_interrupt(IntxPin pin, uint8_t line) {
  set(kConfigInterruptPin, 1, static_cast<uint8_t>(pin));
  set(kConfigInterruptLine, 1, line);
}

void ConfigSpace::add_bar(const Bar& bar) {
  assert(bar.index < kBars && !bars_[bar.index]);
  assert(std::has_single_bit(bar.size) && bar.size >= 16);
  assert(bar.is_64bit ? bar.index + 1 < kBars && !bars_[bar.index + 1] : bar.size <= 1u << 31);
  assert(bar.index == 0 || !bars_[bar.index - 1] || !bars_[bar.index - 1]->is_64bit);
  const size_t at = kConfigBar0 + size_t{4} * bar.index;
  const size_t width = bar.is_64bit ? 8 : 4;
  set(at, width, (bar.is_64bit ? kBar64Bit : 0) | (bar.prefetchable ? kBarPrefetchable : 0));
  // The address bits below the size are hardwired to zero: that is how software learns the size.
  set_writable(at, width, ~(bar.size - 1));
  bars_[bar.index] = bar;
}

uint8_t ConfigSpace::add_capability(const Capability& capability) {
  size_t at = kHeaderSize;
  size_t link = kConfigCapabilities;
  if (!capabilities_.empty()) {
    const Placed& last = capabilities_.back();
    at = (last.at + last.size + size_t{3}) & ~size_t{3};  // on a dword (6.7)
    link = last.at + size_t{1};
  }
  const size_t size = 2 + capability.body.size();
  assert(at + size <= kSize);
  assert(capability.writable.empty() || capability.writable.size() == capability.body.size());
  set(link, 1, at);
  set(at, 1, capability.id);
  std::ranges::copy(capability.body, value_.begin() + static_cast<ptrdiff_t>(at) + 2);
  std::ranges::copy(capability.writable, writable_.begin() + static_cast<ptrdiff_t>(at) + 2);
  set(kConfigStatus, 2, read16(kConfigStatus) | kStatusCapabilities);
  capabilities_.push_back(
      {static_cast<uint8_t>(at), static_cast<uint8_t>(size), capability.handler});
  return static_cast<uint8_t>(at);
}

void ConfigSpace::read(uint16_t at, std::span<std::byte> data) noexcept {
  assert(at % 4 + data.size() <= 4);
  std::ranges::fill(data, std::byte{0});
  if (at >= kSize) return;
  std::copy_n(value_.begin() + at, data.size(), data.begin());
  for (const Placed& capability : capabilities_) {
    if (capability.handler == nullptr) continue;
    const size_t first = std::max<size_t>(at, capability.at);
    const size_t last = std::min<size_t>(at + data.size(), capability.at + capability.size);
    if (first >= last) continue;
    capability.handler->capability_read(first - capability.at,
                                        data.subspan(first - at, last - first));
  }
}

ConfigSpace::Change ConfigSpace::write(uint16_t at, std::span<const std::byte> data) noexcept {
  assert(at % 4 + data.size() <= 4);
  if (at >= kSize) return {};
  const PciCommand old_command = command();
  bool changed = false;
  for (size_t i = 0; i < data.size(); ++i) {
    std::byte& value = value_[at + i];
    const std::byte mask = writable_[at + i];
    const std::byte next = (value & ~mask) | (data[i] & mask);
    changed |= next != value;
    value = next;
  }
  for (const Placed& capability : capabilities_) {
    if (capability.handler == nullptr) continue;
    const size_t first = std::max<size_t>(at, capability.at);
    const size_t last = std::min<size_t>(at + data.size(), capability.at + capability.size);
    if (first >= last) continue;
    capability.handler->capability_written(first - capability.at,
                                           data.subspan(first - at, last - first));
  }
  return {.command = command() != old_command,
          .decoding = (changed && touches(at, data.size(), kConfigBar0, kBarsEnd)) ||
                      command().memory() != old_command.memory()};
}

void ConfigSpace::set_command(PciCommand command) noexcept {
  assert((command.value & ~PciCommand::kWritable) == 0);
  set(kConfigCommand, 2, command.value);
}

uint64_t ConfigSpace::bar_base(unsigned index) const noexcept {
  assert(bars_.at(index).has_value());
  return get(kConfigBar0 + size_t{4} * index, bars_[index]->is_64bit ? 8 : 4) & ~kBarFlags;
}

void ConfigSpace::set_bar_base(unsigned index, uint64_t base) noexcept {
  assert(bars_.at(index).has_value());
  const Bar& bar = *bars_[index];
  assert(base % bar.size == 0);
  assert(bar.is_64bit || base <= UINT32_MAX);
  const size_t at = kConfigBar0 + size_t{4} * index;
  const size_t width = bar.is_64bit ? 8 : 4;
  set(at, width, base | (get(at, width) & kBarFlags));
}

void ConfigSpace::store(size_t at, std::span<const std::byte> data) noexcept {
  assert(at >= kHeaderSize && at + data.size() <= kSize);
  std::ranges::copy(data, value_.begin() + static_cast<ptrdiff_t>(at));
}

void ConfigSpace::set_interrupt_status(bool asserted) noexcept {
  const unsigned others = read16(kConfigStatus) & ~unsigned{kStatusInterrupt};
  set(kConfigStatus, 2, others | (asserted ? kStatusInterrupt : 0));
}

ConfigSpaceState ConfigSpace::save() const {
  ConfigSpaceState state;
  std::ranges::transform(value_, state.bytes.begin(),
                         [](std::byte byte) { return std::to_integer<uint8_t>(byte); });
  return state;
}

void ConfigSpace::restore(const ConfigSpaceState& state) {
  for (size_t i = 0; i < kSize; ++i) {
    value_[i] = (value_[i] & ~writable_[i]) | (std::byte{state.bytes[i]} & writable_[i]);
  }
}

uint64_t ConfigSpace::get(size_t at, size_t width) const noexcept {
  assert(at + width <= kSize);
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) {
    value |= std::to_integer<uint64_t>(value_[at + i]) << (8 * i);
  }
  return value;
}

void ConfigSpace::set(size_t at, size_t width, uint64_t value) noexcept {
  assert(at + width <= kSize);
  for (size_t i = 0; i < width; ++i) value_[at + i] = static_cast<std::byte>(value >> (8 * i));
}

void ConfigSpace::set_writable(size_t at, size_t width, uint64_t mask) noexcept {
  assert(at + width <= kSize);
  for (size_t i = 0; i < width; ++i) writable_[at + i] = static_cast<std::byte>(mask >> (8 * i));
}

}  // namespace ringlet
