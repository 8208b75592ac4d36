// Fuzzes the PC's old devices by call sequence: ports of any width and order, input from a terminal
// or pipe, a console that is read slowly or never, and saves and restores in between.
#include <algorithm>
#include <array>
#include <cassert>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kvm/bus.h"
#include "tests/fake/fake_irq.h"
#include "tests/fake/simulated_loop.h"
#include "tests/fuzz/fuzz_input.h"
#include "vmm/layout.h"
#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/console.h"
#include "vmm/legacy/rtc.h"
#include "vmm/legacy/serial.h"
#include "vmm/legacy/small_ports.h"

namespace ringlet {
namespace {

/// What a guest may ask for by ports, and users by keys.
struct Events final : MachineEvents {
  void guest_request(GuestRequest request, uint8_t) noexcept override {
    user_left |= request == GuestRequest::UserLeft;
  }
  bool user_left = false;
};

/// Sees what the serial port sends to the console.
struct Tap final : SerialPeer {
  explicit Tap(Console& to) : console(to) {}
  void send(std::byte byte) noexcept override {
    always_room = always_room && console.has_room();
    sent.push_back(byte);
    console.send(byte);
  }
  bool has_room() noexcept override { return console.has_room(); }
  void can_receive() noexcept override { console.can_receive(); }

