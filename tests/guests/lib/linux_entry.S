// Entry by the 64-bit Linux boot protocol: long mode, rsi points to the boot parameters. An ELF
// image starts here by its entry point, a bzImage because this is at offset 0x200 of its payload.
#include "lib/entry.h"

  .section .head, "ax", @progbits
  .fill 0x200, 1, 0xf4                   // hlt, where the unsupported 32-bit entry would be
  .globl linux_start
linux_start:
  cli
  mov $0xff, %al                         // the 8259s may have been left on by firmware
  out %al, $0x21
  out %al, $0xa1
  lgdt gdt_pointer
  mov $page_map, %eax
  mov %rax, %cr3
  mov $CR4_PAE_FXSR, %eax
  mov %rax, %cr4
  mov $CR0_PROTECTED_PAGING, %eax
  mov %rax, %cr0
  xor %edi, %edi                         // no start info
  jmp enter_ring3
  .section .note.GNU-stack, "", @progbits
