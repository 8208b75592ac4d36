// The machine's fixed addresses, ports and interrupt numbers: one place, so that the memory map,
// the ACPI tables and the devices cannot disagree.
//
//  guest-physical memory                         low memory, before the kernel runs
//
//  2^phys_bits +---------------------------+      0x10_0000 +----------------------------+
//              |                           |                | ACPI tables, RSDP first    |
//              +---------------------------+       0xe_0000 +----------------------------+
//              | 64-bit BAR window         |                | VGA and ROMs on a PC: none |
//   window64() +---------------------------+       0x9_fc00 +----------------------------+
//              |                           |                |                            |
//    ram_end() +---------------------------+       0x3_0000 +----------------------------+
//              | RAM, the rest             |                | kernel command line        |
//        4 GiB +---------------------------+       0x2_0000 +----------------------------+
//              | 0xfffb_c000 KVM's 4 pages |                | initial stack, downwards   |
//              | 0xfee0_0000 local APICs   |         0xa000 +----------------------------+
//              | 0xfec0_0000 IOAPIC        |                | page tables                |
//              +---------------------------+         0x4000 +----------------------------+
//              | ECAM of bus 0             |                | Linux boot parameters      |
//  0xe000_0000 +---------------------------+         0x3000 +----------------------------+
//              | 32-bit BAR window         |                | PVH start info             |
//  0xc800_0000 +---------------------------+         0x2000 +----------------------------+
//              |                           |                | GDT                        |
//              | boot timer, one page      |         0x1000 +----------------------------+
//  0xc000_0000 +---------------------------+                | zero (a BIOS data area     |
//              | RAM, the first 3 GiB      |                |   that tells nothing)      |
//            0 +---------------------------+              0 +----------------------------+
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "kvm/address.h"

