// A minimal bzImage: setup header, then the linux64 guest as its payload. Only the 64-bit entry
// works, so the real-mode code is missing (Linux, Documentation/arch/x86/boot.rst).

#define SETUP_SECTORS 1                  /* after the boot sector */
#define LOADED_HIGH 1
#define XLF_KERNEL_64 1
#define PAYLOAD_ADDRESS 0x100000
#define INIT_SIZE 0xe00000               /* the most that guest.ld allows */

  .section .data
image:
  .org 0x1f1
  .byte SETUP_SECTORS
  .word 0                                // root_flags
  .long (payload_end - payload) / 16
  .word 0, 0xffff, 0                     // ram_size, vid_mode, root_dev
  .word 0xaa55                           // boot_flag
  .byte 0xeb, header_end - 1f            // jump over the header
1:
  .ascii "HdrS"
  .word 0x020f                           // version
  .long 0                                // realmode_swtch
  .word 0, 0                             // start_sys_seg, kernel_version
  .byte 0, LOADED_HIGH                   // type_of_loader, loadflags
  .word 0                                // setup_move_size
  .long PAYLOAD_ADDRESS                  // code32_start
  .long 0, 0, 0                          // ramdisk_image, ramdisk_size, bootsect_kludge
  .word 0                                // heap_end_ptr
  .byte 0, 0                             // ext_loader_ver, ext_loader_type
  .long 0                                // cmd_line_ptr
  .long 0x7fffffff                       // initrd_addr_max
  .long 0x1000                           // kernel_alignment
  .byte 0, 12                            // relocatable_kernel: no; min_alignment
  .word XLF_KERNEL_64
  .long 4095                             // cmdline_size
  .long 0                                // hardware_subarch
  .quad 0
  .long 0, 0                             // payload_offset, payload_length: not compressed
  .quad 0                                // setup_data
  .quad PAYLOAD_ADDRESS                  // pref_address
  .long INIT_SIZE
  .long 0, 0                             // handover_offset, kernel_info_offset
header_end:
  .byte 0xf4, 0xeb, 0xfd                 // hlt, for ever
  .org (SETUP_SECTORS + 1) * 512
payload:
  .incbin "linux64.bin"
  .balign 16                             // as the header counts
payload_end:
  .section .note.GNU-stack, "", @progbits
