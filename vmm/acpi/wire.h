// The fixed-form ACPI tables, byte for byte. Defaults are what this machine always says; what
// tables.cc fills in has none of its own. Clauses are those of ACPI 6.5.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kvm/wire.h"
#include "vmm/layout.h"

namespace ringlet::acpi {

struct Header {  // 5.2.6; length and checksum are set when the table is finished
  std::array<char, 4> signature;
  le32 length{};
  uint8_t revision;
  uint8_t checksum = 0;
  std::array<char, 6> oem_id{'R', 'I', 'N', 'G', 'L', 'T'};
  std::array<char, 8> oem_table_id{'R', 'I', 'N', 'G', 'L', 'E', 'T', ' '};
  le32 oem_revision{1u};
  std::array<char, 4> creator_id{'R', 'N', 'G', 'L'};
  le32 creator_revision{1u};
};
static_assert(sizeof(Header) == 36);

struct PortRegister {  // 5.2.3.2, Generic Address Structure; here always in port space
  uint8_t address_space = 1;
  uint8_t bit_width = 0;
  uint8_t bit_offset = 0;
  uint8_t access_size = 0;
  le64 address{};
};
static_assert(sizeof(PortRegister) == 12);

inline constexpr uint8_t kByteAccess = 1;
inline constexpr uint8_t kWordAccess = 2;

constexpr PortRegister port_register(AddrRange ports, uint8_t access_size) {
  return {.bit_width = static_cast<uint8_t>(ports.size * 8),
          .access_size = access_size,
          .address = ports.base};
}

// A register that does not exist is all zero.
inline constexpr PortRegister kAbsent{.address_space = 0};

struct Rsdp {  // 5.2.5.3
  std::array<char, 8> signature{'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;  // of the first 20 bytes
  std::array<char, 6> oem_id{'R', 'I', 'N', 'G', 'L', 'T'};
  uint8_t revision = 2;
  le32 rsdt_address{};  // the XSDT has it all
  le32 length{36u};
  le64 xsdt_address{};
  uint8_t extended_checksum = 0;  // of all
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(Rsdp) == 36);
inline constexpr size_t kRsdpVersion1Size = 20;

// IAPC_BOOT_ARCH (5.2.9.3). The 8042 bit stays clear: there is no keyboard, only its reset line,
// and kernels that are told of a controller probe it for long.
inline constexpr uint16_t kBootLegacyDevices = 1u << 0;
inline constexpr uint16_t kBootVgaNotPresent = 1u << 2;
inline constexpr uint16_t kBootCmosRtcNotPresent = 1u << 5;

// Fixed feature flags (table 5.10). PWR_BUTTON (bit 4) is clear, which says that there is a fixed
// power button; SLP_BUTTON and FIX_RTC are set, which says that those are not there.
inline constexpr uint32_t kFlagWbinvd = 1u << 0;
inline constexpr uint32_t kFlagProcC1 = 1u << 2;
inline constexpr uint32_t kFlagSlpButton = 1u << 5;
inline constexpr uint32_t kFlagFixRtc = 1u << 6;
inline constexpr uint32_t kFlagResetRegSup = 1u << 10;

inline constexpr uint32_t kFadtFlags =
    kFlagWbinvd | kFlagProcC1 | kFlagSlpButton | kFlagFixRtc | kFlagResetRegSup;

struct Fadt {  // 5.2.9
  Header header{.signature = {'F', 'A', 'C', 'P'}, .revision = 6};
  le32 firmware_ctrl{};
  le32 dsdt{};
  uint8_t reserved0 = 0;
  uint8_t preferred_pm_profile = 0;  // unspecified
  le16 sci_int{static_cast<uint16_t>(kSciGsi.value())};
  le32 smi_cmd{};  // none: the machine is always in ACPI mode
  uint8_t acpi_enable = 0;
  uint8_t acpi_disable = 0;
  uint8_t s4bios_req = 0;
  uint8_t pstate_cnt = 0;
  le32 pm1a_evt_blk{static_cast<uint32_t>(kPm1EventPorts.base)};
  le32 pm1b_evt_blk{};
  le32 pm1a_cnt_blk{static_cast<uint32_t>(kPm1ControlPorts.base)};
  le32 pm1b_cnt_blk{};
  le32 pm2_cnt_blk{};
  le32 pm_tmr_blk{};
  le32 gpe0_blk{};
  le32 gpe1_blk{};
  uint8_t pm1_evt_len = static_cast<uint8_t>(kPm1EventPorts.size);
  uint8_t pm1_cnt_len = static_cast<uint8_t>(kPm1ControlPorts.size);
  uint8_t pm2_cnt_len = 0;
  uint8_t pm_tmr_len = 0;
  uint8_t gpe0_blk_len = 0;
  uint8_t gpe1_blk_len = 0;
  uint8_t gpe1_base = 0;
  uint8_t cst_cnt = 0;
  le16 p_lvl2_lat{101};   // above 100: no C2
  le16 p_lvl3_lat{1001};  // above 1000: no C3
  le16 flush_size{};
  le16 flush_stride{};
  uint8_t duty_offset = 0;
  uint8_t duty_width = 0;
  uint8_t day_alrm = 0;
  uint8_t mon_alrm = 0;
  uint8_t century = 0;
  le16 iapc_boot_arch{};
  uint8_t reserved1 = 0;
  le32 flags{kFadtFlags};
  PortRegister reset_reg = port_register(kResetPorts, kByteAccess);
  uint8_t reset_value = kResetValue;
  le16 arm_boot_arch{};
  uint8_t minor_version = 3;
  le64 x_firmware_ctrl{};  // firmware_ctrl has it; only one of the two may
  le64 x_dsdt{};
  PortRegister x_pm1a_evt_blk = port_register(kPm1EventPorts, kWordAccess);
  PortRegister x_pm1b_evt_blk = kAbsent;
  PortRegister x_pm1a_cnt_blk = port_register(kPm1ControlPorts, kWordAccess);
  PortRegister x_pm1b_cnt_blk = kAbsent;
  PortRegister x_pm2_cnt_blk = kAbsent;
  PortRegister x_pm_tmr_blk = kAbsent;
  PortRegister x_gpe0_blk = kAbsent;
  PortRegister x_gpe1_blk = kAbsent;
  PortRegister sleep_control_reg = kAbsent;
  PortRegister sleep_status_reg = kAbsent;
  std::array<char, 8> hypervisor_vendor{'R', 'I', 'N', 'G', 'L', 'E', 'T', '\0'};
};
static_assert(sizeof(Fadt) == 276);
static_assert(offsetof(Fadt, iapc_boot_arch) == 109);
static_assert(offsetof(Fadt, x_dsdt) == 140);

inline constexpr size_t kTableAlign = 64;  // what the FACS wants; the others want less

struct Facs {  // 5.2.10; no header, no checksum, and the guest may write to it
  std::array<char, 4> signature{'F', 'A', 'C', 'S'};
  le32 length{64u};
  le32 hardware_signature{};
  le32 firmware_waking_vector{};
  le32 global_lock{};
  le32 flags{};
  le64 x_firmware_waking_vector{};
  uint8_t version = 2;
  std::array<uint8_t, 3> reserved0{};
  le32 ospm_flags{};
  std::array<uint8_t, 24> reserved1{};
};
static_assert(sizeof(Facs) == 64);

struct Madt {  // 5.2.12
  Header header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
  le32 local_apic_address{static_cast<uint32_t>(kLocalApic.base)};
  le32 flags{1u};  // PCAT_COMPAT: there is a pair of 8259s too
};
static_assert(sizeof(Madt) == 44);

struct MadtLocalApic {  // 5.2.12.2
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t processor_uid;
  uint8_t apic_id;
  le32 flags{1u};  // enabled
};
static_assert(sizeof(MadtLocalApic) == 8);

struct MadtIoApic {  // 5.2.12.3
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id = 0;  // what KVM's IOAPIC has in its ID register
  uint8_t reserved = 0;
  le32 address{static_cast<uint32_t>(kIoApic.base)};
  le32 gsi_base{};
};
static_assert(sizeof(MadtIoApic) == 12);

struct MadtSourceOverride {  // 5.2.12.5
  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // ISA
  uint8_t source;
  le32 gsi;
  le16 flags{};  // as the bus has it: edge, active high
};
static_assert(sizeof(MadtSourceOverride) == 10);
inline constexpr uint16_t kLevelActiveHigh = 0x000d;

struct MadtLocalApicNmi {  // 5.2.12.7
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t processor_uid = 0xff;  // all
  le16 flags{};
  uint8_t lint = 1;
};
static_assert(sizeof(MadtLocalApicNmi) == 6);

struct MadtLocalX2Apic {  // 5.2.12.12
  uint8_t type = 9;
  uint8_t length = 16;
  le16 reserved{};
  le32 apic_id;
  le32 flags{1u};  // enabled
  le32 processor_uid;
};
static_assert(sizeof(MadtLocalX2Apic) == 16);

struct MadtLocalX2ApicNmi {  // 5.2.12.13
  uint8_t type = 10;
  uint8_t length = 12;
  le16 flags{};
  le32 processor_uid{0xffff'ffffu};  // all
  uint8_t lint = 1;
  std::array<uint8_t, 3> reserved{};
};
static_assert(sizeof(MadtLocalX2ApicNmi) == 12);

struct Mcfg {  // PCI Firmware 3.3, 4.1.2, with its one allocation
  Header header{.signature = {'M', 'C', 'F', 'G'}, .revision = 1};
  le64 reserved0{};
  le64 base_address{kEcam.base};
  le16 segment{};
  uint8_t first_bus = 0;
  uint8_t last_bus = 0;
  le32 reserved1{};
};
static_assert(sizeof(Mcfg) == 60);

}  // namespace ringlet::acpi
