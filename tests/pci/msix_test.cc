// Tests of MSI-X and INTx; clauses are those of the PCI Local Bus Specification 3.0.
#include "pci/msix.h"

#include <array>
#include <optional>
#include <vector>

#include <catch2/catch.hpp>

#include "pci/intx.h"
#include "tests/fake/fake_irq.h"
#include "tests/pci/access.h"

namespace ringlet {
namespace {

constexpr uint32_t kEnable = 0x80000000;  // Message Control is the upper half of its dword
constexpr uint32_t kFunctionMask = 0x40000000;
constexpr MsiMessage kMessage{.address = 0xfee01000, .data = 0x4031};

constexpr PciIdentity kDisk{.vendor = 0x1af4, .device = 0x1042};
constexpr MsixLayout kLayout{
    .vectors = 70, .table_bar = 0, .table_offset = 0x2000, .pba_bar = 2, .pba_offset = 0x3000};

/// A function with 70 vectors: the pending bits take more than a qword.
struct Fixture {
  Fixture() { config.set_command({PciCommand::kBusMaster}); }
  ConfigSpace config{kDisk};
  FakeInterrupts interrupts;
  Msix msix{config, interrupts, kLayout};

  struct Table {
    void read(uint64_t at, std::span<std::byte> data) { msix.table_read(at, data); }
    void write(uint64_t at, std::span<const std::byte> data) { msix.table_write(at, data); }
    Msix& msix;
  } table{msix};
  struct Pba {
    void read(uint64_t at, std::span<std::byte> data) { msix.pba_read(at, data); }
    Msix& msix;
  } pba{msix};

