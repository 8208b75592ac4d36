// Tests of saving and restoring the PC's small devices.
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/fake/fake_irq.h"
#include "tests/pci/access.h"
#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/rtc.h"
#include "vmm/legacy/serial.h"

namespace ringlet {
namespace {

// Serial port ---------------------------------------------------------------------------------

struct FarEnd final : SerialPeer {
  void send(std::byte byte) noexcept override { sent += static_cast<char>(byte); }
  bool has_room() noexcept override { return room; }
  void can_receive() noexcept override { ++asked; }
  std::string sent;
  bool room = true;
  int asked = 0;
};

struct SavedPort {
  SavedPort() { serial.connect(peer); }
  uint8_t in(uint64_t offset) { return read_as<uint8_t>(serial, offset); }
  void out(uint64_t offset, uint8_t value) { write_as<uint8_t>(serial, offset, value); }
  size_t receive(std::string_view text) { return serial.receive(std::as_bytes(std::span(text))); }
  std::unique_ptr<FakeIrqLine> line = std::make_unique<FakeIrqLine>(Gsi{4});
  const FakeIrqLine& irq = *line;
  FarEnd peer;
  Serial serial{std::move(line)};
};

TEST_CASE("a restored serial port has its registers, and what it had received") {
  SavedPort first;
  first.out(2, 0x81);  // FIFOs on, interrupt at 8 bytes
  first.out(3, 0x80);
  first.out(0, 0x0c);
  first.out(1, 0x01);
  first.out(3, 0x03);
  first.out(1, 0x05);
  first.out(4, 0x0b);
  first.out(7, 0x5a);
  first.receive("xyz");
  CHECK(first.in(0) == 'x');  // the FIFO does not begin at its first place any more
  SavedPort second;
  second.serial.restore(first.serial.save());
  CHECK(second.irq.level());
  CHECK(second.in(1) == 0x05);
  CHECK(second.in(2) == 0xcc);  // below the trigger level
  CHECK(second.in(3) == 0x03);
  CHECK(second.in(4) == 0x0b);
  CHECK(second.in(7) == 0x5a);
  CHECK(second.in(0) == 'y');
  CHECK(second.in(0) == 'z');
  CHECK_FALSE(second.irq.level());
  second.out(3, 0x80);
  CHECK(second.in(0) == 0x0c);
  CHECK(second.in(1) == 0x01);
}

TEST_CASE("a restored serial port that is full takes input when the guest has read") {
  SavedPort first;
  CHECK(first.receive("ab") == 1);
  SavedPort second;
  second.serial.restore(first.serial.save());
  CHECK(second.receive("b") == 0);
  CHECK(second.in(0) == 'a');
  CHECK(second.peer.asked == 1);
  CHECK(second.receive("b") == 1);
}

TEST_CASE("a guest that waited for room to send finds it after a restore") {
  SavedPort first;
  first.out(1, 0x02);
  first.in(2);
  first.peer.room = false;
  first.out(0, 'a');
  CHECK_FALSE(first.irq.level());
  SavedPort second;
  second.serial.restore(first.serial.save());
  CHECK(second.irq.level());
  CHECK(second.in(2) == 0x02);
}

TEST_CASE("a restored interrupt line is driven also when it is low") {
  SavedPort first;
  SavedPort second;
  second.serial.restore(first.serial.save());
  CHECK(second.irq.levels == std::vector<bool>{false});
}

TEST_CASE("the state of a serial port that cannot be is refused") {
  const auto refusal = [](const std::function<void(SerialState&)>& change) -> std::string {
    SavedPort port;
    SerialState state = port.serial.save();
    change(state);
    try {
      port.serial.restore(state);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(refusal([](SerialState&) {}) == "");
  CHECK(refusal([](SerialState& state) { state.received.assign(2, 0); }) ==
        "serial: the saved state cannot be: 2 bytes received, room for 1");
  CHECK(refusal([](SerialState& state) {
          state.fifos_enabled = true;
          state.received.assign(17, 0);
        }) == "serial: the saved state cannot be: 17 bytes received, room for 16");
  CHECK(refusal([](SerialState& state) { state.trigger_level = 14; }) ==
        "serial: the saved state cannot be: interrupt enable 0x0, modem control 0x0, trigger level "
        "14");
  CHECK_FALSE(refusal([](SerialState& state) {
                state.fifos_enabled = true;
                state.trigger_level = 0;
              }).empty());
  CHECK_FALSE(refusal([](SerialState& state) { state.interrupt_enable = 0x10; }).empty());
  CHECK_FALSE(refusal([](SerialState& state) { state.modem_control = 0x20; }).empty());
}

// Clock ---------------------------------------------------------------------------------------

uint8_t cmos_at(Rtc& rtc, uint8_t index) {
  write_as<uint8_t>(rtc, 0, index);
  return read_as<uint8_t>(rtc, 1);
}
void put_cmos(Rtc& rtc, uint8_t index, uint8_t value) {
  write_as<uint8_t>(rtc, 0, index);
  write_as<uint8_t>(rtc, 1, value);
}

TEST_CASE("a restored clock has the guest's time, mode, bytes and index") {
  int64_t now = 1'709'212'509;  // 2024-02-29 13:15:09 UTC
  const Rtc::Clock clock = [&now] { return now; };
  Rtc first(clock);
  put_cmos(first, 0x0b, 0x06);  // binary
  put_cmos(first, 0x04, 22);
  put_cmos(first, 0x40, 0xa5);
  now += 5;
  Rtc second(clock);
  second.restore(first.save());
  CHECK(read_as<uint8_t>(second, 0) == 0x40);
  CHECK(cmos_at(second, 0x04) == 22);
  CHECK(cmos_at(second, 0x00) == 14);
  CHECK(cmos_at(second, 0x0b) == 0x06);
  CHECK(cmos_at(second, 0x40) == 0xa5);
}

TEST_CASE("a clock that is saved while the guest sets it is set by what follows") {
  const Rtc::Clock clock = [] { return 1'709'212'509; };
  Rtc first(clock);
  put_cmos(first, 0x0b, 0x82);
  put_cmos(first, 0x02, 0x59);
  Rtc second(clock);
  second.restore(first.save());
  put_cmos(second, 0x04, 0x07);
  put_cmos(second, 0x0b, 0x02);
  CHECK(cmos_at(second, 0x04) == 0x07);
  CHECK(cmos_at(second, 0x02) == 0x59);
  CHECK(cmos_at(second, 0x07) == 0x29);
}

TEST_CASE("the state of a clock that cannot be is refused") {
  Rtc rtc([] { return 1'709'212'509; });
  RtcState state = rtc.save();
  state.index = 128;
  CHECK_THROWS_WITH(rtc.restore(state),
                    "rtc: the saved state cannot be: index 128, expected 0 to 127");
  state = rtc.save();
  state.offset_s = std::numeric_limits<int64_t>::max();
  CHECK_THROWS_AS(rtc.restore(state), ConfigError);
  state.offset_s = std::numeric_limits<int64_t>::min();
  CHECK_THROWS_AS(rtc.restore(state), ConfigError);
  CHECK(cmos_at(rtc, 0x00) == 0x09);
}

TEST_CASE("any time that a guest can set is restored") {
  Rtc first([] { return 1'709'212'509; });
  put_cmos(first, 0x0b, 0x86);
  const auto year = GENERATE(as<uint8_t>{}, 0, 255);
  put_cmos(first, 0x09, year);
  put_cmos(first, 0x32, year);
  put_cmos(first, 0x0b, 0x06);
  Rtc second([] { return 1'709'212'509; });
  CHECK_NOTHROW(second.restore(first.save()));
  CHECK(cmos_at(second, 0x09) == cmos_at(first, 0x09));
}

// ACPI ----------------------------------------------------------------------------------------

struct NoEvents final : MachineEvents {
  void guest_request(GuestRequest, uint8_t) noexcept override {}
};

struct SavedPm {
  NoEvents events;
  std::unique_ptr<FakeIrqLine> line = std::make_unique<FakeIrqLine>(Gsi{9});
  const FakeIrqLine& sci = *line;
  AcpiPm pm{std::move(line), events};
};

TEST_CASE("a pressed power button is restored with its interrupt") {
  SavedPm first;
  write_as<uint16_t>(first.pm, 2, 0x0100);
  write_as<uint16_t>(first.pm, 4, 5 << 10);
  first.pm.press_power_button();
  SavedPm second;
  second.pm.restore(first.pm.save());
  CHECK(second.sci.level());
  CHECK(read_as<uint16_t>(second.pm, 0) == 0x0100);
  CHECK(read_as<uint16_t>(second.pm, 2) == 0x0100);
  CHECK(read_as<uint16_t>(second.pm, 4) == (5 << 10 | 1));
  write_as<uint16_t>(second.pm, 0, 0x0100);
  CHECK_FALSE(second.sci.level());
}

TEST_CASE("the state of the ACPI registers that cannot be is refused") {
  SavedPm machine;
  CHECK_THROWS_WITH(machine.pm.restore({.status = 1}),
                    "acpi: the saved state cannot be: status 0x1, enable 0x0, control 0x1");
  CHECK_THROWS_AS(machine.pm.restore({.enable = 2}), ConfigError);
  CHECK_THROWS_AS(machine.pm.restore({.control = 0}), ConfigError);
  CHECK_THROWS_AS(machine.pm.restore({.control = 1 << 13 | 1}), ConfigError);
  CHECK(machine.sci.levels.empty());
  CHECK_NOTHROW(machine.pm.restore({}));
}

}  // namespace
}  // namespace ringlet
