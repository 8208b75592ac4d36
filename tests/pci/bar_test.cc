// Tests of the host bridge: where BARs are placed before boot, and decoded ever after.
#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/pci/bridge_fixture.h"

namespace ringlet {
namespace {

using namespace pci_test;

TEST_CASE("before boot every BAR has an aligned address of its own and memory is decoded") {
  Fixture f(0);
  f.add({.index = 0, .size = 0x4000});
  f.add({.index = 0, .size = 0x1000, .is_64bit = false});
  f.add({.index = 2, .size = 0x40000000, .prefetchable = true});
  f.bridge.assign_bars();
  CHECK(f.log == Function::Log{"1.0 at 4040000000", "2.0 at c8000000", "3.2 at 4000000000"});
  CHECK(read_as<uint16_t>(f.buses.mmio, Fixture::ecam({0, 1, 0}, 4)) == PciCommand::kMemory);
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
  f.command(1, PciCommand::kBusMaster);
  CHECK(f.take_log() == Function::Log{"1.0 off"});
  CHECK(f.at(0x4000000000) == 0xff);
  f.move_bar(1, 0x4100000000);
  CHECK(f.take_log().empty());
  f.command(1, PciCommand::kBusMaster | PciCommand::kMemory);
  CHECK(f.take_log() == Function::Log{"1.0 at 4100000000"});
}

TEST_CASE("functions whose BARs stay are not told anything") {
  Fixture f(3);
  f.bridge.assign_bars();
  f.take_log();
  f.command(2, PciCommand::kMemory | PciCommand::kBusMaster | PciCommand::kIntxDisable);
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
  f.command(2, PciCommand::kMemory);
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

}  // namespace
}  // namespace ringlet
