// Serial port tests of the legacy guest: a 16550 at 0x3f8 with interrupt 4, polled and by
// interrupt.
#include "legacy.h"
#include "lib/apic.h"
#include "lib/guest.h"
#include "lib/interrupts.h"
#include "lib/io.h"

namespace guest {
namespace {

// Registers of a 16550: offsets from the base. With DLAB set, 0 and 1 hold the divisor.
constexpr uint16_t kBase = 0x3f8;
constexpr uint16_t kData = kBase + 0;
constexpr uint16_t kInterruptEnable = kBase + 1;
constexpr uint16_t kInterruptId = kBase + 2;  // reads
constexpr uint16_t kFifoControl = kBase + 2;  // writes
constexpr uint16_t kLineControl = kBase + 3;
constexpr uint16_t kModemControl = kBase + 4;
constexpr uint16_t kLineStatus = kBase + 5;
constexpr uint16_t kModemStatus = kBase + 6;
constexpr uint16_t kScratch = kBase + 7;

constexpr uint8_t kEnableReceived = 1 << 0;
constexpr uint8_t kEnableEmpty = 1 << 1;
constexpr uint8_t kNoInterruptPending = 0x01;
constexpr uint8_t kIdMask = 0x0f;
constexpr uint8_t kIdEmpty = 0x02;
constexpr uint8_t kIdReceived = 0x04;
constexpr uint8_t kIdTimeout = 0x0c;
constexpr uint8_t kFifosEnabled = 0xc0;
constexpr uint8_t kFifoEnable = 0x07;  // and clear both
constexpr uint8_t kDivisorLatch = 0x80;
constexpr uint8_t k8n1 = 0x03;
constexpr uint8_t kLoopback = 0x10;
constexpr uint8_t kDtrRtsOut2 = 0x0b;  // OUT2 gates the interrupt on a PC
constexpr uint8_t kDataReady = 1 << 0;
constexpr uint8_t kTransmitterEmpty = 1 << 5;

constexpr uint32_t kIrq = 4;
constexpr uint8_t kVector = 0x64;
constexpr size_t kInputBytes = 4096;

uint8_t in(uint16_t port) {
  return port_in<uint8_t>(port);
}
void out(uint16_t port, uint8_t value) {
  port_out<uint8_t>(port, value);
}

void wait_for_status(uint8_t bit) {
  const Deadline deadline;
  while ((in(kLineStatus)&bit) == 0) {
    expect(!deadline.passed(), "line status stays {}", hex(in(kLineStatus)));
    cpu_relax();
  }
}

void set_up(uint8_t interrupts) {
  out(kLineControl, kDivisorLatch | k8n1);
  out(kData, 1);
  out(kInterruptEnable, 0);
  expect(in(kData) == 1 && in(kInterruptEnable) == 0, "the divisor does not read back");
  out(kLineControl, k8n1);
  expect(in(kLineControl) == k8n1, "line control does not read back");
  out(kFifoControl, kFifoEnable);
  expect((in(kInterruptId)&kFifosEnabled) == kFifosEnabled, "no FIFOs: interrupt id {}",
         hex(in(kInterruptId)));
  out(kModemControl, kDtrRtsOut2);
  out(kInterruptEnable, interrupts);
}

// In loopback what is sent comes back, and the modem lines show the modem control.
void test_loopback() {
  out(kModemControl, kLoopback);
  for (const uint8_t byte : {uint8_t{0x00}, uint8_t{0x55}, uint8_t{0xff}}) {
    wait_for_status(kTransmitterEmpty);
    out(kData, byte);
    wait_for_status(kDataReady);
    const uint8_t back = in(kData);
    expect(back == byte, "loopback of {} gives {}", hex(byte), hex(back));
    expect((in(kLineStatus)&kDataReady) == 0, "data stays ready after it was read");
  }
  // Modem control bit to modem status bit: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
  constexpr uint8_t kWires[][2] = {{0x01, 0x20}, {0x02, 0x10}, {0x04, 0x40}, {0x08, 0x80}};
  for (const auto& [control, status] : kWires) {
    out(kModemControl, static_cast<uint8_t>(kLoopback | control));
    const uint8_t got = in(kModemStatus)&0xf0;
    expect(got == status, "modem control {} shows as status {}", hex(control), hex(got));
  }
  out(kModemControl, kDtrRtsOut2);
}

void send(Text text) {
  for (size_t i = 0; i < text.size; ++i) {
    wait_for_status(kTransmitterEmpty);
    out(kData, static_cast<uint8_t>(text.data[i]));
  }
}

// State of the interrupt-driven port, shared with its handler.
struct SerialPort {
  Text to_send;
  size_t sent = 0;
  char input[kInputBytes] = {};  // a ring: bytes received but not yet read
  size_t received = 0;
  size_t read = 0;
  InterruptCount events;
};
constinit SerialPort port{};

void send_next_bytes() {
  constexpr size_t kFifoBytes = 16;
  for (size_t i = 0; i < kFifoBytes && port.sent < port.to_send.size; ++i) {
    out(kData, static_cast<uint8_t>(port.to_send.data[port.sent++]));
  }
  if (port.sent == port.to_send.size) {
    out(kInterruptEnable, kEnableReceived);
  }
}

void receive_bytes() {
  while ((in(kLineStatus)&kDataReady) != 0) {
    expect(port.received - port.read < kInputBytes, "too much serial input");
    port.input[port.received % kInputBytes] = static_cast<char>(in(kData));
    __atomic_store_n(&port.received, port.received + 1, __ATOMIC_SEQ_CST);
  }
}

// The line is edge-triggered: causes are served until none is left, or no new edge would come.
void on_serial(uint8_t) {
  for (int i = 0; i < 64; ++i) {
    const uint8_t id = in(kInterruptId);
    if ((id & kNoInterruptPending) != 0) {
      break;
    }
    switch (id & kIdMask) {
      case kIdEmpty: send_next_bytes(); break;
      case kIdReceived:
      case kIdTimeout: receive_bytes(); break;
      default: fail("serial interrupt id {}", hex(id));
    }
  }
  port.events.raise();
}

void send_by_interrupt(Text text) {
  port.to_send = text;
  port.sent = 0;
  // The transmitter is empty, so enabling its interrupt raises it.
  out(kInterruptEnable, kEnableReceived | kEnableEmpty);
  for (;;) {
    const uint32_t seen = port.events.value();
    if (__atomic_load_n(&port.sent, __ATOMIC_SEQ_CST) == text.size) {
      return;
    }
    wait_for_interrupt(port.events, seen, "serial interrupt");
  }
}

char receive_byte() {
  for (;;) {
    const uint32_t seen = port.events.value();
    if (__atomic_load_n(&port.received, __ATOMIC_SEQ_CST) != port.read) {
      return port.input[port.read++ % kInputBytes];
    }
    wait_for_interrupt(port.events, seen, "serial input");
  }
}

Text receive_line(Span<char> line) {
  size_t size = 0;
  for (;;) {
    const char c = receive_byte();
    if (c == '\n' || size == line.size) {
      return {line.data, size};
    }
    line[size++] = c;
  }
}

}  // namespace

void serial_polled() {
  out(kScratch, 0xa5);
  expect(in(kScratch) == 0xa5, "the scratch register does not hold a value");
  set_up(0);
  test_loopback();
  expect((in(kInterruptId)&kNoInterruptPending) != 0, "an interrupt is pending");
  send("serial: polled\n");
  print("serial: registers ok\n");
}

void serial_interrupts() {
  set_up(0);
  set_handler(kVector, on_serial);
  apic::route_pin(kIrq, kVector, apic::Trigger::Edge);
  out(kInterruptEnable, kEnableReceived);
  send_by_interrupt("serial: a line longer than the FIFO, sent by interrupts\n");
  print("serial: sent by interrupts\n");
  for (;;) {
    static char line[256];
    const Text text = receive_line(line);
    print("serial: received {}\n", text);
    if (text == "quit") {
      break;
    }
    send_by_interrupt("echo: ");
    send_by_interrupt(text);
    send_by_interrupt("\n");
  }
}

void serial_flood() {
  static char block[4096];
  memset(block, 'x', sizeof(block));
  for (uint64_t left = option_number("bytes", 160 << 10); left > 0;) {
    const uint64_t size = left < sizeof(block) ? left : sizeof(block);
    left -= size;
    // In ring 0 a string instruction leaves the guest once, not for each byte.
    in_ring0([size] {
      const char* from = block;
      uint64_t count = size;
      asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(kData) : "memory");
    });
  }
}

}  // namespace guest
