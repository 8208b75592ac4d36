// The root of PCI: bus 0, the two ways to its configuration space, and where BARs are decoded.
#include "pci/host_bridge.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <functional>
#include <iterator>
#include <vector>

#include "kvm/error.h"

namespace ringlet {

namespace {

// The identity of QEMU's generic PCI Express host: made for virtual machines, and no system has
// workarounds for it, as they have for the chipsets whose identity others borrow.
constexpr PciIdentity kIdentity{.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000};

constexpr uint32_t kAddressEnable = 1u << 31;
/// Enable, bus, device, function and dword; the other bits are reserved, read as zero.
constexpr uint32_t kAddressBits = 0x80fffffc;
constexpr uint64_t kAddressPort = 0;  // offsets in HostBridge::kConfigPorts
constexpr uint64_t kDataPort = 4;

constexpr uint64_t kEcamBytesPerFunction = 4096;
constexpr uint64_t kEcamBytesPerBus = 1 << 20;

/// Cuts an access into the parts that lie in one dword: `part(at, data)`.
template <typename Byte, typename Part>
void for_each_dword(uint64_t at, std::span<Byte> data, Part&& part) {
  while (!data.empty()) {
    const size_t length = std::min<size_t>(data.size(), 4 - at % 4);
    part(at, data.first(length));
    data = data.subspan(length);
    at += length;
  }
}

/// Cuts `size` bytes, aligned to their size, off the beginning of `free`.
std::optional<uint64_t> take_aligned(AddrRange& free, uint64_t size) {
  const uint64_t skip = (size - free.base % size) % size;
  if (skip > free.size || size > free.size - skip) return std::nullopt;
  const uint64_t base = free.base + skip;
  free = {base + size, free.size - skip - size};
  return base;
}

/// As lspci prints sizes: "16K".
std::string size_text(uint64_t size) {
  const char* const units[] = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  for (; size >= 1024 && unit + 1 < std::size(units); ++unit) size /= 1024;
  return fmt::format("{}{}", size, units[unit]);
}

constexpr Bdf address_bdf(uint32_t address) {
  return Bdf::from_value(static_cast<uint16_t>(address >> 8));
}
/// The data port's bytes are the selected dword's.
constexpr uint16_t address_register(uint32_t address, uint64_t port_offset) {
  return static_cast<uint16_t>((address & 0xfc) + (port_offset - kDataPort));
}
constexpr Bdf ecam_bdf(uint64_t offset) {
  return Bdf::from_value(static_cast<uint16_t>(offset / kEcamBytesPerFunction));
}
constexpr uint16_t ecam_register(uint64_t offset) {
  return static_cast<uint16_t>(offset % kEcamBytesPerFunction);
}

}  // namespace

HostBridge::HostBridge(Buses& buses, const PciLayout& layout)
    : mmio_(buses.mmio), layout_(layout), bridge_(kIdentity) {
  assert(layout.ecam.size >= kEcamBytesPerBus && layout.ecam.size <= 256 * kEcamBytesPerBus);
  const bool has_ports = buses.port.insert(kConfigPorts, ports_);
  const bool has_ecam = buses.mmio.insert(layout.ecam, ecam_);
  assert(has_ports);
  assert(has_ecam);
  add(bridge_, 0);
}

Bdf HostBridge::add(PciFunction& function, std::optional<unsigned> slot) {
  if (!slot) {
    const auto free = std::ranges::find(slots_, nullptr, [](const Slot& s) { return s.function; });
    if (free == slots_.end())
      throw ConfigError("PCI: more than 31 devices; the bus has no slot left");
    slot = static_cast<unsigned>(std::distance(slots_.begin(), free));
  }
  if (*slot >= kSlots) throw ConfigError(fmt::format("PCI: no slot {}; expected 1 to 31", *slot));
  if (slots_[*slot].function != nullptr)
    throw ConfigError(fmt::format("PCI: slot {} is taken; expected a free one", *slot));
  slots_[*slot].function = &function;
  return {0, *slot, 0};
}

void HostBridge::assign_bars() {
  struct Request {
    ConfigSpace* config;
    Bdf bdf;
    Bar bar;
  };
  std::vector<Request> requests;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    if (slots_[slot].function == nullptr) continue;
    ConfigSpace& config = slots_[slot].function->config();
    for (unsigned index = 0; index < ConfigSpace::kBars; ++index) {
      if (const auto& bar = config.bar(index)) requests.push_back({&config, {0, slot, 0}, *bar});
    }
  }
  // Largest first: all sizes are powers of two, so alignment leaves no gaps but the first.
  std::ranges::stable_sort(requests, std::greater{}, [](const Request& r) { return r.bar.size; });

  AddrRange free32 = layout_.window32;
  AddrRange free64 = layout_.window64;
  for (const Request& request : requests) {
    std::optional<uint64_t> base;
    if (request.bar.is_64bit) base = take_aligned(free64, request.bar.size);
    if (!base) base = take_aligned(free32, request.bar.size);
    if (!base) {
      throw ConfigError(fmt::format("PCI {}: no room for BAR {} of {} bytes in its window",
                                    to_string(request.bdf), request.bar.index, request.bar.size));
    }
    request.config->set_bar_base(request.bar.index, *base);
    request.config->set_command({PciCommand::kMemory});
  }
  settle();
}

void HostBridge::config_read(Bdf bdf, uint16_t at, std::span<std::byte> data) noexcept {
  if (PciFunction* const function = find(bdf)) {
    function->config_read(at, data);
  } else {
    std::ranges::fill(data, std::byte{0xff});
  }
}

bool HostBridge::config_write(Bdf bdf, uint16_t at, std::span<const std::byte> data) noexcept {
  PciFunction* const function = find(bdf);
  return function != nullptr && function->config_write(at, data);
}

