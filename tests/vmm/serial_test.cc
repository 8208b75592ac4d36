// Tests of the 16550A, among them what Linux's 8250 driver tries to find out about it.
#include "vmm/legacy/serial.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/fake/fake_irq.h"
#include "tests/pci/access.h"

namespace ringlet {
namespace {

constexpr uint64_t kData = 0;
constexpr uint64_t kIer = 1;
constexpr uint64_t kIir = 2;
constexpr uint64_t kFcr = 2;
constexpr uint64_t kLcr = 3;
constexpr uint64_t kMcr = 4;
constexpr uint64_t kLsr = 5;
constexpr uint64_t kMsr = 6;
constexpr uint64_t kScr = 7;

struct Peer final : SerialPeer {
  void send(std::byte byte) noexcept override { sent += static_cast<char>(byte); }
  bool has_room() noexcept override { return room; }
  void can_receive() noexcept override { ++asked; }
  std::string sent;
  bool room = true;
  int asked = 0;
};

struct Port {
  Port() { serial.connect(peer); }
  uint8_t in(uint64_t offset) { return read_as<uint8_t>(serial, offset); }
  void out(uint64_t offset, unsigned value) {
    write_as<uint8_t>(serial, offset, static_cast<uint8_t>(value));
  }
  size_t receive(std::string_view text) { return serial.receive(std::as_bytes(std::span(text))); }
  std::unique_ptr<FakeIrqLine> line = std::make_unique<FakeIrqLine>(Gsi{4});
  const FakeIrqLine& irq = *line;
  Peer peer;
  Serial serial{std::move(line)};
};

TEST_CASE("what the guest sends goes out in order, and the transmitter is empty at once") {
  Port port;
  port.out(kData, 'h');
  port.out(kData, 'i');
  CHECK(port.peer.sent == "hi");
  CHECK(port.in(kLsr) == 0x60);
}

TEST_CASE("a port without a peer discards what is sent") {
  Serial serial(std::make_unique<FakeIrqLine>(Gsi{4}));
  write_as<uint8_t>(serial, kData, 'x');
  CHECK(read_as<uint8_t>(serial, kLsr) == 0x60);
}

TEST_CASE("registers after power-on are those of the data sheet") {
  Port port;
  CHECK(port.in(kIer) == 0x00);
  CHECK(port.in(kIir) == 0x01);
  CHECK(port.in(kLcr) == 0x00);
  CHECK(port.in(kMcr) == 0x00);
  CHECK(port.in(kLsr) == 0x60);
  CHECK(port.in(kMsr) == 0xb0);
  CHECK(port.irq.levels.empty());
}

TEST_CASE("scratch, line control and divisor read back; unused bits stay zero") {
  Port port;
  port.out(kScr, 0xa5);
  CHECK(port.in(kScr) == 0xa5);
  port.out(kLcr, 0x83);
  port.out(kData, 0x0c);
  port.out(kIer, 0x12);
  CHECK(port.in(kData) == 0x0c);
  CHECK(port.in(kIer) == 0x12);
  port.out(kLcr, 0x03);
  CHECK(port.in(kIer) == 0x00);
  CHECK(port.peer.sent.empty());
  port.out(kIer, 0xff);
  CHECK(port.in(kIer) == 0x0f);
  port.out(kMcr, 0xff);
  CHECK(port.in(kMcr) == 0x1f);
}

TEST_CASE("an access of two bytes reaches two registers") {
  Port port;
  write_as<uint16_t>(port.serial, kMcr - 1, 0x0b03);
  CHECK(port.in(kLcr) == 0x03);
  CHECK(port.in(kMcr) == 0x0b);
  CHECK(read_as<uint16_t>(port.serial, kLcr) == 0x0b03);
}

TEST_CASE("Linux finds a 16550A: the steps of its autoconfig") {
  Port port;
  port.out(kIer, 0x00);
  CHECK((port.in(kIer)&0x0f) == 0x00);
  port.out(kIer, 0x0f);
  CHECK((port.in(kIer)&0x0f) == 0x0f);
  port.out(kIer, 0x00);
  port.out(kMcr, 0x1a);  // loopback: RTS and OUT2 show as CTS and DCD
  CHECK((port.in(kMsr)&0xf0) == 0x90);
  port.out(kMcr, 0x00);
  port.out(kLcr, 0xbf);  // no enhanced registers behind this key
  port.out(kFcr, 0x00);
  port.out(kLcr, 0x00);
  port.out(kFcr, 0x01);
  CHECK(port.in(kIir) >> 6 == 3);
  port.out(kLcr, 0x80);
  CHECK(port.in(kIir) != 0);
  port.out(kLcr, 0xbf);
  CHECK(port.in(kIir) != 0);
  port.out(kLcr, 0x00);
  port.out(kFcr, 0x21);  // no 64-byte FIFO of a TI16750
  CHECK(port.in(kIir) >> 5 == 6);
  port.out(kIer, 0x40);  // no UART unit enable of an XScale
  CHECK((port.in(kIer)&0x40) == 0);
}

TEST_CASE("Linux finds no transmit bugs: the interrupt comes each time it is enabled") {
  Port port;
  port.out(kIer, 0x02);
  CHECK(port.in(kLsr) == 0x60);
  CHECK(port.in(kIir) == 0x02);
  port.out(kIer, 0x00);
  port.out(kIer, 0x02);
  CHECK(port.in(kIir) == 0x02);
}

TEST_CASE("the transmit interrupt ends when it is identified and comes back after a byte") {
  Port port;
  port.out(kIer, 0x02);
  CHECK(port.irq.levels == std::vector<bool>{true});
  CHECK(port.in(kIir) == 0x02);
  CHECK(port.irq.levels == std::vector<bool>{true, false});
  CHECK(port.in(kIir) == 0x01);
  port.out(kData, 'a');
  port.out(kData, 'b');
  CHECK(port.irq.levels == std::vector<bool>{true, false, true});
  port.out(kIer, 0x00);
  CHECK_FALSE(port.irq.level());
}

TEST_CASE("a peer without room keeps the transmitter full until it has some") {
  Port port;
  port.out(kIer, 0x02);
  CHECK(port.in(kIir) == 0x02);
  port.peer.room = false;
  port.out(kData, 'x');
  CHECK(port.peer.sent == "x");  // the place in the FIFO that was promised
  CHECK(port.in(kLsr) == 0x00);
  CHECK(port.in(kIir) == 0x01);
  port.serial.room_again();  // a mistake of the peer's: there is none
  CHECK_FALSE(port.irq.level());
  port.peer.room = true;
  port.serial.room_again();
  CHECK(port.irq.level());
  CHECK(port.in(kLsr) == 0x60);
  CHECK(port.in(kIir) == 0x02);
}

TEST_CASE("room that was never missed is no interrupt") {
  Port port;
  port.out(kIer, 0x02);
  CHECK(port.in(kIir) == 0x02);
  port.serial.room_again();
  CHECK(port.in(kIir) == 0x01);
}

TEST_CASE("a received byte is ready, interrupts, and is gone once read") {
  Port port;
  port.out(kFcr, 0x01);
  port.out(kIer, 0x01);
  CHECK(port.receive("q") == 1);
  CHECK(port.irq.level());
  CHECK(port.in(kLsr) == 0x61);
  CHECK(port.in(kIir) == 0xc4);
  CHECK(port.in(kData) == 'q');
  CHECK_FALSE(port.irq.level());
  CHECK(port.in(kLsr) == 0x60);
  CHECK(port.in(kIir) == 0xc1);
  CHECK(port.in(kData) == 0);
}

TEST_CASE("fewer bytes than the trigger level are told of as a timeout") {
  Port port;
  port.out(kFcr, 0x81);  // 8 bytes
  port.out(kIer, 0x01);
  port.receive("1234567");
  CHECK(port.in(kIir) == 0xcc);
  port.receive("8");
  CHECK(port.in(kIir) == 0xc4);
}

TEST_CASE("the receive FIFO takes 16 bytes, or one where it is off, and asks when it is empty") {
  Port port;
  CHECK(port.receive("abc") == 1);
  CHECK(port.in(kData) == 'a');
  CHECK(port.peer.asked == 1);
  port.out(kFcr, 0x01);
  CHECK(port.receive("0123456789abcdefgh") == 16);
  CHECK(port.in(kData) == '0');
  CHECK(port.peer.asked == 1);
  for (int i = 0; i < 15; ++i) port.in(kData);
  CHECK(port.peer.asked == 2);
  CHECK(port.receive("gh") == 2);
  port.in(kData);
  port.in(kData);
  CHECK(port.peer.asked == 2);  // nothing was left behind
}

TEST_CASE("clearing the receive FIFO drops what is in it and asks for more") {
  Port port;
  port.out(kFcr, 0x01);
  port.receive("0123456789abcdefgh");
  port.out(kFcr, 0x03);
  CHECK(port.in(kLsr) == 0x60);
  CHECK(port.peer.asked == 1);
}

TEST_CASE("reception has priority over transmission") {
  Port port;
  port.out(kIer, 0x03);
  port.receive("r");
  CHECK(port.in(kIir) == 0x04);
  CHECK(port.in(kData) == 'r');
  CHECK(port.in(kIir) == 0x02);
  CHECK(port.in(kIir) == 0x01);
}

TEST_CASE("loopback returns what is sent, cuts the wire, and overruns are told once") {
  Port port;
  port.out(kMcr, 0x10);
  port.out(kIer, 0x04);
  port.out(kData, 'l');
  CHECK(port.peer.sent.empty());
  CHECK(port.receive("x") == 0);
  port.out(kData, 'm');  // without FIFOs there is one place
  CHECK(port.in(kIir) == 0x06);
  CHECK(port.in(kLsr) == 0x63);
  CHECK(port.in(kLsr) == 0x61);
  CHECK(port.in(kData) == 'l');
  CHECK(port.peer.asked == 0);
  port.out(kMcr, 0x00);
  CHECK(port.peer.asked == 1);
}

TEST_CASE("loopback wires each modem control to its modem status") {
  Port port;
  port.out(kMcr, 0x11);
  CHECK(port.in(kMsr) == 0x20);
  port.out(kMcr, 0x12);
  CHECK(port.in(kMsr) == 0x10);
  port.out(kMcr, 0x14);
  CHECK(port.in(kMsr) == 0x40);
  port.out(kMcr, 0x18);
  CHECK(port.in(kMsr) == 0x80);
}

}  // namespace
}  // namespace ringlet
