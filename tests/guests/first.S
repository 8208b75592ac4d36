// Guest: writes one byte to the serial port by its first instructions, then halts for good.
#define XEN_ELFNOTE_PHYS32_ENTRY 18

  .section .note.pvh, "a", @note
  .align 4
  .long 2f - 1f
  .long 4f - 3f
  .long XEN_ELFNOTE_PHYS32_ENTRY
1: .asciz "Xen"
2: .align 4
3: .quad first_start
4: .align 4

  .text
  .code32
  .globl first_start
first_start:
  mov $'+', %al
  mov $0x3f8, %dx
  out %al, %dx
  cli
1: hlt
  jmp 1b
  .section .note.GNU-stack, "", @progbits