PciFunction* HostBridge::find(Bdf bdf) const noexcept {
  return bdf.bus() == 0 && bdf.function() == 0 ? slots_[bdf.device()].function : nullptr;
}

std::optional<GuestAddr> HostBridge::mapped_at(Bdf bdf, unsigned bar) const noexcept {
  if (find(bdf) == nullptr) return std::nullopt;
  return slots_[bdf.device()].mapped.at(bar);
}

void HostBridge::restore(const HostBridgeState& state) {
  config_address_ = state.config_address & kAddressBits;
  bridge_.config().restore(state.config_space);
  settle();
}

/// Decides where the BARs of one function are decoded and enters them into the MMIO bus, which
/// refuses a place that is taken.
HostBridge::Mapping HostBridge::decode(const Slot& slot, Bdf bdf) noexcept {
  Mapping mapping{};
  if (slot.function == nullptr || !slot.function->config().command().memory()) return mapping;
  const ConfigSpace& config = slot.function->config();
  for (unsigned index = 0; index < ConfigSpace::kBars; ++index) {
    const auto& bar = config.bar(index);
    if (!bar) continue;
    const AddrRange range{config.bar_base(index), bar->size};
    const bool in_window = layout_.window32.contains(range.base, range.size) ||
                           layout_.window64.contains(range.base, range.size);
    if (in_window && mmio_.insert(range, slot.function->bar_device(index))) {
      mapping[index] = GuestAddr(range.base);
    } else if (log_limit_.allow()) {
      log_warn("PCI {}: BAR {} is not decoded at {:#x}: {}", to_string(bdf), index, range.base,
               in_window ? "something else is there" : "outside the bridge's windows");
    }
  }
  return mapping;
}

void HostBridge::settle() noexcept {
  // Entries of the bus cost nothing, so all are made anew, in order. What costs milliseconds is
  // to remove doorbells: functions hear of changes only.
  for (const Slot& slot : slots_) {
    for (const auto& base : slot.mapped) {
      if (base) mmio_.remove(base->value());
    }
  }
  std::array<Mapping, kSlots> next;
  for (unsigned i = 0; i < kSlots; ++i) next[i] = decode(slots_[i], {0, i, 0});

  for (unsigned i = 0; i < kSlots; ++i) {
    for (unsigned bar = 0; bar < ConfigSpace::kBars; ++bar) {
      const auto& old = slots_[i].mapped[bar];
      if (old && old != next[i][bar]) slots_[i].function->bar_mapped(bar, std::nullopt);
    }
  }
  for (unsigned i = 0; i < kSlots; ++i) {
    for (unsigned bar = 0; bar < ConfigSpace::kBars; ++bar) {
      const auto& base = next[i][bar];
      if (base && base != slots_[i].mapped[bar]) slots_[i].function->bar_mapped(bar, base);
    }
    slots_[i].mapped = next[i];
  }
}

std::string HostBridge::describe() const {
  std::string text;
  for (unsigned i = 0; i < kSlots; ++i) {
    if (slots_[i].function == nullptr) continue;
    const ConfigSpace& config = slots_[i].function->config();
    text += fmt::format("{} {:04x}: {:04x}:{:04x} (rev {:02x})\n", to_string(Bdf(0, i, 0)),
                        config.read16(kConfigClass + 1), config.read16(kConfigVendor),
                        config.read16(kConfigDevice), config.read8(kConfigRevision));
    for (unsigned index = 0; index < ConfigSpace::kBars; ++index) {
      const auto& bar = config.bar(index);
      if (!bar) continue;
      text += fmt::format("\tMemory at {:x} ({}-bit, {}prefetchable) [size={}]{}\n",
                          config.bar_base(index), bar->is_64bit ? 64 : 32,
                          bar->prefetchable ? "" : "non-", size_text(bar->size),
                          slots_[i].mapped[index] ? "" : " [disabled]");
    }
  }
  return text;
}

void HostBridge::ConfigPorts::read(uint64_t offset, std::span<std::byte> data) noexcept {
  const uint32_t address = bridge_.config_address_;
  if (offset == kAddressPort && data.size() == sizeof(uint32_t)) {
    std::ranges::copy(std::bit_cast<std::array<std::byte, 4>>(address), data.begin());
  } else if (offset >= kDataPort && (address & kAddressEnable) != 0) {
    bridge_.config_read(address_bdf(address), address_register(address, offset), data);
  }
}

void HostBridge::ConfigPorts::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  const uint32_t address = bridge_.config_address_;
  if (offset == kAddressPort && data.size() == sizeof(uint32_t)) {
    std::array<std::byte, 4> bytes;
    std::ranges::copy(data, bytes.begin());
    bridge_.config_address_ = std::bit_cast<uint32_t>(bytes) & kAddressBits;
  } else if (offset >= kDataPort && (address & kAddressEnable) != 0) {
    if (bridge_.config_write(address_bdf(address), address_register(address, offset), data)) {
      bridge_.settle();
    }
  }
}

void HostBridge::Ecam::read(uint64_t offset, std::span<std::byte> data) noexcept {
  for_each_dword(offset, data, [&](uint64_t at, std::span<std::byte> part) {
    bridge_.config_read(ecam_bdf(at), ecam_register(at), part);
  });
}

void HostBridge::Ecam::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  bool decoding_changed = false;
  for_each_dword(offset, data, [&](uint64_t at, std::span<const std::byte> part) {
    decoding_changed |= bridge_.config_write(ecam_bdf(at), ecam_register(at), part);
  });
  if (decoding_changed) bridge_.settle();  // once: a qword that moves a 64-bit BAR is one move
}

}  // namespace ringlet
