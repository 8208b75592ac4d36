// Tests of the host bridge: access to configuration space, and where BARs are decoded.
#include "pci/host_bridge.h"

#include <deque>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/pci/access.h"

namespace ringlet {
namespace {

constexpr PciLayout kLayout{.ecam = {0xe0000000, 0x100000},
                            .window32 = {0xc8000000, 0x18000000},
                            .window64 = {0x4000000000, 0x1000000000}};
constexpr uint64_t kBar = 0x4000;

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

TEST_CASE("slot 0 holds a host bridge") {
  Fixture f(0);
  f.select({0, 0, 0}, 0x00);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0x00081b36);
  f.select({0, 0, 0}, 0x08);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0x06000000);
}

TEST_CASE("PCI 3.0, 3.2.2.3.2: CONFIG_ADDRESS is written and read as a dword only") {
  Fixture f(1);
  write_as<uint32_t>(f.buses.port, 0xcf8, 0xffffffff);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcf8) == 0x80fffffc);
  write_as<uint8_t>(f.buses.port, 0xcf8, 0);
  write_as<uint8_t>(f.buses.port, 0xcfb, 1);  // how Linux looks for mechanism #1
  write_as<uint16_t>(f.buses.port, 0xcfa, 0);
  write_as<uint32_t>(f.buses.port, 0xcf9, 0);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcf8) == 0x80fffffc);
  CHECK(read_as<uint8_t>(f.buses.port, 0xcf8) == 0xff);
  CHECK(read_as<uint16_t>(f.buses.port, 0xcfa) == 0xffff);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfa) == 0xffffffff);
}

TEST_CASE("PCI 3.0, 3.2.2.3.2: without the enable bit CONFIG_DATA reaches nothing") {
  Fixture f(1);
  write_as<uint32_t>(f.buses.port, 0xcf8, 0x00000804);
  write_as<uint32_t>(f.buses.port, 0xcfc, 0x00000004);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0xffffffff);
  f.select({0, 1, 0}, 0x04);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0);
}

TEST_CASE("CONFIG_DATA gives each byte and word of the selected dword") {
  Fixture f(1);
  f.select({0, 1, 0}, 0x08);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0x01800001);
  CHECK(read_as<uint16_t>(f.buses.port, 0xcfd) == 0x8000);
  CHECK(read_as<uint16_t>(f.buses.port, 0xcfe) == 0x0180);
  CHECK(read_as<uint8_t>(f.buses.port, 0xcfc) == 0x01);
  CHECK(read_as<uint8_t>(f.buses.port, 0xcff) == 0x01);
  f.select({0, 1, 0}, 0x3c);
  write_as<uint8_t>(f.buses.port, 0xcfc, 0x0b);
  CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0x0000000b);
}

TEST_CASE("what is not there reads as all ones: slots, functions, buses") {
  Fixture f(1);
  for (const Bdf bdf : {Bdf(0, 2, 0), Bdf(0, 31, 0), Bdf(0, 1, 1), Bdf(0, 0, 7), Bdf(1, 1, 0)}) {
    f.select(bdf, 0);
    CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) == 0xffffffff);
    write_as<uint32_t>(f.buses.port, 0xcfc, 0);
  }
  CHECK(read_as<uint32_t>(f.buses.mmio, Fixture::ecam({0, 2, 0}, 0)) == 0xffffffff);
  CHECK(read_as<uint32_t>(f.buses.mmio, Fixture::ecam({0, 1, 1}, 0)) == 0xffffffff);
  CHECK(read_as<uint64_t>(f.buses.mmio, Fixture::ecam({0, 31, 7}, 0xff8)) == 0xffffffffffffffff);
}

TEST_CASE("both mechanisms show the same 256 bytes of every function") {
  Fixture f(31);
  f.bridge.assign_bars();
  for (unsigned slot = 0; slot < 32; ++slot) {
    const Bdf bdf(0, slot, 0);
    for (unsigned at = 0; at < 256; at += 4) {
      f.select(bdf, at);
      CHECK(read_as<uint32_t>(f.buses.port, 0xcfc) ==
            read_as<uint32_t>(f.buses.mmio, Fixture::ecam(bdf, at)));
    }
  }
}

