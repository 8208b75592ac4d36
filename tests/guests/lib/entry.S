// From any entry point to C++ code in ring 3, and the tables of the processor.
//
// Ring 0 is kept short on purpose: some hypervisors emulate it an instruction at a time. So the
// page tables and the task state segment are laid out by the assembler, and the interrupt table is
// filled in later by ring 3 code, which may write it like all other memory.

#include "lib/entry.h"

#define RFLAGS_IOPL3_IF 0x3202

#define PAGE_USER_TABLE 0x07             /* present, writable, user */
#define PAGE_USER_2M 0x87                /* the same, and a 2 MiB page */
#define PAGE_USER_2M_UNCACHED 0x97

  .text
  .code64
// Ring 0, 64-bit, our page tables and GDT loaded. rdi: start info, rsi: boot_params.
  .globl enter_ring3
enter_ring3:
  mov $task_state, %eax                  // the descriptor's base is cut in three
  mov %ax, gdt + TASK_STATE + 2
  shr $16, %eax
  mov %al, gdt + TASK_STATE + 4
  mov %ah, gdt + TASK_STATE + 7
  xor %eax, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  mov $KERNEL_DATA, %eax
  mov %eax, %ss
  mov $TASK_STATE, %eax
  ltr %ax
  lidt idt_pointer
  mov $ring0_stack_top, %esp
  push $USER_DATA
  push $ring3_stack_top
  push $RFLAGS_IOPL3_IF
  push $USER_CODE
  push $ring3_entry
  iretq

// Ring 3. A bzImage is loaded without its .bss, so that must be cleared here.
ring3_entry:
  test %rsi, %rsi
  jz 1f
  mov %rdi, %rbx
  mov $bss_start, %edi
  mov $image_end, %ecx
  sub %edi, %ecx
  xor %eax, %eax
  rep stosb
  mov %rbx, %rdi
1:
  call guest_start                       // the stack is aligned as the ABI wants it
  ud2

  .data
  .align 8
// Numbered as Linux does, since hypervisors without hardware support may care.
  .globl gdt
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff               // 0x08 ring 0, 32-bit code
  .quad 0x00af9b000000ffff               // 0x10 ring 0, 64-bit code
  .quad 0x00cf93000000ffff               // 0x18 ring 0, data
  .quad 0x00cffb000000ffff               // 0x20 ring 3, 32-bit code
  .quad 0x00cff3000000ffff               // 0x28 ring 3, data
  .quad 0x00affb000000ffff               // 0x30 ring 3, 64-bit code
  .quad 0
  .quad 0x0000890000000000 + (task_state_end - task_state - 1)  // 0x40 TSS, base set at entry
  .quad 0
  .if . - gdt - 1 - GDT_LIMIT
  .error "GDT_LIMIT is not the limit of the GDT"
  .endif

  .globl gdt_pointer
gdt_pointer:
  .word GDT_LIMIT
  .quad gdt

  .globl idt_pointer
idt_pointer:
  .word 256 * 16 - 1
  .quad idt

// The task state: the stack for interrupts from ring 3, and a bitmap that opens every port.
  .align 16
task_state:
  .long 0
  .quad ring0_stack_top
  .fill 90, 1, 0
  .word io_bitmap - task_state
io_bitmap:
  .fill 8192, 1, 0
  .byte 0xff
task_state_end:

// Identity map of the first 4 GiB by 2 MiB pages, open to ring 3. memory.cc adds what lies above.
  .align 4096
  .globl page_map
page_map:
  .quad page_directory_pointers + PAGE_USER_TABLE
  .fill 511, 8, 0
page_directory_pointers:
  .set index, 0
  .rept 4
  .quad page_directories + index * 4096 + PAGE_USER_TABLE
  .set index, index + 1
  .endr
  .fill 508, 8, 0
page_directories:
  .set index, 0
  .rept 1536
  .quad index * 0x200000 + PAGE_USER_2M
  .set index, index + 1
  .endr
  .rept 512                              // the last GiB holds devices
  .quad index * 0x200000 + PAGE_USER_2M_UNCACHED
  .set index, index + 1
  .endr

  .bss
  .align 4096
  .globl idt
idt:
  .fill 4096, 1, 0
  .fill 16384, 1, 0
  .globl ring0_stack_top
ring0_stack_top:
  .fill 65536, 1, 0
ring3_stack_top:
  .section .note.GNU-stack, "", @progbits
