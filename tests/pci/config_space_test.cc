// Tests of the configuration space; clauses are those of the PCI Local Bus Specification 3.0.
#include "pci/config_space.h"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "pci/function.h"
#include "tests/pci/access.h"

namespace ringlet {
namespace {

constexpr PciIdentity kDisk{.vendor = 0x1af4,
                            .device = 0x1042,
                            .revision = 1,
                            .class_code = 0x018000,
                            .subsystem_vendor = 0x1af4,
                            .subsystem = 0x0040};

std::vector<std::byte> bytes(std::initializer_list<unsigned> values) {
  std::vector<std::byte> result;
  for (const unsigned value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

/// Records what it is told; answers reads of its byte 4 with 0x77.
struct Recorder final : CapabilityHandler {
  struct Written {
    size_t offset;
    std::vector<std::byte> data;
    bool operator==(const Written&) const = default;
  };
  void capability_read(size_t offset, std::span<std::byte> data) noexcept override {
    reads.push_back(offset);
    std::ranges::fill(data, std::byte{0x77});
  }
  void capability_written(size_t offset, std::span<const std::byte> data) noexcept override {
    writes.push_back({offset, {data.begin(), data.end()}});
  }
  std::vector<size_t> reads;
  std::vector<Written> writes;
};

/// A function with one BAR of each kind and three capabilities.
struct Rich {
  Rich() {
    config.set_interrupt(IntxPin::A, 17);
    config.add_bar({.index = 0, .size = 0x4000, .is_64bit = true});
    config.add_bar({.index = 2, .size = 0x1000, .is_64bit = false});
    config.add_bar({.index = 4, .size = uint64_t{1} << 33, .is_64bit = true, .prefetchable = true});
    config.add_capability({.id = 0x09, .body = bytes({0x05, 0xaa, 0xbb})});
    config.add_capability({.id = 0x11,
                           .body = bytes({1, 0, 3, 0, 0, 0, 3, 8, 0, 0}),
                           .writable = bytes({0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0})});
    config.add_capability({.id = 0x09,
                           .body = bytes({8, 0, 0x10, 0x20, 0x30, 0x40}),
                           .writable = bytes({0, 0, 0xff, 0xff, 0, 0})});
  }
  ConfigSpace config{kDisk};
};

std::vector<uint8_t> dump(ConfigSpace& config) {
  std::vector<uint8_t> all;
  for (unsigned at = 0; at < 4096; ++at) all.push_back(read_as<uint8_t>(config, at));
  return all;
}

TEST_CASE("6.2.1: the header says what the function is, and cannot be written") {
  ConfigSpace config(kDisk);
  write_as<uint32_t>(config, 0x00, 0xffffffff);
  write_as<uint32_t>(config, 0x08, 0xffffffff);
  write_as<uint32_t>(config, 0x2c, 0xffffffff);
  CHECK(read_as<uint32_t>(config, 0x00) == 0x10421af4);
  CHECK(read_as<uint32_t>(config, 0x08) == 0x01800001);
  CHECK(read_as<uint32_t>(config, 0x2c) == 0x00401af4);
  CHECK(read_as<uint8_t>(config, 0x0e) == 0x00);  // header type 0, one function
}

TEST_CASE("6.2.2: only the Command bits that mean something can be set") {
  ConfigSpace config(kDisk);
  CHECK(read_as<uint16_t>(config, 0x04) == 0);
  write_as<uint16_t>(config, 0x04, 0xffff);
  CHECK(read_as<uint16_t>(config, 0x04) == 0x0546);
  CHECK(config.command().memory());
  CHECK(config.command().bus_master());
  CHECK(config.command().intx_disabled());
  write_as<uint8_t>(config, 0x05, 0);
  CHECK(read_as<uint16_t>(config, 0x04) == 0x0046);
  CHECK_FALSE(config.command().intx_disabled());
}

TEST_CASE("6.2.3: Status is read-only; writing its error bits as ones clears what is clear") {
  ConfigSpace config(kDisk);
  write_as<uint16_t>(config, 0x06, 0xffff);
  CHECK(read_as<uint16_t>(config, 0x06) == 0x0000);
  config.set_interrupt_status(true);
  CHECK(read_as<uint16_t>(config, 0x06) == 0x0008);
  write_as<uint32_t>(config, 0x04, 0xffff0000);
  CHECK(read_as<uint16_t>(config, 0x06) == 0x0008);
  config.set_interrupt_status(false);
  CHECK(read_as<uint16_t>(config, 0x06) == 0x0000);
}

TEST_CASE("6.2.4: the interrupt line is the guest's notepad, the pin is fixed") {
  ConfigSpace config(kDisk);
  config.set_interrupt(IntxPin::C, 18);
  CHECK(read_as<uint16_t>(config, 0x3c) == 0x0312);
  write_as<uint32_t>(config, 0x3c, 0xffffffff);
  CHECK(read_as<uint32_t>(config, 0x3c) == 0x000003ff);
}

TEST_CASE("6.2.5.1: a BAR written with ones answers with its size and kind") {
  Rich rich;
  for (unsigned at = 0x10; at < 0x28; at += 4) {
    write_as<uint32_t>(rich.config, at, 0xffffffff);
  }
  CHECK(read_as<uint32_t>(rich.config, 0x10) == 0xffffc004);  // 16 KiB, 64-bit
  CHECK(read_as<uint32_t>(rich.config, 0x14) == 0xffffffff);
  CHECK(read_as<uint32_t>(rich.config, 0x18) == 0xfffff000);  // 4 KiB, 32-bit
  CHECK(read_as<uint32_t>(rich.config, 0x1c) == 0x00000000);  // none
  CHECK(read_as<uint32_t>(rich.config, 0x20) == 0x0000000c);  // 8 GiB, 64-bit, prefetchable
  CHECK(read_as<uint32_t>(rich.config, 0x24) == 0xfffffffe);
}

TEST_CASE("6.2.5.1: a BAR keeps the address it is given, down to its size") {
  Rich rich;
  write_as<uint32_t>(rich.config, 0x10, 0x1234d678);
  write_as<uint32_t>(rich.config, 0x14, 0x00000042);
  CHECK(read_as<uint32_t>(rich.config, 0x10) == 0x1234c004);
  CHECK(rich.config.bar_base(0) == 0x421234c000);
  rich.config.set_bar_base(0, 0xfe000000);
  CHECK(read_as<uint32_t>(rich.config, 0x10) == 0xfe000004);
  CHECK(read_as<uint32_t>(rich.config, 0x14) == 0);
}

TEST_CASE("a BAR can be written a byte or two at a time") {
  Rich rich;
  write_as<uint8_t>(rich.config, 0x11, 0xff);
  write_as<uint16_t>(rich.config, 0x12, 0xe123);
  write_as<uint16_t>(rich.config, 0x15, 0x3344);
  CHECK(rich.config.bar_base(0) == 0x334400e123c000);
}

TEST_CASE("6.1: reserved registers of the header read as zero and are written in vain") {
  Rich rich;
  // BIST and latency timer; CardBus CIS pointer; 35h to 3bh; Min_Gnt and Max_Lat.
  const auto at = GENERATE(as<uint64_t>{}, 0x0d, 0x0f, 0x28, 0x29, 0x2a, 0x2b, 0x35, 0x36, 0x37,
                           0x38, 0x39, 0x3a, 0x3b, 0x3e, 0x3f);
  write_as<uint8_t>(rich.config, at, 0xff);
  CHECK(read_as<uint8_t>(rich.config, at) == 0);
}

TEST_CASE("6.2.5.2: there is no expansion ROM") {
  Rich rich;
  write_as<uint32_t>(rich.config, 0x30, 0xffffffff);
  CHECK(read_as<uint32_t>(rich.config, 0x30) == 0);
}

TEST_CASE("6.7: capabilities form a list in the order they were added, each on a dword") {
  Rich rich;
  CHECK((read_as<uint16_t>(rich.config, 0x06) & 0x10) == 0x10);
  CHECK(read_as<uint8_t>(rich.config, 0x34) == 0x40);
  CHECK(read_as<uint32_t>(rich.config, 0x40) == 0xaa054809);
  CHECK(read_as<uint32_t>(rich.config, 0x44) == 0x000000bb);
  CHECK(read_as<uint32_t>(rich.config, 0x48) == 0x00015411);
  CHECK(read_as<uint32_t>(rich.config, 0x4c) == 0x00000003);
  CHECK(read_as<uint32_t>(rich.config, 0x50) == 0x00000803);
  CHECK(read_as<uint32_t>(rich.config, 0x54) == 0x00080009);
  CHECK(read_as<uint32_t>(rich.config, 0x58) == 0x40302010);
  CHECK(read_as<uint32_t>(rich.config, 0x5c) == 0);
}

TEST_CASE("a function without capabilities says so") {
  ConfigSpace config(kDisk);
  CHECK(read_as<uint16_t>(config, 0x06) == 0);
  CHECK(read_as<uint8_t>(config, 0x34) == 0);
}

TEST_CASE("a capability's handler sees what the guest does inside it, and nothing else") {
  ConfigSpace config(kDisk);
  Recorder recorder;
  const auto body = bytes({1, 2, 3, 4, 5});
  const uint8_t at = config.add_capability({.id = 0x09, .body = body, .handler = &recorder});
  config.add_capability({.id = 0x09, .body = body});
  CHECK(at == 0x40);

  CHECK(read_as<uint16_t>(config, 0x44) == 0x7777);
  CHECK(read_as<uint32_t>(config, 0x44) == 0x00777777);  // its seven bytes end at 0x46
  CHECK(read_as<uint8_t>(config, 0x3c) == 0x00);
  CHECK(read_as<uint32_t>(config, 0x48) == 0x02010009);
  CHECK(recorder.reads == std::vector<size_t>{4, 4});

  write_as<uint32_t>(config, 0x44, 0x0a0b0c0d);
  write_as<uint8_t>(config, 0x47, 0x0e);
  write_as<uint16_t>(config, 0x42, 0x1a1b);
  const std::vector<Recorder::Written> expected{{4, bytes({0x0d, 0x0c, 0x0b})},
                                                {2, bytes({0x1b, 0x1a})}};
  CHECK(recorder.writes == expected);
  CHECK(config.read32(0x44) == 0x00050403);  // none of it is writable
}

TEST_CASE("of a capability only what its mask names can be written") {
  Rich rich;
  for (unsigned at = 0x40; at < 0x60; at += 4) write_as<uint32_t>(rich.config, at, 0xffffffff);
  CHECK(rich.config.read32(0x40) == 0xaa054809);
  CHECK(rich.config.read32(0x48) == 0xc0015411);
  CHECK(rich.config.read32(0x54) == 0x00080009);
  CHECK(rich.config.read32(0x58) == 0x4030ffff);
}

TEST_CASE("PCIe 6.0, 7.6.1: the extended space is an empty capability list") {
  Rich rich;
  const std::vector<uint8_t> before = dump(rich.config);
  CHECK(std::count(before.begin() + 0x100, before.end(), 0) == 0xf00);
  for (unsigned at = 0x100; at < 0x1000; at += 4) write_as<uint32_t>(rich.config, at, 0xffffffff);
  CHECK(dump(rich.config) == before);
}

TEST_CASE("an access of any width and offset in a dword is its bytes") {
  Rich rich;
  for (unsigned at = 0; at < 256; at += 4) write_as<uint32_t>(rich.config, at, 0x9d8e7f6a);
  const std::vector<uint8_t> all = dump(rich.config);
  const auto byte = [&](unsigned at) { return unsigned{all[at]}; };
  for (uint16_t dword = 0; dword < 256; dword += 4) {
    for (const unsigned at : {dword + 0u, dword + 1u, dword + 2u}) {
      CHECK(read_as<uint16_t>(rich.config, at) == (byte(at) | byte(at + 1) << 8));
    }
    CHECK(read_as<uint32_t>(rich.config, dword) ==
          (byte(dword) | byte(dword + 1) << 8 | byte(dword + 2) << 16 | byte(dword + 3) << 24));
  }
}

TEST_CASE("a dword written in parts of any width is the dword written at once") {
  for (const uint32_t value : {0u, 0xffffffffu, 0x5aa5c33cu, 0x12345678u}) {
    Rich whole;
    Rich by_bytes;
    Rich by_words;
    Rich uneven;
    for (unsigned at = 0; at < 256; at += 4) {
      const auto part = [&](unsigned shift) { return value >> shift; };
      const auto plus = [&](unsigned i) { return at + i; };
      write_as<uint32_t>(whole.config, at, value);
      write_as<uint8_t>(by_bytes.config, plus(3), static_cast<uint8_t>(part(24)));
      write_as<uint8_t>(by_bytes.config, plus(0), static_cast<uint8_t>(part(0)));
      write_as<uint8_t>(by_bytes.config, plus(2), static_cast<uint8_t>(part(16)));
      write_as<uint8_t>(by_bytes.config, plus(1), static_cast<uint8_t>(part(8)));
      write_as<uint16_t>(by_words.config, plus(2), static_cast<uint16_t>(part(16)));
      write_as<uint16_t>(by_words.config, plus(0), static_cast<uint16_t>(part(0)));
      write_as<uint8_t>(uneven.config, plus(0), static_cast<uint8_t>(part(0)));
      write_as<uint16_t>(uneven.config, plus(1), static_cast<uint16_t>(part(8)));
      write_as<uint8_t>(uneven.config, plus(3), static_cast<uint8_t>(part(24)));
    }
    CHECK(dump(by_bytes.config) == dump(whole.config));
    CHECK(dump(by_words.config) == dump(whole.config));
    CHECK(dump(uneven.config) == dump(whole.config));
  }
}

TEST_CASE("no sequence of writes changes a read-only bit, and ones and zeroes undo it") {
  Rich fresh;
  Rich rich;
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t at = random() % 4096 / 4 * 4;
    write_as<uint32_t>(rich.config, at, static_cast<uint32_t>(random()));
    write_as<uint8_t>(rich.config, random() % 256, static_cast<uint8_t>(random()));
  }
  for (unsigned at = 0; at < 256; at += 4) write_as<uint32_t>(fresh.config, at, 0);
  for (unsigned at = 0; at < 256; at += 4) write_as<uint32_t>(rich.config, at, 0);
  CHECK(dump(rich.config) == dump(fresh.config));
  CHECK(read_as<uint32_t>(rich.config, 0x00) == 0x10421af4);
  CHECK(read_as<uint32_t>(rich.config, 0x48) == 0x00015411);
}

TEST_CASE("a write tells whether decoding or the Command register changed") {
  Rich rich;
  const auto write = [&](uint16_t at, uint32_t value) {
    return rich.config.write(at, std::bit_cast<std::array<std::byte, 4>>(value));
  };
  CHECK(write(0x10, 0xfe000000).decoding);
  CHECK_FALSE(write(0x10, 0xfe000001).decoding);  // the same: the bit is not writable
  CHECK_FALSE(write(0x1c, 0xffffffff).decoding);  // no such BAR
  CHECK_FALSE(write(0x3c, 0x00000044).decoding);
  CHECK(write(0x04, PciCommand::kMemory).decoding);
  const auto master = write(0x04, PciCommand::kMemory | PciCommand::kBusMaster);
  CHECK(master.command);
  CHECK_FALSE(master.decoding);
  CHECK_FALSE(write(0x04, PciCommand::kMemory | PciCommand::kBusMaster).command);
  CHECK(write(0x04, 0).decoding);
}

TEST_CASE("a saved configuration space carries on in a new one of the same kind") {
  Rich old;
  for (unsigned at = 0; at < 256; at += 4) write_as<uint32_t>(old.config, at, 0xdeadbeef);
  Rich fresh;
  fresh.config.restore(old.config.save());
  CHECK(dump(fresh.config) == dump(old.config));
}

TEST_CASE("a made-up state changes no more than a guest could") {
  ConfigSpaceState state;
  state.bytes.fill(0xff);
  Rich restored;
  restored.config.restore(state);
  Rich written;
  for (unsigned at = 0; at < 256; at += 4) write_as<uint32_t>(written.config, at, 0xffffffff);
  CHECK(dump(restored.config) == dump(written.config));
}

struct Function final : PciFunction {
  Function() : PciFunction(kDisk) {}
  void command_changed(PciCommand command) noexcept override { commands.push_back(command.value); }
  bool interrupt_pending() const noexcept override { return pending; }
  uint32_t read(uint16_t at) {
    std::array<std::byte, 4> data;
    config_read(at, data);
    return std::bit_cast<uint32_t>(data);
  }
  bool write(uint16_t at, uint32_t value) {
    return config_write(at, std::bit_cast<std::array<std::byte, 4>>(value));
  }
  bool pending = false;
  std::vector<uint16_t> commands;
};

TEST_CASE("6.2.3: Interrupt Status shows a pending interrupt, INTx Disable or not") {
  Function function;
  CHECK(function.read(0x04) == 0);
  function.pending = true;
  CHECK(function.read(0x04) == 0x00080000);
  function.write(0x04, PciCommand::kIntxDisable);
  CHECK(function.read(0x04) == 0x00080400);
  function.pending = false;
  CHECK(function.read(0x04) == 0x00000400);
}

TEST_CASE("a function hears of each new value of its Command register") {
  Function function;
  CHECK(function.write(0x04, 0xffffffff));
  CHECK_FALSE(function.write(0x04, 0xffffffff));
  CHECK_FALSE(function.write(0x08, 0xffffffff));
  CHECK(function.write(0x04, 0));
  CHECK(function.commands == std::vector<uint16_t>{0x0546, 0});
}

TEST_CASE("a BAR without a device behind it reads as all ones") {
  Function function;
  BusDevice& device = function.bar_device(0);
  write_as<uint32_t>(device, 0, 0);
  CHECK(read_as<uint32_t>(device, 0) == 0xffffffff);
}

}  // namespace
}  // namespace ringlet
