// Fuzzes PCI by call sequence: what a guest can do to configuration ports, ECAM, BARs and the
// registers behind them. A model says which BARs are decoded.
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <optional>
#include <span>

#include "kvm/bus.h"
#include "kvm/irq.h"
#include "pci/host_bridge.h"
#include "pci/msix.h"

namespace ringlet {
namespace {

constexpr PciLayout kLayout{.ecam = {0xe0000000, 0x100000},
                            .window32 = {0xc8000000, 0x18000000},
                            .window64 = {0x4000000000, 0x1000000000}};

/// A vector that checks that MSI-X knows its state.
struct Vector final : MsiVector {
  int fd() const noexcept override { return 0; }
  bool attach(const MsiMessage& message) noexcept override {
    assert(message.address % 4 == 0);
    if (message.data % 16 == 15) return false;  // refused; stays as it was
    attached = true;
    return true;
  }
  void detach() noexcept override { attached = false; }
  bool pending() const noexcept override {
    assert(!attached);
    return true;
  }
  void clear() noexcept override {}
  bool attached = false;
};

struct Interrupts final : InterruptSource {
  std::unique_ptr<MsiVector> make_msi() override { return std::make_unique<Vector>(); }
  std::unique_ptr<LevelLine> make_level(Gsi) override { return nullptr; }
  std::unique_ptr<IrqLine> make_line(Gsi) override { return nullptr; }
};

/// BAR 0 holds an MSI-X table, pending bits behind it; BAR 2 (32-bit) nothing.
class Function final : public PciFunction, public BusDevice {
 public:
  explicit Function(InterruptSource& interrupts)
      : PciFunction({.vendor = 0x1af4, .device = 0x1042, .class_code = 0x018000}),
        msix_(config(), interrupts, {.vectors = 5, .pba_offset = 0x800}) {
    config().add_bar({.index = 0, .size = 0x1000});
    config().add_bar({.index = 2, .size = 0x100000, .is_64bit = false});
  }
  BusDevice& bar_device(unsigned /*bar*/) noexcept override { return *this; }
  void bar_mapped(unsigned bar, std::optional<GuestAddr> base) noexcept override {
    assert(mapped_.at(bar).has_value() != base.has_value());  // comes and goes in turn
    mapped_[bar] = base;
  }
  void read(uint64_t offset, std::span<std::byte> data) noexcept override {
    offset < 0x800 ? msix_.table_read(offset, data) : msix_.pba_read(offset - 0x800, data);
  }
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override {
    msix_.table_write(offset, data);
    (void)msix_.vector_fd(std::to_integer<uint16_t>(data[0]));
  }
  void restore(const ConfigSpaceState& state) {
    config().restore(state);
    msix_.restore(msix_.save());
  }
  const auto& mapped() const { return mapped_; }

 private:
  Msix msix_;
  std::array<std::optional<GuestAddr>, ConfigSpace::kBars> mapped_{};
};

struct Machine {
  Machine() {
    for (Function& function : functions) bridge.add(function);
    bridge.assign_bars();
  }

  /// Where BARs are decoded follows from the registers, and functions know where they are.
  void check() const {
    std::array<AddrRange, 6> taken{};
    size_t count = 0;
    for (unsigned i = 0; i < functions.size(); ++i) {
      const ConfigSpace& config = functions[i].config();
      assert(config.read32(0) == 0x10421af4);
      for (const unsigned bar : {0u, 2u}) {
        const AddrRange range{config.bar_base(bar), config.bar(bar)->size};
        assert(range.base % range.size == 0);
        bool decoded =
            config.command().memory() && (kLayout.window32.contains(range.base, range.size) ||
                                          kLayout.window64.contains(range.base, range.size));
        for (size_t other = 0; other < count; ++other) decoded &= !range.overlaps(taken[other]);
        const auto base = bridge.mapped_at({0, i + 1, 0}, bar);
        assert(base.has_value() == decoded && (!base || base->value() == range.base));
        assert(base == functions[i].mapped()[bar]);
        if (decoded) taken[count++] = range;
      }
    }
  }

  /// Everything is saved and restored, with a byte of each function changed.
  void restore(uint8_t at, uint64_t value) {
    const HostBridgeState state = bridge.save();
    for (Function& function : functions) {
      ConfigSpaceState config = function.config().save();
      config.bytes[at] = static_cast<uint8_t>(value);
      function.restore(config);
    }
    bridge.restore(state);
  }

  Buses buses;
  Interrupts interrupts;
  std::array<Function, 3> functions{Function(interrupts), Function(interrupts),
                                    Function(interrupts)};
  HostBridge bridge{buses, kLayout};
};

struct Step {
  uint8_t kind;
  uint8_t width;
  uint16_t at;
  uint64_t value;
};

/// Puts a BAR near a window's edge, where the others may be.
void move(Machine& machine, const Step& step) {
  const AddrRange& window = (step.kind & 8) != 0 ? kLayout.window32 : kLayout.window64;
  const uint64_t edge = (step.kind & 16) != 0 ? window.base : window.base + window.size;
  const uint64_t base = edge + (step.value % 16 - 8) * ((step.kind & 32) != 0 ? 0x100000 : 0x1000);
  const uint64_t function = kLayout.ecam.base + (1 + step.at % 3) * 0x8000;
  const uint64_t bar = function + ((step.kind & 64) != 0 ? kConfigBar0 : kConfigBar0 + 8);
  const auto bytes = std::bit_cast<std::array<std::byte, 8>>(base);
  machine.buses.mmio.write(bar, std::span(bytes).first((step.kind & 64) != 0 ? 8 : 4));
}

void run(Machine& machine, const Step& step) {
  const auto bytes = std::bit_cast<std::array<std::byte, 8>>(step.value);
  const std::span data = std::span(bytes).first(size_t{1} << (step.width & 3));
  std::array<std::byte, 8> answer;
  const std::span result = std::span(answer).first(data.size());
  const auto access = [&](Bus& bus, uint64_t at) {
    bus.write(at, data);
    bus.read(at, result);
  };
  Function& function = machine.functions[step.at % 3];
  switch (step.kind % 8) {
    case 0:
    case 1: return access(machine.buses.port, HostBridge::kConfigPorts.base + step.at % 8);
    case 2:
    case 3:  // the registers of slots 0 to 7
      return access(machine.buses.mmio,
                    kLayout.ecam.base + (step.at >> 13) * 0x8000 + step.at % 256);
    case 4: return access(machine.buses.mmio, kLayout.ecam.base + step.at * 16u);
    case 5: return move(machine, step);
    case 6: return machine.restore(static_cast<uint8_t>(step.at), step.value);
    default:
      const auto& base = function.mapped()[0];
      return base ? access(machine.buses.mmio, base->value() + step.at / 3 % 0xff8) : void();
  }
}

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* input, size_t size) {
  ringlet::Machine machine;
  std::span rest(input, size);
  machine.check();
  while (rest.size() >= 12) {
    ringlet::Step step{.kind = rest[0], .width = rest[1], .at = 0, .value = 0};
    std::memcpy(&step.at, &rest[2], sizeof step.at);
    std::memcpy(&step.value, &rest[4], sizeof step.value);
    ringlet::run(machine, step);
    machine.check();
    rest = rest.subspan(12);
  }
  return 0;
}
