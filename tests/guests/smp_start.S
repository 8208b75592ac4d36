// Start of an application processor: from real mode straight to 64-bit code in ring 0.
#include "lib/entry.h"

#define AP_STACK_SHIFT 12                /* a page for each of 256 */

  .text
  .globl ap_trampoline, ap_trampoline_end

// Copied to a page below 1 MiB, whose number is the vector of the start-up IPI: cs:0 is here.
  .code16
ap_trampoline:
  cli
  mov %cs, %ax
  mov %ax, %ds
  lgdtl ap_gdt_pointer - ap_trampoline
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
  ljmpl $KERNEL_CODE, $ap_long_mode
  .align 4
ap_gdt_pointer:
  .word GDT_LIMIT
  .long gdt
ap_trampoline_end:

  .code64
ap_long_mode:
  xor %eax, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  mov $KERNEL_DATA, %eax
  mov %eax, %ss
  lidt idt_pointer
  mov $1, %edi
  lock xadd %edi, ap_count               // edi: how many came before
  lea 1(%rdi), %eax
  shl $AP_STACK_SHIFT, %eax
  lea ap_stacks(%eax), %esp
  call ap_main
  ud2

  .bss
  .align 16
  .globl ap_count
ap_count:
  .long 0
  .align 4096
ap_stacks:
  .fill 256 << AP_STACK_SHIFT, 1, 0
  .section .note.GNU-stack, "", @progbits
