// Interrupt handlers, waiting for interrupts, and calling a function in ring 0 from ring 3.
#include "lib/interrupts.h"

#include "lib/apic.h"
#include "lib/console.h"

namespace guest {
namespace {

constexpr uint64_t kInvalidOpcode = 6;
constexpr uint64_t kFirstInterrupt = 32;
constexpr uint16_t kUd2 = 0x0b0f;
constexpr uint16_t kRing0Code = 0x10;
constexpr uint16_t kInterruptGate = 0x8e00;
constexpr uint64_t kStubBytes = 16;

struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint16_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

InterruptHandler handlers[256];

}  // namespace

extern "C" {
extern Gate idt[256];
extern const char interrupt_stubs[];
void dispatch_interrupt(InterruptFrame* frame);
}

void set_up_interrupts() {
  for (uint64_t vector = 0; vector < 256; ++vector) {
    const uint64_t stub = reinterpret_cast<uint64_t>(interrupt_stubs) + vector * kStubBytes;
    idt[vector] = {.offset_low = static_cast<uint16_t>(stub),
                   .selector = kRing0Code,
                   .type = kInterruptGate,
                   .offset_middle = static_cast<uint16_t>(stub >> 16),
                   .offset_high = static_cast<uint32_t>(stub >> 32),
                   .reserved = 0};
  }
}

void set_handler(uint8_t vector, InterruptHandler handler) {
  handlers[vector] = handler;
}

void dispatch_interrupt(InterruptFrame* frame) {
  if (frame->vector == kInvalidOpcode && *reinterpret_cast<const uint16_t*>(frame->rip) == kUd2) {
    frame->rip += sizeof(kUd2);
    reinterpret_cast<Ring0Function>(frame->rax)(reinterpret_cast<void*>(frame->rdi));
    return;
  }
  if (frame->vector == apic::kSpuriousVector) {
    return;  // has no end of interrupt
  }
  if (frame->vector < kFirstInterrupt || handlers[frame->vector] == nullptr) {
    uint64_t cr2;
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    fail("unexpected vector {} (error {}) at rip {}, rsp {}, cs {}, cr2 {}", frame->vector,
         hex(frame->error_code), hex(frame->rip), hex(frame->rsp), hex(frame->cs), hex(cr2));
  }
  handlers[frame->vector](static_cast<uint8_t>(frame->vector));
  apic::end_of_interrupt();
}

void halt_until_raised(const InterruptCount& count, uint32_t seen) {
  in_ring0([&] {
    while (count.value() == seen) {
      asm volatile("sti; hlt; cli" : : : "memory");
    }
  });
}

void wait_for_interrupt(const InterruptCount& count, uint32_t seen, const char* what) {
  apic::start_watchdog(what);
  halt_until_raised(count, seen);
  apic::stop_watchdog();
}

void halt_forever() {
  in_ring0([] {
    for (;;) {
      asm volatile("cli; hlt" : : : "memory");
    }
  });
}

}  // namespace guest
