// Tests of what the loader leaves in guest memory, at the offsets that the protocols name.
#include <array>

#include <catch2/catch.hpp>

#include "tests/vmm/boot_images.h"
#include "vmm/boot/loader.h"

namespace ringlet {
namespace {

using test::boot_file;
using test::Bytes;
using test::BzImage;
using test::ElfKernel;
using test::error_of;

/// 64 MiB of RAM, or other ranges, and what is needed to boot in it.
struct Machine {
  explicit Machine(std::vector<AddrRange> ranges = {{0, 0x400'0000}}) : memory(ranges, {}) {}

  BootResult boot(const Bytes& kernel) {
    std::optional<BootFile> initrd_file;
    if (!initrd.empty()) initrd_file.emplace(boot_file(initrd, "initrd 'i'"));
    return load_kernel({boot_file(kernel), std::move(initrd_file), command_line, rsdp}, memory);
  }
  std::string boot_error(const Bytes& kernel) {
    return error_of([&] { boot(kernel); });
  }

  template <typename T>
  T at(uint64_t address) const {
    return memory.read<T>(GuestAddr(address)).value();
  }
  uint8_t u8(uint64_t address) const { return at<uint8_t>(address); }
  uint16_t u16(uint64_t address) const { return at<uint16_t>(address); }
  uint32_t u32(uint64_t address) const { return at<uint32_t>(address); }
  uint64_t u64(uint64_t address) const { return at<uint64_t>(address); }
  std::string text(uint64_t address) const { return at<std::array<char, 64>>(address).data(); }

  GuestMemory memory;
  Bytes initrd;
  std::string command_line = "console=ttyS0";
  GuestAddr rsdp{0xe'0000};
};

Bytes linux_elf() {
  ElfKernel kernel;
  kernel.remove_note();
  return kernel.build();
}

TEST_CASE("the loader copies each segment and leaves zeroes behind it") {
  Machine machine;
  const BootResult result = machine.boot(ElfKernel().build());
  CHECK(result.kernel == AddrRange{0x10'0000, 0x10'0100});
  CHECK(result.initrd == AddrRange{});
  CHECK(machine.u8(0x10'0000) == 0xaa);
  CHECK(machine.u8(0x10'02ff) == 0xaa);
  CHECK(machine.u8(0x10'0300) == 0);
  CHECK(machine.u64(0x20'0000) == 0xbbbb'bbbb'bbbb'bbbb);
  CHECK(machine.u8(0x20'00ff) == 0xbb);
  CHECK(machine.u8(0x20'0100) == 0);
}

TEST_CASE("a PVH kernel gets a start info with command line, RSDP and memory map") {
  Machine machine;
  const auto start = std::get<ProtectedModeStart>(machine.boot(ElfKernel().build()).start);
  CHECK(start.rip == GuestAddr(0x10'0010));
  CHECK(start.rbx == GuestAddr(0x2000));
  CHECK(machine.u32(0x2000) == 0x336e'c578);  // magic
  CHECK(machine.u32(0x2004) == 1);            // version
  CHECK(machine.u32(0x2008) == 0);            // flags
  CHECK(machine.u32(0x200c) == 0);            // modules
  CHECK(machine.u64(0x2010) == 0);            // module list
  CHECK(machine.text(machine.u64(0x2018)) == "console=ttyS0");
  CHECK(machine.u64(0x2020) == 0xe'0000);  // RSDP
  CHECK(machine.u32(0x2030) == 5);         // memory map entries
  const uint64_t map = machine.u64(0x2028);
  CHECK(machine.u64(map) == 0);
  CHECK(machine.u64(map + 8) == 0x9'fc00);
  CHECK(machine.u32(map + 16) == 1);
  CHECK(machine.u64(map + 24) == 0x9'fc00);
  CHECK(machine.u32(map + 40) == 2);
  CHECK(machine.u64(map + 48) == 0x10'0000);
  CHECK(machine.u64(map + 56) == 0x3f0'0000);
  CHECK(machine.u32(map + 64) == 1);
}

TEST_CASE("a PVH kernel gets any initrd as module 0, at the end of RAM") {
  Machine machine;
  machine.initrd = Bytes(0x1001, std::byte{0xdd});
  const BootResult result = machine.boot(ElfKernel().build());
  CHECK(result.initrd == AddrRange{0x3ff'e000, 0x1001});
  CHECK(machine.u32(0x200c) == 1);
  const uint64_t module = machine.u64(0x2010);
  CHECK(machine.u64(module) == 0x3ff'e000);
  CHECK(machine.u64(module + 8) == 0x1001);
  CHECK(machine.u64(module + 16) == 0);
  CHECK(machine.u8(0x3ff'e000) == 0xdd);
  CHECK(machine.u8(0x3ff'f000) == 0xdd);
  CHECK(machine.u8(0x3ff'f001) == 0);
}

TEST_CASE("a Linux ELF kernel gets boot parameters at the documented offsets") {
  Machine machine;
  machine.initrd = Bytes(0x2000, std::byte{0xdd});
  const auto start = std::get<LongModeStart>(machine.boot(linux_elf()).start);
  CHECK(start.rip == GuestAddr(0x20'0040));
  CHECK(start.rsi == GuestAddr(0x3000));
  CHECK(machine.u64(0x3070) == 0xe'0000);    // acpi_rsdp_addr
  CHECK(machine.u32(0x30c0) == 0);           // ext_ramdisk_image
  CHECK(machine.u8(0x31e8) == 5);            // e820_entries
  CHECK(machine.u8(0x31ef) == 0);            // sentinel
  CHECK(machine.u16(0x31fe) == 0xaa55);      // boot_flag
  CHECK(machine.u32(0x3202) == 0x53726448);  // "HdrS"
  CHECK(machine.u8(0x3210) == 0xff);         // type_of_loader
  CHECK(machine.u8(0x3211) == 1);            // loadflags: LOADED_HIGH
  CHECK(machine.u32(0x3218) == 0x3ff'e000);  // ramdisk_image
  CHECK(machine.u32(0x321c) == 0x2000);      // ramdisk_size
  CHECK(machine.text(machine.u32(0x3228)) == "console=ttyS0");
  CHECK(machine.u64(0x32d0) == 0);  // e820_table
  CHECK(machine.u64(0x32d8) == 0x9'fc00);
  CHECK(machine.u32(0x32e0) == 1);
  CHECK(machine.u64(0x32e4) == 0x9'fc00);
  CHECK(machine.u64(0x32ec) == 0x6'0400);
  CHECK(machine.u32(0x32f4) == 2);
}

TEST_CASE("64-bit boot comes with a GDT that has flat code at 0x10 and data at 0x18") {
  Machine machine;
  const auto start = std::get<LongModeStart>(machine.boot(linux_elf()).start);
  CHECK(start.gdt == AddrRange{0x1000, 48});
  CHECK(machine.u64(0x1000) == 0);
  CHECK(machine.u64(0x1010) == 0x00af'9b00'0000'ffff);
  CHECK(machine.u64(0x1018) == 0x00cf'9300'0000'ffff);
}

TEST_CASE("64-bit boot comes with page tables that map 4 GiB one to one") {
  Machine machine;
  const auto start = std::get<LongModeStart>(machine.boot(linux_elf()).start);
  CHECK(start.cr3 == GuestAddr(0x4000));
  CHECK(machine.u64(0x4000) == 0x5003);  // PML4
  CHECK(machine.u64(0x4008) == 0);
  CHECK(machine.u64(0x5000) == 0x6003);  // PDPT
  CHECK(machine.u64(0x5018) == 0x9003);
  CHECK(machine.u64(0x5020) == 0);
  CHECK(machine.u64(0x6000) == 0x83);  // directories of 2 MiB pages
  CHECK(machine.u64(0x6008) == 0x20'0083);
  CHECK(machine.u64(0x7000) == 0x4000'0083);
  CHECK(machine.u64(0x9ff8) == 0xffe0'0083);
}

TEST_CASE("a bzImage is loaded where it wants to be and keeps its own setup header") {
  Machine machine;
  const BootResult result = machine.boot(BzImage().build());
  const auto start = std::get<LongModeStart>(result.start);
  CHECK(result.kernel == AddrRange{0x100'0000, 0x80'0000});
  CHECK(start.rip == GuestAddr(0x100'0200));
  CHECK(machine.u8(0x100'0000) == 0xcc);
  CHECK(machine.u8(0x100'0fff) == 0xcc);
  CHECK(machine.u8(0x100'1000) == 0);
  CHECK(machine.u8(0x31ef) == 0);            // sentinel
  CHECK(machine.u8(0x31f1) == 2);            // setup_sects
  CHECK(machine.u16(0x3206) == 0x020f);      // version
  CHECK(machine.u8(0x3210) == 0xff);         // type_of_loader
  CHECK(machine.u16(0x3236) == 1);           // xloadflags
  CHECK(machine.u64(0x3250) == 0);           // setup_data: ours, and there is none
  CHECK(machine.u64(0x3258) == 0x100'0000);  // pref_address
  CHECK(machine.u32(0x3260) == 0x80'0000);   // init_size
}

TEST_CASE("a bzImage's initrd_addr_max is the last address of the initrd") {
  BzImage kernel;
  kernel.header.initrd_addr_max = 0x1ff'ffff;
  Machine machine;
  machine.initrd = Bytes(0x1800);
  CHECK(machine.boot(kernel.build()).initrd == AddrRange{0x1ff'e000, 0x1800});
}

TEST_CASE("with RAM on both sides of the hole the initrd is below it") {
  Machine machine({{0, 0xc000'0000}, {0x1'0000'0000, 0xc000'0000}});
  machine.initrd = Bytes(0x1000, std::byte{0xdd});
  CHECK(machine.boot(ElfKernel().build()).initrd == AddrRange{0xbfff'f000, 0x1000});
  CHECK(machine.u8(0xbfff'ffff) == 0xdd);
  CHECK(machine.u32(0x2030) == 6);
}

TEST_CASE("the initrd may fill all of RAM between kernel and end, and no more") {
  ElfKernel kernel;  // ends at 0x20'0100
  Machine machine({{0, 0x20'4000}});
  machine.initrd = Bytes(0x3000, std::byte{0xdd});
  CHECK(machine.boot(kernel.build()).initrd == AddrRange{0x20'1000, 0x3000});
  machine.initrd = Bytes(0x3001);
  CHECK(machine.boot_error(kernel.build()) ==
        "initrd 'i': its 12289 bytes do not fit between the kernel's end at 0x201000 and 0x204000");
}

TEST_CASE("an initrd that must lie below the kernel's end is refused") {
  BzImage kernel;
  kernel.header.initrd_addr_max = 0;
  Machine machine;
  machine.initrd = Bytes(1);
  CHECK(machine.boot_error(kernel.build()) ==
        "initrd 'i': its 1 bytes do not fit between the kernel's end at 0x1800000 and 0x1");
}

TEST_CASE("a kernel that does not fit into RAM is refused before anything is written") {
  ElfKernel kernel;
  Machine machine;
  kernel.segments[1].p_paddr = 0x3ff'ff01;
  kernel.set_note(0x800, "Xen", 18, uint32_t{0x10'0010}, 4);
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': segment 1 (0x100 bytes at 0x3ffff01) does not fit below the end of RAM at "
        "0x4000000");
  kernel.segments[1].p_paddr = 0x1'0000'0000;
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': segment 1 (0x100 bytes at 0x100000000) does not fit below the end of RAM at "
        "0x4000000");
  kernel.segments[1].p_paddr = UINT64_MAX;
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': segment 1 (0x100 bytes at 0xffffffffffffffff) does not fit below the end of "
        "RAM at 0x4000000");
  CHECK(machine.u8(0x10'0000) == 0);
  CHECK(machine.u8(0x2'0000) == 0);
}

TEST_CASE("a segment may end exactly at the end of RAM") {
  ElfKernel kernel;
  kernel.segments[1].p_paddr = 0x3ff'ff00;
  Machine machine;
  CHECK(machine.boot(kernel.build()).kernel == AddrRange{0x10'0000, 0x3f0'0000});
  CHECK(machine.u8(0x3ff'ffff) == 0xbb);
}

TEST_CASE("a bzImage that has no room to unpack is refused") {
  BzImage kernel;
  kernel.header.init_size = 0x300'0001;
  Machine machine;
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': the unpacked kernel (0x3000001 bytes at 0x1000000) does not fit below the end "
        "of RAM at 0x4000000");
}

TEST_CASE("a command line is refused from the length on that the kernel would cut off") {
  Machine machine;
  machine.command_line = std::string(2047, 'x');
  CHECK(machine.boot_error(ElfKernel().build()) == "no error");
  CHECK(machine.u8(0x2'07fe) == 'x');
  CHECK(machine.u8(0x2'07ff) == 0);
  machine.command_line += 'x';
  CHECK(machine.boot_error(ElfKernel().build()) ==
        "kernel 'k': takes a command line of at most 2047 bytes, this one has 2048");
}

TEST_CASE("a bzImage says itself how long a command line it takes, within our bounds") {
  BzImage kernel;
  Machine machine;
  kernel.header.cmdline_size = 255;
  machine.command_line = std::string(256, 'x');
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': takes a command line of at most 255 bytes, this one has 256");
  kernel.header.cmdline_size = 0xffff'ffff;
  machine.command_line = std::string(65536, 'x');
  CHECK(machine.boot_error(kernel.build()) ==
        "kernel 'k': takes a command line of at most 65535 bytes, this one has 65536");
}

TEST_CASE("a command line with a newline is refused") {
  Machine machine;
  machine.command_line = "a\nb";
  CHECK(machine.boot_error(ElfKernel().build()) ==
        "--cmdline: expected printable ASCII, got byte 0x0a at position 1");
}

TEST_CASE("an empty initrd file is refused") {
  CHECK(error_of([] { boot_file({}, "initrd 'i'"); }) ==
        "initrd 'i': is empty; expected a file with something in it");
}

}  // namespace
}  // namespace ringlet