TEST_CASE("what one mechanism writes the other reads") {
  Fixture f(1);
  write_as<uint8_t>(f.buses.mmio, Fixture::ecam({0, 1, 0}, 0x3c), 0x21);
  f.select({0, 1, 0}, 0x3c);
  CHECK(read_as<uint8_t>(f.buses.port, 0xcfc) == 0x21);
  write_as<uint8_t>(f.buses.port, 0xcfc, 0x43);
  CHECK(read_as<uint8_t>(f.buses.mmio, Fixture::ecam({0, 1, 0}, 0x3c)) == 0x43);
}

TEST_CASE("an ECAM access that crosses dwords or functions is its parts") {
  Fixture f(1);
  const uint64_t slot1 = Fixture::ecam({0, 1, 0}, 0);
  CHECK(read_as<uint64_t>(f.buses.mmio, slot1) == 0x0000000010421af4);
  CHECK(read_as<uint32_t>(f.buses.mmio, slot1 + 2) == 0x00001042);
  CHECK(read_as<uint64_t>(f.buses.mmio, slot1 - 4) == 0x10421af4ffffffff);
  CHECK(read_as<uint32_t>(f.buses.mmio, slot1 + 0x100) == 0);
  CHECK(read_as<uint32_t>(f.buses.mmio, slot1 + 0xffc) == 0);
}

TEST_CASE("random accesses of the guest end nowhere but in the registers") {
  Fixture f(3);
  f.bridge.assign_bars();
  std::mt19937_64 random(7);
  for (int i = 0; i < 50'000; ++i) {
    write_as<uint32_t>(f.buses.port, 0xcf8,
                       static_cast<uint32_t>(0x80000000 | (random() & 0x3ffc)));
    write_as<uint32_t>(f.buses.port, 0xcfc, static_cast<uint32_t>(random()));
    write_as<uint64_t>(f.buses.mmio, kLayout.ecam.base + random() % 0xffff8, random());
    write_as<uint8_t>(f.buses.port, 0xcf8 + random() % 8, static_cast<uint8_t>(random()));
  }
  CHECK(read_as<uint32_t>(f.buses.mmio, Fixture::ecam({0, 1, 0}, 0)) == 0x10421af4);
  for (unsigned slot = 1; slot < 4; ++slot) {
    f.move_bar(slot, 0x4000000000 + slot * kBar);
    f.command(slot, Command::kMemory);
  }
  CHECK(f.at(0x4000000000 + 1 * kBar) == 1);
  CHECK(f.at(0x4000000000 + 2 * kBar) == 2);
  CHECK(f.at(0x4000000000 + 3 * kBar) == 3);
}

TEST_CASE("a bus has 31 slots for functions and then says so") {
  Fixture f(31);
  Function one_more(99, f.log);
  CHECK_THROWS_AS(f.bridge.add(one_more), ConfigError);
  f.bridge.assign_bars();
  for (unsigned slot = 1; slot < 32; ++slot) {
    const auto base = f.bridge.mapped_at({0, slot, 0}, 0);
    REQUIRE(base.has_value());
    CHECK(f.at(base->value()) == slot);
  }
}

TEST_CASE("a function may ask for its slot, if it is free") {
  Fixture f(1);
  Function wanted(9, f.log);
  CHECK(f.bridge.add(wanted, 31) == Bdf(0, 31, 0));
  Function other(10, f.log);
  CHECK_THROWS_WITH(f.bridge.add(other, 31), "PCI: slot 31 is taken; expected a free one");
  CHECK_THROWS_WITH(f.bridge.add(other, 0), "PCI: slot 0 is taken; expected a free one");
  CHECK_THROWS_WITH(f.bridge.add(other, 32), "PCI: no slot 32; expected 1 to 31");
  CHECK(f.bridge.add(other) == Bdf(0, 2, 0));
}

TEST_CASE("before boot every BAR has an aligned address of its own and memory is decoded") {
  Fixture f(0);
  f.add({.index = 0, .size = 0x4000});
  f.add({.index = 0, .size = 0x1000, .is_64bit = false});
  f.add({.index = 2, .size = 0x40000000, .prefetchable = true});
  f.bridge.assign_bars();
  CHECK(f.log == Function::Log{"1.0 at 4040000000", "2.0 at c8000000", "3.2 at 4000000000"});
  CHECK(read_as<uint16_t>(f.buses.mmio, Fixture::ecam({0, 1, 0}, 4)) == Command::kMemory);
  CHECK(read_as<uint16_t>(f.buses.mmio, Fixture::ecam({0, 0, 0}, 4)) == 0);
  CHECK(f.at(0x4040000000) == 1);
  CHECK(f.at(0xc8000fff) == 2);
  CHECK(f.at(0x403fffffff) == 3);
}