  void control(uint32_t bits) { write_as<uint32_t>(config, 0x40, bits); }
  void mask(unsigned vector, bool masked) {
    write_as<uint32_t>(table, 16 * vector + 12, masked ? 1 : 0);
  }
  void program(unsigned vector, const MsiMessage& message) {
    write_as<uint64_t>(table, 16 * vector, message.address);
    write_as<uint32_t>(table, 16 * vector + 8, message.data);
    mask(vector, false);
  }
  /// What the I/O loop does to interrupt.
  void signal(size_t made) { interrupts.msi.at(made)->event.signal(); }
};

TEST_CASE("6.8.2.3: the capability tells the size of the table and where it lies") {
  Fixture f;
  CHECK(f.config.read32(0x40) == 0x00450011);  // N - 1
  CHECK(f.config.read32(0x44) == 0x00002000);
  CHECK(f.config.read32(0x48) == 0x00003002);
  CHECK(msix_table_size(70) == 1120);
  CHECK(msix_pba_size(70) == 16);
  CHECK(msix_pba_size(64) == 8);
}

TEST_CASE("6.8.2.3: only enable and function mask can be written in Message Control") {
  Fixture f;
  f.control(0xffffffff);
  CHECK(f.config.read32(0x40) == 0xc0450011);
  CHECK(f.msix.enabled());
  f.control(0);
  CHECK(f.config.read32(0x40) == 0x00450011);
  CHECK_FALSE(f.msix.enabled());
}

TEST_CASE("6.8.2.9: after reset every vector is masked") {
  Fixture f;
  CHECK(read_as<uint32_t>(f.table, 12) == 1);
  CHECK(read_as<uint32_t>(f.table, 16 * 69 + 12) == 1);
  CHECK(read_as<uint64_t>(f.table, 16 * 69) == 0);
}

TEST_CASE("6.8.2: the table takes dwords and qwords") {
  Fixture f;
  write_as<uint64_t>(f.table, 16, 0x1'fee00000);
  write_as<uint64_t>(f.table, 24, 0x00000000'00004022);
  CHECK(read_as<uint32_t>(f.table, 16) == 0xfee00000);
  CHECK(read_as<uint32_t>(f.table, 20) == 0x00000001);
  CHECK(read_as<uint32_t>(f.table, 24) == 0x00004022);
  CHECK(read_as<uint32_t>(f.table, 28) == 0x00000000);
  write_as<uint32_t>(f.table, 20, 0x2);
  CHECK(read_as<uint64_t>(f.table, 16) == 0x2'fee00000);
}

TEST_CASE("accesses to the table that the specification leaves undefined stay inside it") {
  Fixture f;
  write_as<uint64_t>(f.table, 28, 0xfee0000000000000);  // the end of entry 1, the start of entry 2
  CHECK(read_as<uint32_t>(f.table, 28) == 0);
  CHECK(read_as<uint64_t>(f.table, 32) == 0xfee00000);
  write_as<uint8_t>(f.table, 33, 0x12);
  CHECK(read_as<uint64_t>(f.table, 32) == 0xfee01200);
  write_as<uint64_t>(f.table, 16 * 69 + 12, 0);  // past the last entry
  CHECK(read_as<uint64_t>(f.table, 16 * 69 + 12) == 0xffffffff00000000);
  write_as<uint64_t>(f.table, 16 * 70, 0);
  CHECK(read_as<uint64_t>(f.table, 16 * 70) == 0xffffffffffffffff);
  CHECK(read_as<uint64_t>(f.table, UINT64_MAX) == 0xffffffffffffffff);
  CHECK(read_as<uint64_t>(f.pba, UINT64_MAX) == 0xffffffffffffffff);
}

TEST_CASE("6.8.2.7 and 6.8.2.9: reserved bits of an entry read as zero") {
  Fixture f;
  write_as<uint32_t>(f.table, 0, 0xffffffff);
  write_as<uint32_t>(f.table, 12, 0xfffffffe);
  CHECK(read_as<uint32_t>(f.table, 0) == 0xfffffffc);
  CHECK(read_as<uint32_t>(f.table, 12) == 0);
}

TEST_CASE("a vector costs the host nothing until somebody needs its descriptor") {
  Fixture f;
  f.control(kEnable);
  f.program(3, kMessage);
  CHECK(f.interrupts.msi.empty());
  const std::optional<int> fd = f.msix.vector_fd(3);
  REQUIRE(f.interrupts.msi.size() == 1);
  CHECK(fd == f.interrupts.msi[0]->fd());
  CHECK(f.msix.vector_fd(3) == fd);
  CHECK(f.interrupts.msi.size() == 1);
  f.signal(0);
  CHECK(f.interrupts.msi[0]->take_delivered() == std::vector{kMessage});
}

TEST_CASE("a vector beyond the table has no descriptor") {
  Fixture f;
  CHECK(f.msix.vector_fd(70) == std::nullopt);
  CHECK(f.msix.vector_fd(0xffff) == std::nullopt);
}

TEST_CASE("a host without descriptors makes a vector unusable and nothing worse") {
  Fixture f;
  f.control(kEnable);
  f.interrupts.msi_left = 0;
  CHECK(f.msix.vector_fd(3) == std::nullopt);
  f.program(3, kMessage);
  f.mask(3, true);
  CHECK(read_as<uint64_t>(f.pba, 0) == 0);
  f.interrupts.msi_left = 1;
  CHECK(f.msix.vector_fd(3).has_value());
}

TEST_CASE("a vector whose message the host refuses stays pending and is tried again") {
  Fixture f;
  f.control(kEnable);
  f.msix.vector_fd(0);
  f.interrupts.msi[0]->refuse = true;
  f.program(0, kMessage);
  f.signal(0);
  CHECK(read_as<uint64_t>(f.pba, 0) == 1);
  f.interrupts.msi[0]->refuse = false;
  f.mask(0, true);
  f.mask(0, false);
  CHECK(f.interrupts.msi[0]->take_delivered() == std::vector{kMessage});
}

TEST_CASE("a vector whose new message the host refuses does not deliver the old one") {
  Fixture f;
  f.control(kEnable);
  f.msix.vector_fd(0);
  f.program(0, kMessage);
  f.interrupts.msi[0]->refuse = true;
  write_as<uint32_t>(f.table, 8, 0x4099);
  f.signal(0);
  CHECK(f.interrupts.msi[0]->take_delivered().empty());
  CHECK(read_as<uint64_t>(f.pba, 0) == 1);
}

TEST_CASE("a vector delivers only while enabled, and neither it nor the function is masked") {
  Fixture f;
  f.msix.vector_fd(0);
  FakeMsiVector& vector = *f.interrupts.msi[0];
  f.program(0, kMessage);
  CHECK_FALSE(vector.is_attached);
  f.control(kEnable | kFunctionMask);
  CHECK_FALSE(vector.is_attached);
  f.control(kEnable);
  CHECK(vector.is_attached);
  f.mask(0, true);
  CHECK_FALSE(vector.is_attached);
  f.mask(0, false);
  CHECK(vector.is_attached);
  f.control(kEnable | kFunctionMask);
  CHECK_FALSE(vector.is_attached);
  f.control(0);
  CHECK_FALSE(vector.is_attached);
}

TEST_CASE("6.8.3.5: an interrupt of a masked vector is pending, and unmasking delivers it") {
  Fixture f;
  f.control(kEnable);
  f.msix.vector_fd(2);
  f.program(2, kMessage);
  f.mask(2, true);
  f.signal(0);
  CHECK(read_as<uint64_t>(f.pba, 0) == 4);
  CHECK(f.interrupts.msi[0]->take_delivered().empty());
  f.mask(2, false);
  CHECK(read_as<uint64_t>(f.pba, 0) == 0);
  CHECK(f.interrupts.msi[0]->take_delivered() == std::vector{kMessage});
}

TEST_CASE("6.8.3.5: clearing the function mask delivers what is pending, but for masked vectors") {
  Fixture f;
  f.control(kEnable | kFunctionMask);
  f.msix.vector_fd(0);
  f.msix.vector_fd(1);
  f.program(0, kMessage);
  f.signal(0);
  f.signal(1);
  CHECK(read_as<uint64_t>(f.pba, 0) == 3);
  f.control(kEnable);
  CHECK(read_as<uint64_t>(f.pba, 0) == 2);
  CHECK(f.interrupts.msi[0]->take_delivered() == std::vector{kMessage});
  CHECK(f.interrupts.msi[1]->take_delivered().empty());
}

TEST_CASE("6.8.2.10: pending bits are packed by vector number, 64 to a qword") {
  Fixture f;
  f.control(kEnable);
  for (const uint16_t vector : std::array<uint16_t, 5>{0, 9, 63, 64, 69}) f.msix.vector_fd(vector);
  for (const size_t made : {0u, 1u, 2u, 3u, 4u}) f.signal(made);
  CHECK(read_as<uint64_t>(f.pba, 0) == 0x8000000000000201);
  CHECK(read_as<uint64_t>(f.pba, 8) == 0x21);
  CHECK(read_as<uint32_t>(f.pba, 4) == 0x80000000);
  CHECK(read_as<uint8_t>(f.pba, 1) == 0x02);
  CHECK(read_as<uint64_t>(f.pba, 16) == 0xffffffffffffffff);
}

TEST_CASE("a message written while its vector is masked is the one delivered later") {
  Fixture f;
  const MsiMessage moved{.address = 0xfee02000, .data = 0x4055};
  f.control(kEnable);
  f.msix.vector_fd(0);
  f.program(0, kMessage);
  f.mask(0, true);
  f.signal(0);
  f.program(0, moved);
  CHECK(f.interrupts.msi[0]->take_delivered() == std::vector{moved});
}

TEST_CASE("KVM is asked only when a vector's message or state really changes") {
  Fixture f;
  f.control(kEnable);
  f.msix.vector_fd(0);
  f.program(0, kMessage);
  FakeMsiVector& vector = *f.interrupts.msi[0];
  CHECK(vector.attaches == 1);
  f.program(0, kMessage);
  f.program(1, kMessage);
  f.mask(0, false);
  f.control(kEnable);
  CHECK(vector.attaches == 1);
  CHECK(vector.detaches == 0);
  write_as<uint64_t>(f.table, 0, 0xfee0300000000000);  // both halves at once: one new message
  CHECK(vector.attaches == 2);
  CHECK(vector.message.address == 0xfee0300000000000);
}

TEST_CASE("a device reset forgets pending interrupts") {
  Fixture f;
  f.control(kEnable);
  f.msix.vector_fd(0);
  f.signal(0);
  f.msix.clear_pending();
  CHECK(read_as<uint64_t>(f.pba, 0) == 0);
  f.program(0, kMessage);
  CHECK(f.interrupts.msi[0]->take_delivered().empty());
}

TEST_CASE("saved MSI-X state carries on in a new function") {
  Fixture old;
  old.control(kEnable);
  old.msix.vector_fd(1);
  old.msix.vector_fd(2);
  old.program(1, kMessage);
  old.signal(1);
  const MsixState state = old.msix.save();
  CHECK(state.vectors.size() == 70);
  CHECK(state.vectors[2].pending);
  CHECK_FALSE(state.vectors[1].pending);

  Fixture fresh;
  fresh.config.restore(old.config.save());
  fresh.msix.restore(state);
  CHECK(fresh.msix.enabled());
  CHECK(read_as<uint64_t>(fresh.table, 16) == kMessage.address);
  CHECK(read_as<uint32_t>(fresh.table, 24) == kMessage.data);
  CHECK(read_as<uint32_t>(fresh.table, 28) == 0);
  CHECK(read_as<uint32_t>(fresh.table, 44) == 1);
  fresh.msix.vector_fd(1);
  fresh.signal(0);
  CHECK(fresh.interrupts.msi[0]->take_delivered() == std::vector{kMessage});
}

TEST_CASE("a saved state that is too short or too long is taken as far as it goes") {
  Fixture f;
  f.program(5, kMessage);
  f.msix.restore({.vectors = {{.address = 0xfee00003, .data = 7, .masked = false}}});
  CHECK(read_as<uint64_t>(f.table, 0) == 0xfee00000);
  CHECK(read_as<uint32_t>(f.table, 16 * 5 + 12) == 1);
  CHECK(read_as<uint64_t>(f.table, 16 * 5) == 0);
  f.msix.restore({.vectors = std::vector<MsixVectorState>(4000)});
  CHECK(read_as<uint32_t>(f.table, 12) == 1);
}

TEST_CASE("an INTx pin is enabled unless INTx Disable is set") {
  ConfigSpace config(kDisk);
  FakeInterrupts interrupts;
  Intx intx(config, IntxPin::A, Gsi(17), interrupts.make_level(Gsi(17)));
  CHECK(config.read16(0x3c) == 0x0111);
  CHECK(intx.line().assert_fd() == interrupts.levels[0]->asserted.fd());
  CHECK(intx.enabled());
  CHECK_FALSE(intx.command_changed({PciCommand::kMemory | PciCommand::kIntxDisable}));
  CHECK_FALSE(intx.enabled());
  CHECK_FALSE(intx.command_changed({PciCommand::kIntxDisable}));
}

TEST_CASE("enabling an INTx pin tells that what is pending must be signalled") {
  ConfigSpace config(kDisk);
  config.set_command({PciCommand::kIntxDisable});
  FakeInterrupts interrupts;
  Intx intx(config, IntxPin::A, Gsi(17), interrupts.make_level(Gsi(17)));
  CHECK_FALSE(intx.enabled());
  CHECK(intx.command_changed({PciCommand::kMemory}));
  CHECK(intx.enabled());
  CHECK_FALSE(intx.command_changed({PciCommand::kBusMaster}));
}

}  // namespace
}  // namespace ringlet
