// Interrupt handlers, waiting for interrupts, and calling a function in ring 0 from ring 3.
#pragma once

#include <cstdint>
#include <type_traits>

namespace guest {

// What the stubs of interrupts.S push: the interrupted registers, then what the processor pushed.
struct InterruptFrame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
  uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
  uint64_t vector, error_code;
  uint64_t rip, cs, rflags, rsp, ss;
};

// Fills the interrupt table. Called once, before the guest's own code.
void set_up_interrupts();

// Runs in ring 0 with interrupts off, so keep it short. The end of interrupt is sent after it.
using InterruptHandler = void (*)(uint8_t vector);
void set_handler(uint8_t vector, InterruptHandler handler);

// A count that interrupt handlers raise and ring 3 waits for.
class InterruptCount {
 public:
  void raise() { __atomic_fetch_add(&count_, 1, __ATOMIC_SEQ_CST); }
  uint32_t value() const { return __atomic_load_n(&count_, __ATOMIC_SEQ_CST); }

 private:
  uint32_t count_ = 0;
};

// Halts until `count` differs from `seen`.
void halt_until_raised(const InterruptCount& count, uint32_t seen);

// The same, but fails the run when that takes more than half a minute. Takes the APIC's timer.
void wait_for_interrupt(const InterruptCount& count, uint32_t seen, const char* what);

// Halts for good, with interrupts off.
void halt_forever();

// The gate itself: runs function(argument) in ring 0 with interrupts off.
using Ring0Function = void (*)(void*);
inline void call_in_ring0(Ring0Function function, void* argument) {
  asm volatile("ud2" : : "a"(function), "D"(argument) : "memory", "cc");
}

// Runs a callable in ring 0 and hands its result back.
template <typename F>
auto in_ring0(F&& callable) {
  using Result = std::invoke_result_t<F&>;
  if constexpr (std::is_void_v<Result>) {
    call_in_ring0([](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); }, &callable);
  } else {
    struct Call {
      std::remove_reference_t<F>* callable;
      Result result;
    } call{&callable, {}};
    call_in_ring0(
        [](void* p) {
          auto* c = static_cast<Call*>(p);
          c->result = (*c->callable)();
        },
        &call);
    return call.result;
  }
}

inline uint64_t read_msr_ring0(uint32_t msr) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
  return uint64_t{high} << 32 | low;
}

inline void write_msr_ring0(uint32_t msr, uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(msr), "a"(static_cast<uint32_t>(value)),
                 "d"(static_cast<uint32_t>(value >> 32))
               : "memory");
}

}  // namespace guest