  Console& console;
  std::vector<std::byte> sent;
  bool always_room = true;
};

struct Files {
  explicit Files(FuzzInput& input)
      : loop({.seed = input.take<uint8_t>(), .adversarial = input.flag()}),
        console{.out = loop.add_stream(), .in = loop.add_stream(), .escape = input.flag()} {}
  SimulatedLoop loop;
  Console::Files console;
};

/// The devices with their places; made anew by a restore.
struct Devices {
  Devices(Files& files, Events& events)
      : serial(interrupts.make_line(kCom1Gsi)),
        console(serial, files.loop, files.console, events),
        tap(console),
        acpi_pm(interrupts.make_line(kSciGsi), events),
        rtc([] { return int64_t{1'700'000'000}; }),
        i8042(events),
        pvpanic(events),
        debug_exit(events),
        debug_console([](std::byte) {}) {
    serial.connect(tap);
    const bool placed = bus.insert(kCom1Ports, serial) && bus.insert({kPm1, 9}, acpi_pm) &&
                        bus.insert(kCmosPorts, rtc) && bus.insert({kI8042CommandPort, 1}, i8042) &&
                        bus.insert(kPvpanicPorts, pvpanic) && bus.insert({0xf4, 4}, debug_exit) &&
                        bus.insert({0xe9, 1}, debug_console);
    assert(placed);
  }
  static constexpr uint64_t kPm1 = kPm1EventPorts.base;

  FakeInterrupts interrupts;
  Serial serial;
  Console console;
  Tap tap;
  AcpiPm acpi_pm;
  Rtc rtc;
  I8042 i8042;
  Pvpanic pvpanic;
  DebugExit debug_exit;
  DebugConsole debug_console;
  Bus bus{"port"};
};

bool is_bcd(std::byte value) {
  return (value & std::byte{0xf}) < std::byte{10} && value < std::byte{0xa0};
}

class LegacyRun {
 public:
  explicit LegacyRun(FuzzInput& input) : input_(input), files_(input) {
    devices_ = std::make_unique<Devices>(files_, events_);
    devices_->console.start();
  }

  void run() {
    while (!input_.empty()) {
      step();
      check();
    }
    files_.loop.release(SimOp::Write);
    files_.loop.run_until_idle();
    check_output();
    files_.loop.drain();
  }

 private:
  void step() {
    switch (input_.below(13)) {
      case 0: return access(kCom1Ports.base, 8);
      case 1: return access(Devices::kPm1, 9);
      case 2: return access(kCmosPorts.base, 2);
      case 3: {
        constexpr std::array<uint16_t, 5> kSmall{0x64, 0x505, 0xf4, 0xf6, 0xe9};
        return access(input_.pick(kSmall), 1);
      }
      case 4: return cmos();
      case 5: return uart();
      case 6: return print_much();
      case 7: return files_.loop.push_input(files_.console.in, input_.bytes(input_.below(80)));
      case 8: files_.loop.step(); return;
      case 9:
        input_.flag() ? files_.loop.hold(SimOp::Write) : files_.loop.release(SimOp::Write);
        return;
      case 10: return devices_->acpi_pm.press_power_button();
      case 11: return open_port();
      default: return carry_on();
    }
  }

  /// A write or a read of any width, around `ports` from `base` on.
  void access(uint64_t base, size_t ports) {
    const uint64_t at = base + input_.below(ports + 2) - 1;
    const bool reads = input_.flag();
    FuzzAccess access(input_);
    reads ? devices_->bus.read(at, access.data()) : devices_->bus.write(at, access.data());
  }
  uint8_t in(uint64_t port) {
    std::array<std::byte, 1> data{std::byte{0xff}};
    devices_->bus.read(port, data);
    return std::to_integer<uint8_t>(data[0]);
  }
  void out(uint64_t port, uint8_t value) {
    const std::array<std::byte, 1> data{std::byte{value}};
    devices_->bus.write(port, data);
  }

  void cmos() {
    const uint8_t index = input_.take<uint8_t>();
    out(0x70, index);
    if (index >= 0x80) return out(0x71, input_.take<uint8_t>());
    const uint8_t value = in(0x71);
    const RtcState state = devices_->rtc.save();
    const bool runs = (state.control & 0x80) == 0 && (state.control & 4) == 0;
    if (runs && index < 10 && index % 2 == 0 && index != 4) assert(is_bcd(std::byte{value}));
  }

  /// A register, as a driver reaches it.
  void uart() {
    const uint64_t port = kCom1Ports.base + input_.below(8);
    if (input_.flag()) return out(port, input_.take<uint8_t>());
    const uint8_t value = in(port);
    const SerialState state = devices_->serial.save();
    if (port == kCom1Ports.base + 5) assert(((value & 1) != 0) == !state.received.empty());
  }

  /// As a driver does it: 8 bits, no loopback, FIFOs and interrupts; and input is there.
  void open_port() {
    out(kCom1Ports.base + 3, 3);
    out(kCom1Ports.base + 4, 0xb);
    out(kCom1Ports.base + 2, input_.take<uint8_t>());
    out(kCom1Ports.base + 1, input_.take<uint8_t>());
    files_.loop.push_input(files_.console.in, input_.bytes(input_.below(20)));
    files_.loop.run_until_idle();
  }

  /// Fills the console, or nearly. Once in a run, and rarely: it takes long.
  void print_much() {
    if (input_.take<uint8_t>() < 0xf0 || std::exchange(has_printed_much_, true)) return;
    const size_t room = input_.below(40);
    for (size_t i = Console::kOutputSize; i > room; --i) devices_->tap.send(std::byte{'x'});
  }

  /// Saves all, and restores it into other devices: what a guest can do, a state may hold.
  void carry_on() {
    files_.loop.release(SimOp::Write);
    files_.loop.run_until_idle();
    check_output();
    const SerialState serial = devices_->serial.save();
    const RtcState rtc = devices_->rtc.save();
    const AcpiPmState acpi_pm = devices_->acpi_pm.save();
    files_.loop.drain();
    auto next = std::make_unique<Devices>(files_, events_);
    next->serial.restore(serial);
    next->rtc.restore(rtc);
    next->acpi_pm.restore(acpi_pm);
    devices_ = std::move(next);
    written_ = output().size();
    assert(devices_->rtc.save().offset_s == rtc.offset_s);
    assert(devices_->serial.save().received == serial.received);
    devices_->console.start();
  }

  std::vector<std::byte> output() { return files_.loop.file(files_.console.out).written(); }
  /// With nothing under way: all that was sent has been written, in order.
  void check_output() {
    if (!devices_->tap.always_room) return;
    const std::vector<std::byte> all = output();
    assert(std::ranges::equal(std::span(all).subspan(written_), devices_->tap.sent));
  }

  /// Interrupt lines are what the registers say.
  void check() {
    const SerialState serial = devices_->serial.save();
    const bool wants = ((serial.interrupt_enable & 4) != 0 && serial.overrun) ||
                       ((serial.interrupt_enable & 1) != 0 && !serial.received.empty()) ||
                       ((serial.interrupt_enable & 2) != 0 && serial.empty_pending);
    assert(devices_->interrupts.lines[0]->level() == wants);
    assert(serial.received.size() <= (serial.fifos_enabled ? 16 : 1));
    const AcpiPmState acpi_pm = devices_->acpi_pm.save();
    assert(devices_->interrupts.lines[1]->level() == ((acpi_pm.status & acpi_pm.enable) != 0));
    assert(!events_.user_left || files_.console.escape);
  }

  FuzzInput& input_;
  Events events_;
  Files files_;
  std::unique_ptr<Devices> devices_;
  bool has_printed_much_ = false;
  size_t written_ = 0;  // by devices before these
};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringlet::FuzzInput input(data, size);
  ringlet::LegacyRun(input).run();
  return 0;
}
