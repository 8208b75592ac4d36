// Composes the boot parameters, the GDT and the page tables of the 64-bit Linux boot protocol.
#include "vmm/boot/linux_params.h"

#include <asm/bootparam.h>

#include <cassert>
#include <vector>

#include "vmm/layout.h"

namespace ringlet {
namespace {

static_assert(sizeof(SetupHeader) == sizeof(setup_header));
static_assert(offsetof(SetupHeader, boot_flag) == offsetof(setup_header, boot_flag));
static_assert(offsetof(SetupHeader, magic) == offsetof(setup_header, header));
static_assert(offsetof(SetupHeader, version) == offsetof(setup_header, version));
static_assert(offsetof(SetupHeader, type_of_loader) == offsetof(setup_header, type_of_loader));
static_assert(offsetof(SetupHeader, loadflags) == offsetof(setup_header, loadflags));
static_assert(offsetof(SetupHeader, ramdisk_image) == offsetof(setup_header, ramdisk_image));
static_assert(offsetof(SetupHeader, cmd_line_ptr) == offsetof(setup_header, cmd_line_ptr));
static_assert(offsetof(SetupHeader, initrd_addr_max) == offsetof(setup_header, initrd_addr_max));
static_assert(offsetof(SetupHeader, xloadflags) == offsetof(setup_header, xloadflags));
static_assert(offsetof(SetupHeader, cmdline_size) == offsetof(setup_header, cmdline_size));
static_assert(offsetof(SetupHeader, setup_data) == offsetof(setup_header, setup_data));
static_assert(offsetof(SetupHeader, pref_address) == offsetof(setup_header, pref_address));
static_assert(offsetof(SetupHeader, init_size) == offsetof(setup_header, init_size));
static_assert(kLoadedHigh == LOADED_HIGH && kXloadKernel64 == XLF_KERNEL_64);

static_assert(sizeof(E820Entry) == sizeof(boot_e820_entry));
static_assert(sizeof(BootParams) == sizeof(boot_params));
static_assert(sizeof(BootParams::e820) == sizeof(boot_params::e820_table));
static_assert(offsetof(BootParams, acpi_rsdp_addr) == offsetof(boot_params, acpi_rsdp_addr));
static_assert(offsetof(BootParams, ext_ramdisk_image) == offsetof(boot_params, ext_ramdisk_image));
static_assert(offsetof(BootParams, e820_entries) == offsetof(boot_params, e820_entries));
static_assert(offsetof(BootParams, header) == offsetof(boot_params, hdr));
static_assert(offsetof(BootParams, header) == kSetupHeaderOffset);
static_assert(offsetof(BootParams, e820) == offsetof(boot_params, e820_table));

static_assert(sizeof(BootParams) <= kBootParams.size);

// Intel SDM vol. 3, 3.4.5 and 8.2.3. The protocol asks for flat code at 0x10 and flat data at
// 0x18; VT-x wants a task register that points somewhere.
constexpr std::array<uint64_t, 6> kBootGdt = {
    0,
    0,
    0x00af'9b00'0000'ffff,  // 0x10: 64-bit code, execute and read, accessed
    0x00cf'9300'0000'ffff,  // 0x18: data, read and write, 4 GiB, accessed
    0x0000'8b00'0000'0067,  // 0x20: busy 64-bit TSS at 0, and below
    0,                      //       the upper half of its base
};
static_assert(sizeof(kBootGdt) <= kGdt.size);

// Intel SDM vol. 3, table 4-15 and 4-17.
constexpr uint64_t kPresentWritable = 0x3;
constexpr uint64_t kLargePage = 0x80;
constexpr size_t kTableEntries = 512;
constexpr size_t kDirectories = 4;  // one for each of the first 4 GiB
static_assert((2 + kDirectories) * kTableEntries * sizeof(uint64_t) <= kPageTables.size);

constexpr uint32_t high_half(uint64_t value) {
  return static_cast<uint32_t>(value >> 32);
}
constexpr uint32_t low_half(uint64_t value) {
  return static_cast<uint32_t>(value);
}

}  // namespace

SetupHeader elf_setup_header() {
  SetupHeader header;
  header.boot_flag = kBootFlag;
  header.magic = kHeaderMagic;
  header.version = 0x020f;
  return header;
}

BootParams make_boot_params(const LinuxParams& params) {
  BootParams page;
  page.acpi_rsdp_addr = params.rsdp.value();
  page.header = params.header;
  page.header.type_of_loader = kLoaderUnknown;
  page.header.loadflags = static_cast<uint8_t>(page.header.loadflags | kLoadedHigh);
  page.header.vid_mode = kVideoModeNormal;
  page.header.setup_data = 0;
  page.header.cmd_line_ptr = low_half(params.command_line.value());
  page.ext_cmd_line_ptr = high_half(params.command_line.value());
  page.header.ramdisk_image = low_half(params.initrd.base);
  page.header.ramdisk_size = low_half(params.initrd.size);
  page.ext_ramdisk_image = high_half(params.initrd.base);
  page.ext_ramdisk_size = high_half(params.initrd.size);

  assert(params.map.size() <= page.e820.size());
  page.e820_entries = static_cast<uint8_t>(params.map.size());
  for (size_t i = 0; i < params.map.size(); ++i) {
    const MemoryMapEntry& entry = params.map[i];
    page.e820[i] = {entry.range.base, entry.range.size, static_cast<uint32_t>(entry.type)};
  }
  return page;
}

AddrRange write_boot_gdt(GuestMemory& memory) {
  const bool written = memory.write_value(GuestAddr(kGdt.base), kBootGdt);
  assert(written);
  return {kGdt.base, sizeof(kBootGdt)};
}

GuestAddr write_identity_map(GuestMemory& memory) {
  const uint64_t pml4 = kPageTables.base;
  const uint64_t pdpt = pml4 + 4 * kKiB;
  const uint64_t directories = pdpt + 4 * kKiB;

  std::vector<uint64_t> entries((2 + kDirectories) * kTableEntries);
  entries[0] = pdpt | kPresentWritable;
  for (size_t i = 0; i < kDirectories; ++i) {
    entries[kTableEntries + i] = (directories + i * 4 * kKiB) | kPresentWritable;
  }
  for (size_t i = 0; i < kDirectories * kTableEntries; ++i) {
    entries[2 * kTableEntries + i] = i * 2 * kMiB | kLargePage | kPresentWritable;
  }
  const bool written = memory.write(GuestAddr(pml4), std::as_bytes(std::span(entries)));
  assert(written);
  return GuestAddr(pml4);
}

}  // namespace ringlet