TEST_CASE("64-bit BARs lie below 4 GiB where there is no room above") {
  Buses buses;
  HostBridge bridge(buses,
                    {.ecam = kLayout.ecam, .window32 = {0xc8001000, 0x8000}, .window64 = {}});
  Function::Log log;
  Function function(1, log);
  function.config().add_bar({.index = 0, .size = 0x4000});
  bridge.add(function);
  bridge.assign_bars();
  CHECK(log == Function::Log{"1.0 at c8004000"});
}

TEST_CASE("a BAR that fits nowhere is an error that names it") {
  Fixture f(0);
  f.add({.index = 2, .size = 0x20000000, .is_64bit = false});
  CHECK_THROWS_WITH(f.bridge.assign_bars(),
                    "PCI 00:01.0: no room for BAR 2 of 536870912 bytes in its window");
}

TEST_CASE("a BAR can be moved while it is decoded") {
  Fixture f(1);
  f.bridge.assign_bars();
  f.take_log();
  f.move_bar(1, 0xc9000000);
  CHECK(f.take_log() == Function::Log{"1.0 off", "1.0 at c9000000"});
  CHECK(f.at(0xc9000000) == 1);
  CHECK(f.at(0x4000000000) == 0xff);
}

TEST_CASE("turning memory decoding off and on unmaps and maps a function's BARs") {
  Fixture f(2);
  f.bridge.assign_bars();
  f.take_log();
  f.command(1, Command::kBusMaster);
  CHECK(f.take_log() == Function::Log{"1.0 off"});
  CHECK(f.at(0x4000000000) == 0xff);
  f.move_bar(1, 0x4100000000);
  CHECK(f.take_log().empty());
  f.command(1, Command::kBusMaster | Command::kMemory);
  CHECK(f.take_log() == Function::Log{"1.0 at 4100000000"});
}

TEST_CASE("functions whose BARs stay are not told anything") {
  Fixture f(3);
  f.bridge.assign_bars();
  f.take_log();
  f.command(2, Command::kMemory | Command::kBusMaster | Command::kIntxDisable);
  f.move_bar(2, f.bridge.mapped_at({0, 2, 0}, 0)->value());
  CHECK(f.log.empty());
  f.move_bar(2, 0xd0000000);
  CHECK(f.log == Function::Log{"2.0 off", "2.0 at d0000000"});
}

TEST_CASE("a BAR outside the windows is not decoded") {
  Fixture f(1);
  f.bridge.assign_bars();
  f.take_log();
  f.move_bar(1, 0x1000000);  // where RAM is
  CHECK(f.take_log() == Function::Log{"1.0 off"});
  f.move_bar(1, 0xc8000000 - kBar);
  f.move_bar(1, 0xe0000000);          // ECAM
  f.move_bar(1, 0xfee00000);          // local APICs
  f.move_bar(1, 0xffffffffffffc000);  // the end of the address space
  CHECK(f.take_log().empty());
  f.move_bar(1, 0xe0000000 - kBar);
  CHECK(f.take_log() == Function::Log{"1.0 at dfffc000"});
}

TEST_CASE("sizing a BAR while it is decoded takes it away and brings it back") {
  Fixture f(1);
  f.bridge.assign_bars();
  f.take_log();
  const uint64_t bar = Fixture::ecam({0, 1, 0}, 0x10);
  write_as<uint32_t>(f.buses.mmio, bar, 0xffffffff);
  CHECK(read_as<uint32_t>(f.buses.mmio, bar) == 0xffffc004);
  CHECK(f.at(0x40ffffc000) == 1);  // where it points now, inside the window
  write_as<uint32_t>(f.buses.mmio, bar, 0x00000004);
  write_as<uint32_t>(f.buses.mmio, bar + 4, 0xffffffff);
  CHECK(read_as<uint32_t>(f.buses.mmio, bar + 4) == 0xffffffff);
  write_as<uint32_t>(f.buses.mmio, bar + 4, 0x00000040);
  CHECK(f.log == Function::Log{"1.0 off", "1.0 at 40ffffc000", "1.0 off", "1.0 at 4000000000",
                               "1.0 off", "1.0 at 4000000000"});
  CHECK(f.at(0x4000000000) == 1);
}

