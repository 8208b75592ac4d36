// A host bridge with simple functions behind it, and what a guest does to them.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "pci/host_bridge.h"
#include "tests/pci/access.h"

namespace ringlet::pci_test {

inline constexpr PciLayout kLayout{.ecam = {0xe0000000, 0x100000},
                                   .window32 = {0xc8000000, 0x18000000},
                                   .window64 = {0x4000000000, 0x1000000000}};
inline constexpr uint64_t kBar = 0x4000;

/// A function whose BARs read as its number and which writes down what it is told.
class Function final : public PciFunction, public BusDevice {
 public:
  using Log = std::vector<std::string>;

  Function(uint8_t number, Log& log)
      : PciFunction({.vendor = 0x1af4, .device = 0x1042, .revision = 1, .class_code = 0x018000}),
        number_(number),
        log_(log) {}

  BusDevice& bar_device(unsigned /*bar*/) noexcept override { return *this; }
  void bar_mapped(unsigned bar, std::optional<GuestAddr> base) noexcept override {
    log_.push_back(base ? fmt::format("{}.{} at {:x}", number_, bar, base->value())
                        : fmt::format("{}.{} off", number_, bar));
  }
  void read(uint64_t /*offset*/, std::span<std::byte> data) noexcept override {
    data[0] = std::byte{number_};
  }
  void write(uint64_t /*offset*/, std::span<const std::byte> /*data*/) noexcept override {}

 private:
  uint8_t number_;
  Log& log_;
};

/// A bridge and functions, in slots 1, 2, ..., with one 64-bit BAR of 16 KiB each.
struct Fixture {
  explicit Fixture(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      add({.index = 0, .size = kBar});
    }
  }
  Function& add(const Bar& bar) {
    Function& function = functions.emplace_back(static_cast<uint8_t>(functions.size() + 1), log);
    function.config().add_bar(bar);
    bridge.add(function);
    return function;
  }
  /// Mechanism #1.
  void select(Bdf bdf, unsigned at) {
    write_as<uint32_t>(buses.port, 0xcf8, 0x80000000 | unsigned{bdf.value()} << 8 | at);
  }
  /// The enhanced mechanism.
  static uint64_t ecam(Bdf bdf, uint64_t at) { return 0xe0000000 + bdf.value() * 4096 + at; }
  void move_bar(unsigned slot, uint64_t base) {
    write_as<uint64_t>(buses.mmio, ecam({0, slot, 0}, 0x10), base);
  }
  void command(unsigned slot, uint16_t value) {
    write_as<uint16_t>(buses.mmio, ecam({0, slot, 0}, 0x04), value);
  }
  uint8_t at(uint64_t address) { return read_as<uint8_t>(buses.mmio, address); }
  Function::Log take_log() { return std::exchange(log, {}); }

  Buses buses;
  Function::Log log;
  std::deque<Function> functions;
  HostBridge bridge{buses, kLayout};
};

}  // namespace ringlet::pci_test
