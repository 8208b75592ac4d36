// Tests of interrupts and doorbells against the controllers in KVM.
#include <array>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/fd.h"
#include "tests/machine/tiny_guest.h"

// Guest code: 32-bit, loaded at TinyGuest::kCode. A vector's handler sends the vector as a message,
// ends the interrupt and starts to wait anew: IRET is not to be had where KVM emulates ring 0. Each
// handler is kHandlerSize bytes.
asm(R"(
  .pushsection .rodata
  .code32
  .macro handler vector
    .balign 0x40
    mov $\vector, %al
    out %al, $0xf4
    movl $0, 0xfee000b0           # end of interrupt
    jmp wait
  .endm
  .balign 0x40
interrupts_begin:
  lgdt 0x5f0
  lidt 0x5f8
  mov $0xff, %al                  # mask the PICs
  out %al, $0x21
  out %al, $0xa1
  movl $0x1ff, 0xfee000f0         # switch the local APIC on
  movl $0x30, 0xfec00000          # the IOAPIC's pin 16: vector 0x51, level, active low
  movl $0xa051, 0xfec00010
  movl $0x18, 0xfec00000          # pin 4: vector 0x52, edge
  movl $0x52, 0xfec00010
  mov $0, %al
  out %al, $0xf4
wait:
  mov $0x8000, %esp
  sti
1: hlt
  jmp 1b
  .balign 0x40
handlers:
  handler 0x41
  handler 0x42
  handler 0x51
  handler 0x52
interrupts_end:

doorbells_begin:
  mov $0xd0000000, %edi
  mov %al, (%edi)
  mov %ax, (%edi)
  mov %eax, (%edi)
  mov %eax, 4(%edi)               # a neighbour
  out %al, $0xf4
doorbells_end:
  .code64
  .popsection
)");

extern "C" {
extern const uint8_t interrupts_begin[], handlers[], interrupts_end[];
extern const uint8_t doorbells_begin[], doorbells_end[];
}

namespace ringlet {
namespace {

constexpr uint64_t kGdt = 0x500;
constexpr uint64_t kTablePointers = 0x5f0;
constexpr uint64_t kIdt = 0x600;
constexpr uint64_t kHandlerSize = 0x40;

struct [[gnu::packed]] TablePointer {
  uint16_t limit;
  uint32_t base;
  uint16_t padding;
};

/// A guest that waits for interrupts, with flat segments and a gate for each handler.
class InterruptGuest : public TinyGuest {
 public:
  InterruptGuest() : TinyGuest({interrupts_begin, interrupts_end}) {
    store(kGdt, std::array<uint64_t, 4>{0, 0, 0x00cf'9b00'0000'ffff, 0x00cf'9300'0000'ffff});
    store(kTablePointers, std::array{TablePointer{31, kGdt, 0}, TablePointer{0x7ff, kIdt, 0}});
    set_gate(0x41, 0);
    set_gate(0x42, 1);
    set_gate(0x51, 2);
    set_gate(0x52, 3);
  }

 private:
  template <typename T>
  void store(uint64_t at, const T& value) {
    REQUIRE(memory.write_value(GuestAddr(at), value));
  }
  /// A 32-bit interrupt gate to the `index`th handler.
  void set_gate(uint64_t vector, uint64_t index) {
    const auto first = static_cast<uint64_t>(handlers - interrupts_begin);
    const uint64_t address = kCode + first + index * kHandlerSize;
    store(kIdt + 8 * vector, uint64_t{0x0000'8e00'0010'0000} | address);
  }
};

constexpr MsiMessage message(uint32_t vector) {
  return {.address = 0xfee0'0000, .data = vector};
}

void signal(int eventfd) {
  const uint64_t one = 1;
  REQUIRE(::write(eventfd, &one, sizeof one) == sizeof one);
}

TEST_CASE("a write to an attached vector's eventfd delivers its message") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto vector = guest.irqs.make_msi();
  REQUIRE(vector->attach(message(0x41)));
  signal(vector->fd());
  CHECK(guest.next_message() == 0x41);
  CHECK_FALSE(vector->pending());
  signal(vector->fd());
  CHECK(guest.next_message() == 0x41);
}

TEST_CASE("a detached vector stays pending and is delivered when attached again") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto masked = guest.irqs.make_msi();
  const auto other = guest.irqs.make_msi();
  REQUIRE(masked->attach(message(0x42)));
  REQUIRE(other->attach(message(0x41)));
  masked->detach();
  signal(masked->fd());
  signal(other->fd());
  // The masked vector is of higher priority: had it been delivered, it would come first.
  CHECK(guest.next_message() == 0x41);
  CHECK(masked->pending());
  REQUIRE(masked->attach(message(0x42)));
  CHECK(guest.next_message() == 0x42);
  CHECK_FALSE(masked->pending());
  // Delivered once, not once for each attach.
  masked->detach();
  REQUIRE(masked->attach(message(0x42)));
  signal(other->fd());
  CHECK(guest.next_message() == 0x41);
}

TEST_CASE("a vector that was cleared while detached delivers nothing when attached") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto cleared = guest.irqs.make_msi();
  const auto other = guest.irqs.make_msi();
  signal(cleared->fd());
  CHECK(cleared->pending());
  cleared->clear();
  CHECK_FALSE(cleared->pending());
  REQUIRE(cleared->attach(message(0x42)));
  REQUIRE(other->attach(message(0x41)));
  signal(other->fd());
  CHECK(guest.next_message() == 0x41);
}

TEST_CASE("attaching with another message changes what is delivered") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto vector = guest.irqs.make_msi();
  REQUIRE(vector->attach(message(0x41)));
  REQUIRE(vector->attach(message(0x42)));
  signal(vector->fd());
  CHECK(guest.next_message() == 0x42);
}

TEST_CASE("the route of a vector that is gone serves the next one") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  auto first = guest.irqs.make_msi();
  REQUIRE(first->attach(message(0x41)));
  first.reset();
  const auto second = guest.irqs.make_msi();
  REQUIRE(second->attach(message(0x42)));
  signal(second->fd());
  CHECK(guest.next_message() == 0x42);
}