TEST_CASE("of two BARs in one place the one in the lower slot is decoded") {
  Fixture f(2);
  f.bridge.assign_bars();
  f.take_log();
  f.move_bar(2, 0x4000000000);
  CHECK(f.take_log() == Function::Log{"2.0 off"});
  CHECK(f.at(0x4000000000) == 1);
  f.move_bar(1, 0x4100000000);
  CHECK(f.take_log() == Function::Log{"1.0 off", "1.0 at 4100000000", "2.0 at 4000000000"});
  f.move_bar(1, 0x4000000000);
  CHECK(f.take_log() == Function::Log{"1.0 off", "2.0 off", "1.0 at 4000000000"});
  f.command(1, 0);
  CHECK(f.take_log() == Function::Log{"1.0 off", "2.0 at 4000000000"});
  CHECK(f.at(0x4000000000) == 2);
}

TEST_CASE("two functions can swap the places of their BARs") {
  Fixture f(2);
  f.bridge.assign_bars();
  f.command(2, 0);
  f.move_bar(2, 0x4000000000);
  f.move_bar(1, 0x4000004000);
  f.take_log();
  f.command(2, Command::kMemory);
  CHECK(f.take_log() == Function::Log{"2.0 at 4000000000"});
  CHECK(f.at(0x4000000000) == 2);
  CHECK(f.at(0x4000004000) == 1);
}

TEST_CASE("a large BAR over several small ones wins or loses as a whole") {
  Fixture f(0);
  f.add({.index = 0, .size = 0x10000});
  f.add({.index = 0, .size = 0x4000});
  f.add({.index = 0, .size = 0x4000});
  f.bridge.assign_bars();
  f.take_log();
  f.move_bar(2, 0x4100004000);
  f.move_bar(3, 0x410000c000);
  f.take_log();
  f.move_bar(1, 0x4100000000);
  CHECK(f.take_log() == Function::Log{"1.0 off", "2.0 off", "3.0 off", "1.0 at 4100000000"});
  f.move_bar(1, 0x4200000000);
  CHECK(f.take_log() ==
        Function::Log{"1.0 off", "1.0 at 4200000000", "2.0 at 4100004000", "3.0 at 410000c000"});
}

TEST_CASE("a BAR cannot hide what is on the bus already") {
  Fixture f(2);
  Function::Log other_log;
  Function page(77, other_log);
  REQUIRE(f.buses.mmio.insert({0xd0001000, 0x1000}, page));
  f.bridge.assign_bars();
  f.take_log();
  f.move_bar(1, 0xd0000000);
  CHECK(f.take_log() == Function::Log{"1.0 off"});
  CHECK(f.at(0xd0001000) == 77);
  f.move_bar(2, 0xd0004000);
  CHECK(f.take_log() == Function::Log{"2.0 off", "2.0 at d0004000"});
}

TEST_CASE("which BARs are decoded does not depend on the order of the writes") {
  Fixture one(2);
  one.bridge.assign_bars();
  one.move_bar(1, 0xd0000000);
  one.move_bar(2, 0xd0000000);
  Fixture other(2);
  other.bridge.assign_bars();
  other.move_bar(2, 0xd0000000);
  other.move_bar(1, 0xd0000000);
  CHECK(one.at(0xd0000000) == 1);
  CHECK(other.at(0xd0000000) == 1);
}

TEST_CASE("a restored bridge decodes what the saved one decoded") {
  Fixture old(2);
  old.bridge.assign_bars();
  old.move_bar(1, 0xd0000000);
  old.command(2, 0);
  old.select({0, 2, 0}, 0x3c);

  Fixture fresh(2);
  fresh.functions[0].config().restore(old.functions[0].config().save());
  fresh.functions[1].config().restore(old.functions[1].config().save());
  fresh.bridge.restore(old.bridge.save());
  CHECK(fresh.log == Function::Log{"1.0 at d0000000"});
  CHECK(read_as<uint32_t>(fresh.buses.port, 0xcf8) == 0x8000103c);
}

TEST_CASE("the bus is described as lspci -nv does it") {
  Fixture f(1);
  f.add({.index = 2, .size = 0x100000, .is_64bit = false, .prefetchable = true});
  f.bridge.assign_bars();
  f.command(2, 0);
  CHECK(f.bridge.describe() ==
        "00:00.0 0600: 1b36:0008 (rev 00)\n"
        "00:01.0 0180: 1af4:1042 (rev 01)\n"
        "\tMemory at 4000000000 (64-bit, non-prefetchable) [size=16K]\n"
        "00:02.0 0180: 1af4:1042 (rev 01)\n"
        "\tMemory at c8000000 (32-bit, prefetchable) [size=1M] [disabled]\n");
}

}  // namespace
}  // namespace ringlet