namespace ringlet {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// ---- Memory ------------------------------------------------------------------------------------

/// RAM fills [0, kRamLowMax) first, then goes on at kRamHighBase.
inline constexpr uint64_t kRamLowMax = 3 * kGiB;
inline constexpr uint64_t kRamHighBase = 4 * kGiB;

/// How much of `ram_bytes` lies below the hole.
constexpr uint64_t ram_low_size(uint64_t ram_bytes) {
  return std::min(ram_bytes, kRamLowMax);
}

/// First address after the last byte of RAM when the guest has `ram_bytes` of it.
constexpr uint64_t ram_end(uint64_t ram_bytes) {
  return ram_bytes <= kRamLowMax ? ram_bytes : kRamHighBase + (ram_bytes - kRamLowMax);
}

/// The boot timer's page: outside RAM, of every window and of ECAM, where Firecracker has it.
inline constexpr AddrRange kBootTimer{0xc000'0000, 4 * kKiB};
inline constexpr AddrRange kPciWindow32{0xc800'0000, 384 * kMiB};
/// Enhanced configuration access (PCI Express 6.0, 7.2.2): 1 MiB a bus, and there is bus 0 only.
inline constexpr AddrRange kEcam{0xe000'0000, 1 * kMiB};
inline constexpr AddrRange kIoApic{0xfec0'0000, 4 * kKiB};
inline constexpr AddrRange kLocalApic{0xfee0'0000, 4 * kKiB};
/// KVM keeps an identity-mapping page table and a TSS (3 pages) in the guest's address space when
/// an Intel host runs real mode without "unrestricted guest".
inline constexpr AddrRange kKvmIdentityMap{0xfffb'c000, 4 * kKiB};
inline constexpr AddrRange kKvmTss{0xfffb'd000, 12 * kKiB};

/// What the memory map must call reserved, in rising order. ECAM is here and in the DSDT: without
/// a BIOS date of 2016 or later Linux believes the MCFG at first only where the E820 agrees.
inline constexpr std::array<AddrRange, 3> kReservedMemory{{
    {0x9'fc00, 0x10'0000 - 0x9'fc00},
    kEcam,
    {kKvmIdentityMap.base, kKvmIdentityMap.size + kKvmTss.size},
}};

/// The window for 64-bit BARs, which has no fixed place.
using Window64 = AddrRange;
inline constexpr uint64_t kWindow64Align = 1 * kGiB;
inline constexpr uint64_t kWindow64Min = 4 * kGiB;
/// Enough for 31 devices with BARs of gigabytes; addresses above stay free for hotplugged memory.
inline constexpr uint64_t kWindow64Max = 256 * kGiB;

/// Places the window above RAM that ends at `ram_end_address`, inside the guest's `phys_bits`
/// physical address bits. Nothing when less than kWindow64Min is left: the guest has too much RAM.
constexpr std::optional<Window64> window64(uint64_t ram_end_address, unsigned phys_bits) {
  const uint64_t limit = uint64_t{1} << std::clamp(phys_bits, 32u, 52u);  // 52: the most there are
  const uint64_t above = std::max(ram_end_address, kRamHighBase);
  if (above > limit - kWindow64Align) return std::nullopt;
  const uint64_t base = (above + kWindow64Align - 1) / kWindow64Align * kWindow64Align;
  const uint64_t size = std::min(limit - base, kWindow64Max);
  if (size < kWindow64Min) return std::nullopt;
  return Window64{base, size};
}

// ---- Low memory: where the boot code puts what the kernel reads first ---------------------------

inline constexpr AddrRange kGdt{0x1000, 4 * kKiB};
/// PVH: hvm_start_info, its module list, the memory map.
inline constexpr AddrRange kPvhStartInfo{0x2000, 4 * kKiB};
/// 64-bit Linux protocol: struct boot_params, "the zero page".
inline constexpr AddrRange kBootParams{0x3000, 4 * kKiB};
/// PML4, PDPT and 4 page directories: the first 4 GiB by pages of 2 MiB.
inline constexpr AddrRange kPageTables{0x4000, 24 * kKiB};
/// The stack pointer that the boot protocols leave open starts here and grows down.
inline constexpr uint64_t kBootStackTop = 0x2'0000;
inline constexpr AddrRange kCommandLine{0x2'0000, 64 * kKiB};
/// The E820's lowest RAM entry ends here.
inline constexpr uint64_t kLowRamEnd = 0x9'fc00;
/// The RSDP is at its base, so a scan of the BIOS area (ACPI 6.5, 5.2.5.1) finds it at once.
inline constexpr AddrRange kAcpiTables{0xe'0000, 128 * kKiB};
/// Kernel and initrd go here or higher.
inline constexpr uint64_t kHighRam = 1 * kMiB;

// ---- Ports -------------------------------------------------------------------------------------

inline constexpr AddrRange kCmosPorts{0x70, 2};
inline constexpr uint16_t kI8042DataPort = 0x60;
inline constexpr uint16_t kI8042CommandPort = 0x64;
inline constexpr AddrRange kCom1Ports{0x3f8, 8};
inline constexpr AddrRange kPvpanicPorts{0x505, 1};
/// PM1a event block: status, then enable, 2 bytes each (ACPI 6.5, 4.8.3.1).
inline constexpr AddrRange kPm1EventPorts{0x600, 4};
inline constexpr AddrRange kPm1ControlPorts{0x604, 2};
/// Writing kResetValue here resets the machine.
inline constexpr AddrRange kResetPorts{0x608, 1};
inline constexpr uint8_t kResetValue = 1;
/// SLP_TYP of the soft-off state S5, the only sleep state there is.
inline constexpr uint8_t kSleepTypeS5 = 5;
/// Configuration mechanism 1: address at 0xcf8, data at 0xcfc (PCI 3.0, 3.2.2.3.2).
inline constexpr AddrRange kPciConfigPorts{0xcf8, 8};
/// What port BARs may be given; clear of every legacy port.
inline constexpr AddrRange kPciIoWindow{0x1000, 0xf000};
/// CMOS byte that holds the century, as the FADT says.
inline constexpr uint8_t kCmosCentury = 0x32;

// ---- Interrupts --------------------------------------------------------------------------------

/// An ISA interrupt is the GSI and the IOAPIC pin of the same number, the PIT's 0 included: so KVM
/// routes them by itself, and the MADT has no override for the timer.
inline constexpr Gsi kCom1Gsi{4};
inline constexpr Gsi kCmosGsi{8};
/// The ACPI system control interrupt: level-triggered, active high.
inline constexpr Gsi kSciGsi{9};
inline constexpr Gsi kPciIntxGsi{16};
inline constexpr unsigned kPciIntxLines = 4;
inline constexpr unsigned kPciSlots = 32;

/// The line of interrupt pin `pin` (0 is INTA#) of device `device` on bus 0: the usual swizzle.
constexpr Gsi intx_gsi(unsigned device, unsigned pin) {
  return Gsi{kPciIntxGsi.value() + (device + pin) % kPciIntxLines};
}

}  // namespace ringlet
