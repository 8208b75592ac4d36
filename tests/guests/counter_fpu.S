// Vector and floating-point state of the counter guest, kept in registers for the whole run: the
// C++ code of guests is built without them, so nothing else touches them.
//
//   xmm15  count of ticks        st(0)  count of ticks
//   xmm14  the constant 1        MXCSR  rounding towards zero

#define MXCSR_ROUND_TO_ZERO 0x7f80
#define CONTROL_WORD_64_BIT 0x037f

  .text
  .globl fpu_start, fpu_tick

// void fpu_start();
fpu_start:
  fninit
  push $CONTROL_WORD_64_BIT
  fldcw (%rsp)
  movl $MXCSR_ROUND_TO_ZERO, (%rsp)
  ldmxcsr (%rsp)
  fldz
  pxor %xmm15, %xmm15
  movl $1, (%rsp)
  movq (%rsp), %xmm14
  add $8, %rsp
  ret

// void fpu_tick(FpuState* state): counts on and stores what the registers hold.
fpu_tick:
  paddq %xmm14, %xmm15
  fld1
  faddp
  movq %xmm15, (%rdi)
  fld %st(0)
  fistpll 8(%rdi)
  stmxcsr 16(%rdi)
  fnstcw 20(%rdi)
  ret
  .section .note.GNU-stack, "", @progbits
