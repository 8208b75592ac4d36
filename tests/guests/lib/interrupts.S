// One stub per vector, 16 bytes apart: each makes the same frame and calls dispatch_interrupt().

#define HAS_ERROR_CODE 0x60227d00        /* bit n set: exception n pushes an error code */

  .text
  .globl interrupt_stubs
  .align 16
interrupt_stubs:
  .set vector, 0
  .rept 256
  .align 16
  .if (vector >= 32) || !((HAS_ERROR_CODE >> (vector & 31)) & 1)
  push $0
  .endif
  push $vector
  jmp save_and_dispatch
  .set vector, vector + 1
  .endr

save_and_dispatch:                       // struct InterruptFrame, from its end to its start
  push %rax
  push %rbx
  push %rcx
  push %rdx
  push %rsi
  push %rdi
  push %rbp
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, %rdi
  mov %rsp, %rbx                         // kept across the call
  and $-16, %rsp
  call dispatch_interrupt
  mov %rbx, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rbp
  pop %rdi
  pop %rsi
  pop %rdx
  pop %rcx
  pop %rbx
  pop %rax
  add $16, %rsp                          // vector and error code
  iretq
  .section .note.GNU-stack, "", @progbits
