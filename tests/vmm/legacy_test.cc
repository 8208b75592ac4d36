// The PC's small devices: clock, ACPI fixed hardware, reset, panic and debug ports.
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include <catch2/catch.hpp>

#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/rtc.h"
#include "vmm/legacy/small_ports.h"

namespace ringlet {
namespace {

uint32_t read(BusDevice& device, uint64_t offset, size_t width) {
  std::array<std::byte, 4> data;
  data.fill(std::byte{0xff});
  device.read(offset, std::span(data).first(width));
  uint32_t value = 0;
  for (size_t i = 0; i < width; ++i) value |= std::to_integer<uint32_t>(data[i]) << (8 * i);
  return value;
}

void write(BusDevice& device, uint64_t offset, size_t width, uint32_t value) {
  std::array<std::byte, 4> data;
  for (size_t i = 0; i < width; ++i) data[i] = static_cast<std::byte>(value >> (8 * i));
  device.write(offset, std::span(data).first(width));
}

struct Events final : MachineEvents {
  struct Event {
    GuestRequest request;
    uint8_t status;
    bool operator==(const Event&) const = default;
  };
  void guest_request(GuestRequest request, uint8_t status) noexcept override {
    seen.push_back({request, status});
  }
  std::vector<Event> seen;
};

struct Level {
  bool high = false;
};
struct FakeLine final : IrqLine {
  explicit FakeLine(Level& level) : level_(level) {}
  void set(bool high) noexcept override { level_.high = high; }
  Level& level_;
};

uint32_t cmos(Rtc& rtc, uint8_t index) {
  write(rtc, 0, 1, index);
  return read(rtc, 1, 1);
}
void set_cmos(Rtc& rtc, uint8_t index, uint8_t value) {
  write(rtc, 0, 1, index);
  write(rtc, 1, 1, value);
}

constexpr int64_t kMoment = 1'709'212'509;  // 2024-02-29 13:15:09 UTC, a Thursday

TEST_CASE("The clock shows the host's time in BCD and 24 hours") {
  Rtc rtc([] { return kMoment; });
  CHECK(cmos(rtc, 0x00) == 0x09);
  CHECK(cmos(rtc, 0x02) == 0x15);
  CHECK(cmos(rtc, 0x04) == 0x13);
  CHECK(cmos(rtc, 0x06) == 5);
  CHECK(cmos(rtc, 0x07) == 0x29);
  CHECK(cmos(rtc, 0x08) == 0x02);
  CHECK(cmos(rtc, 0x09) == 0x24);
  CHECK(cmos(rtc, 0x32) == 0x20);
}

TEST_CASE("The clock shows binary and 12-hour time when asked to") {
  Rtc rtc([] { return kMoment; });
  set_cmos(rtc, 0x0b, 0x04);
  CHECK(cmos(rtc, 0x09) == 24);
  CHECK(cmos(rtc, 0x04) == (1 | 0x80));
}

TEST_CASE("No update is in progress and the battery is good") {
  Rtc rtc([] { return kMoment; });
  CHECK((cmos(rtc, 0x0a) & 0x80) == 0);
  CHECK(cmos(rtc, 0x0d) == 0x80);
  CHECK(cmos(rtc, 0x0c) == 0);
}

TEST_CASE("A time that the guest sets runs on from there") {
  int64_t now = kMoment;
  Rtc rtc([&now] { return now; });
  set_cmos(rtc, 0x0b, 0x82);
  set_cmos(rtc, 0x04, 0x22);
  set_cmos(rtc, 0x00, 0x58);
  set_cmos(rtc, 0x0b, 0x02);
  now += 4;
  CHECK(cmos(rtc, 0x04) == 0x22);
  CHECK(cmos(rtc, 0x02) == 0x16);
  CHECK(cmos(rtc, 0x00) == 0x02);
}

TEST_CASE("Bytes that are no clock registers keep what was written") {
  Rtc rtc([] { return kMoment; });
  set_cmos(rtc, 0x0f, 0xa5);
  CHECK(cmos(rtc, 0x0f) == 0xa5);
}

TEST_CASE("The power button raises the SCI only for a guest that listens") {
  Events events;
  Level sci;
  AcpiPm pm(std::make_unique<FakeLine>(sci), events);
  pm.press_power_button();
  CHECK_FALSE(sci.high);
  write(pm, 2, 2, 0x100);
  CHECK(sci.high);
  CHECK(read(pm, 0, 2) == 0x100);
}

TEST_CASE("Writing one to a status bit clears it and lowers the SCI") {
  Events events;
  Level sci;
  AcpiPm pm(std::make_unique<FakeLine>(sci), events);
  write(pm, 2, 2, 0x100);
  pm.press_power_button();
  write(pm, 0, 1, 0xff);
  CHECK(sci.high);
  write(pm, 0, 2, 0x100);
  CHECK_FALSE(sci.high);
  CHECK(read(pm, 0, 2) == 0);
}

TEST_CASE("The enable bits read back, and the control register says ACPI mode") {
  Events events;
  Level sci;
  AcpiPm pm(std::make_unique<FakeLine>(sci), events);
  write(pm, 2, 2, 0xffff);
  CHECK(read(pm, 2, 2) == 0x721);
  CHECK(read(pm, 4, 2) == 1);
}

TEST_CASE("SLP_EN with the type of S5 powers off, with another type nothing happens") {
  Events events;
  Level sci;
  AcpiPm pm(std::make_unique<FakeLine>(sci), events);
  write(pm, 4, 2, 3 << 10 | 1 << 13);
  CHECK(events.seen.empty());
  write(pm, 4, 2, 5 << 10);
  CHECK(events.seen.empty());
  write(pm, 4, 2, 5 << 10 | 1 << 13);
  CHECK(events.seen == std::vector<Events::Event>{{GuestRequest::PowerOff, 0}});
}

TEST_CASE("The reset register takes its value only") {
  Events events;
  Level sci;
  AcpiPm pm(std::make_unique<FakeLine>(sci), events);
  write(pm, 8, 1, 2);
  CHECK(events.seen.empty());
  write(pm, 8, 1, 1);
  CHECK(events.seen == std::vector<Events::Event>{{GuestRequest::Reset, 0}});
}

TEST_CASE("The keyboard controller resets on command 0xfe and has nothing else to say") {
  Events events;
  I8042 keyboard(events);
  CHECK(read(keyboard, 0, 1) == 0);
  write(keyboard, 0, 1, 0xd1);
  CHECK(events.seen.empty());
  write(keyboard, 0, 1, 0xfe);
  CHECK(events.seen == std::vector<Events::Event>{{GuestRequest::Reset, 0}});
}

TEST_CASE("pvpanic tells a panic from a crash kernel being loaded") {
  Events events;
  Pvpanic pvpanic(events);
  CHECK(read(pvpanic, 0, 1) == 3);
  write(pvpanic, 0, 1, 2);
  CHECK(events.seen.empty());
  write(pvpanic, 0, 1, 1);
  CHECK(events.seen == std::vector<Events::Event>{{GuestRequest::Panic, 0}});
}

TEST_CASE("The debug exit port makes an exit status as QEMU does") {
  Events events;
  DebugExit debug_exit(events);
  write(debug_exit, 0, 4, 0x21);
  CHECK(events.seen == std::vector<Events::Event>{{GuestRequest::DebugExit, 0x43}});
}

TEST_CASE("The debug console passes bytes on and is recognised by its value") {
  std::vector<std::byte> seen;
  DebugConsole console([&seen](std::byte byte) { seen.push_back(byte); });
  CHECK(read(console, 0, 1) == 0xe9);
  write(console, 0, 2, 0x6968);
  CHECK(seen == std::vector<std::byte>{std::byte{'h'}, std::byte{'i'}});
}

}  // namespace
}  // namespace ringlet
