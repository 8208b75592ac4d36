// Tests of the host bridge: slots, access to configuration space, saved state.
#include "pci/host_bridge.h"

#include <random>

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/pci/bridge_fixture.h"

namespace ringlet {
namespace {

using namespace pci_test;

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
    f.command(slot, PciCommand::kMemory);
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

TEST_CASE("a restored bridge has its own registers, and of a made-up state what can be") {
  Fixture old(0);
  old.command(0, 0x0146);
  HostBridgeState state = old.bridge.save();
  state.config_address = 0xffffffff;
  state.config_space.bytes[kConfigDevice] = 0xee;
  Fixture fresh(0);
  fresh.bridge.restore(state);
  CHECK(read_as<uint16_t>(fresh.buses.mmio, Fixture::ecam({0, 0, 0}, kConfigCommand)) == 0x0146);
  CHECK(read_as<uint16_t>(fresh.buses.mmio, Fixture::ecam({0, 0, 0}, kConfigDevice)) == 0x0008);
  CHECK(read_as<uint32_t>(fresh.buses.port, 0xcf8) == 0x80fffffc);
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