TEST_CASE("a level line is lowered by the end of interrupt and raised by the next write") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto line = guest.irqs.make_level(Gsi(16));
  const auto resampled = [&line] {
    uint64_t count = 0;
    return ::read(line->resample_fd(), &count, sizeof count) == sizeof count;
  };
  CHECK_FALSE(resampled());
  signal(line->assert_fd());
  line->connect();  // finds it raised
  CHECK(guest.next_message() == 0x51);
  // The handler ends the interrupt behind its message; the next interrupt comes after that.
  const auto other = guest.irqs.make_msi();
  REQUIRE(other->attach(message(0x41)));
  signal(other->fd());
  CHECK(guest.next_message() == 0x41);
  CHECK(resampled());
  // Nobody asserted it again, so it stays low.
  signal(other->fd());
  CHECK(guest.next_message() == 0x41);
  signal(line->assert_fd());
  CHECK(guest.next_message() == 0x51);
}

TEST_CASE("raising a wire interrupts the guest, once for each edge") {
  InterruptGuest guest;
  REQUIRE(guest.next_message() == 0);
  const auto line = guest.irqs.make_line(Gsi(4));
  const auto other = guest.irqs.make_msi();
  REQUIRE(other->attach(message(0x41)));
  line->set(true);
  CHECK(guest.next_message() == 0x52);
  line->set(true);
  signal(other->fd());
  CHECK(guest.next_message() == 0x41);
  line->set(false);
  line->set(true);
  CHECK(guest.next_message() == 0x52);
}

TEST_CASE("a doorbell takes writes of any width without an exit, and leaves its neighbour") {
  TinyGuest guest({doorbells_begin, doorbells_end});
  KvmDoorbells doorbells(guest.vm);
  const EventFd bell;
  REQUIRE(doorbells.add(GuestAddr(TinyGuest::kMmio), bell.fd()));
  CHECK(guest.next_message());
  uint64_t count = 0;
  CHECK(::read(bell.fd(), &count, sizeof count) == sizeof count);
  CHECK(count == 3);
  CHECK(guest.mmio.take() == std::vector<std::string>{"out 0xd0000004 00000000"});
}

TEST_CASE("a removed doorbell's writes reach the bus") {
  TinyGuest guest({doorbells_begin, doorbells_end});
  KvmDoorbells doorbells(guest.vm);
  const EventFd bell;
  REQUIRE(doorbells.add(GuestAddr(TinyGuest::kMmio), bell.fd()));
  doorbells.remove(GuestAddr(TinyGuest::kMmio), bell.fd());
  CHECK(guest.next_message());
  CHECK_FALSE(bell.pending());
  CHECK(guest.mmio.take().size() == 4);
}

TEST_CASE("a doorbell that KVM refuses is reported") {
  TinyGuest guest({doorbells_begin, doorbells_end});
  KvmDoorbells doorbells(guest.vm);
  const EventFd bell;
  REQUIRE(doorbells.add(GuestAddr(TinyGuest::kMmio), bell.fd()));
  CHECK_FALSE(doorbells.add(GuestAddr(TinyGuest::kMmio), bell.fd()));
}

}  // namespace
}  // namespace ringlet
