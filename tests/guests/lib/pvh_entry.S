// PVH entry (32-bit, paging off): the note that names it, and the way to long mode.
#include "lib/entry.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18

  .section .note.pvh, "a", @note
  .align 4
  .long 2f - 1f
  .long 4f - 3f
  .long XEN_ELFNOTE_PHYS32_ENTRY
1: .asciz "Xen"
2: .align 4
3: .quad pvh_start
4: .align 4

  .text
  .code32
  .globl pvh_start
pvh_start:                               // ebx: address of the start info
  mov $0xff, %al                         // the 8259s may have been left on by firmware
  out %al, $0x21
  out %al, $0xa1
  lgdt gdt_pointer
  mov $CR4_PAE_FXSR, %eax
  mov %eax, %cr4
  mov $page_map, %eax
  mov %eax, %cr3
  mov $MSR_EFER, %ecx
  rdmsr
  or $EFER_LME, %eax
  wrmsr
  mov $CR0_PROTECTED_PAGING, %eax
  mov %eax, %cr0
  ljmp $KERNEL_CODE, $pvh_long_mode

  .code64
pvh_long_mode:
  mov %ebx, %edi                         // first argument: start info
  xor %esi, %esi                         // second argument: no boot_params
  jmp enter_ring3
  .section .note.GNU-stack, "", @progbits
