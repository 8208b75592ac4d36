// What assembly code needs to enter long mode: control register values and segment selectors.
#pragma once

#define CR0_PROTECTED_PAGING 0x80000033 /* PG, NE, ET, MP, PE */
#define CR4_PAE_FXSR 0x620              /* PAE, OSFXSR, OSXMMEXCPT */
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

#define KERNEL_CODE 0x10
#define KERNEL_DATA 0x18
#define USER_DATA 0x2b
#define USER_CODE 0x33
#define TASK_STATE 0x40
#define GDT_LIMIT 0x4f
