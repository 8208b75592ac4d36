// Tests of the ELF reader: what it takes, and one message for each way a file can be wrong.
#include <catch2/catch.hpp>

#include "tests/vmm/boot_images.h"
#include "vmm/boot/kernel_image.h"

namespace ringlet {
namespace {

using test::boot_file;
using test::Bytes;
using test::ElfKernel;
using test::error_of;

KernelImage parse(const ElfKernel& kernel) {
  return parse_kernel(boot_file(kernel.build()));
}

/// What is said about a good kernel after `spoil` has changed it.
std::string error_after(void (*spoil)(ElfKernel&)) {
  ElfKernel kernel;
  spoil(kernel);
  return error_of([&] { parse(kernel); });
}

std::string error_of_size(size_t size) {
  Bytes bytes = ElfKernel().build();
  bytes.resize(size);
  return error_of([&] { parse_kernel(boot_file(bytes)); });
}

TEST_CASE("an ELF kernel with the note boots by PVH at the note's address") {
  const KernelImage image = parse(ElfKernel());
  CHECK(image.protocol == BootProtocol::Pvh);
  CHECK(image.entry == GuestAddr(0x10'0010));
  REQUIRE(image.segments.size() == 2);
  CHECK(image.segments[0].file_offset == 0x1000);
  CHECK(image.segments[0].file_size == 0x300);
  CHECK(image.segments[0].memory == AddrRange{0x10'0000, 0x2000});
  CHECK(image.segments[1].memory == AddrRange{0x20'0000, 0x100});
  CHECK(image.cmdline_max == 2047);
  CHECK(image.initrd_max == 0xffff'ffff);
}

TEST_CASE("an ELF kernel without the note boots by the 64-bit Linux protocol at its entry") {
  ElfKernel kernel;
  kernel.remove_note();
  const KernelImage image = parse(kernel);
  CHECK(image.protocol == BootProtocol::Linux64);
  CHECK(image.entry == GuestAddr(0x20'0040));
}

TEST_CASE("the PVH entry may be written in 8 bytes, as Linux does") {
  ElfKernel kernel;
  kernel.set_note(0x800, "Xen", 18, uint64_t{0x10'0020}, 4);
  CHECK(parse(kernel).entry == GuestAddr(0x10'0020));
}

TEST_CASE("the PVH note is found behind notes aligned to 4 bytes") {
  ElfKernel kernel;
  kernel.put_note(0x800, "GNU", 18, uint32_t{1});  // not Xen's
  kernel.put_note(0x814, "Xen", 6, uint32_t{2});   // not the type
  kernel.put_note(0x828, "Xen", 18, uint32_t{0x10'0030});
  kernel.set_notes(0x800, 0x3c, 4);
  CHECK(parse(kernel).entry == GuestAddr(0x10'0030));
}

TEST_CASE("the PVH note is found where notes aligned to 4 bytes are called aligned to 8") {
  ElfKernel kernel;
  kernel.put_note(0x800, "GNU", 18, uint32_t{1});
  kernel.put_note(0x814, "Xen", 18, uint32_t{0x10'0030});
  kernel.set_notes(0x800, 0x28, 8);
  CHECK(parse(kernel).entry == GuestAddr(0x10'0030));
}

TEST_CASE("the PVH note is found behind notes aligned to 8 bytes, whatever alignment is stated") {
  const uint64_t align = GENERATE(as<uint64_t>{}, 4, 8);
  ElfKernel kernel;
  kernel.put_note(0x800, "GNU", 18, uint32_t{1});  // ends at 0x814, the next starts at 0x818
  kernel.put_note(0x818, "Xen", 18, uint64_t{0x10'0040});
  kernel.set_notes(0x800, 0x30, align);
  CHECK(parse(kernel).entry == GuestAddr(0x10'0040));
}

TEST_CASE("notes that run over their end hold no PVH entry") {
  ElfKernel kernel;
  const uint32_t size = GENERATE(0x5u, 0x7fff'ffffu, 0xffff'fff0u, 0xffff'ffffu);
  const size_t field = GENERATE(0x800u, 0x804u);
  test::put(kernel.bytes, field, size);
  CHECK(parse(kernel).protocol == BootProtocol::Linux64);
}

TEST_CASE("a note segment that is cut off inside a note's header holds no PVH entry") {
  ElfKernel kernel;
  kernel.set_notes(0x800, 11, 4);
  CHECK(parse(kernel).protocol == BootProtocol::Linux64);
}

TEST_CASE("segments without memory are left out") {
  ElfKernel kernel;
  kernel.segments.push_back(ElfKernel::load(UINT64_MAX, 0, 0, 0));
  kernel.header.e_phnum = 4;
  CHECK(parse(kernel).segments.size() == 2);
}

TEST_CASE("an ELF file that is cut off is refused") {
  CHECK(error_of_size(4) == "kernel 'k': is cut off inside the ELF header");
  CHECK(error_of_size(15) == "kernel 'k': is cut off inside the ELF header");
  CHECK(error_of_size(63) == "kernel 'k': is cut off inside the ELF header");
  CHECK(error_of_size(0x40) ==
        "kernel 'k': is cut off: its ELF program headers lie behind the end of the file");
  CHECK(error_of_size(0xe7) ==
        "kernel 'k': is cut off: its ELF program headers lie behind the end of the file");
  CHECK(error_of_size(0x12ff) ==
        "kernel 'k': is cut off: segment 0 (768 bytes at offset 4096) reaches behind its end");
  CHECK(error_of_size(0x20ff) ==
        "kernel 'k': is cut off: segment 1 (256 bytes at offset 8192) reaches behind its end");
}

TEST_CASE("an ELF file for another machine is refused") {
  CHECK(error_after([](ElfKernel& k) { k.header.e_ident[EI_CLASS] = ELFCLASS32; }) ==
        "kernel 'k': is a 32-bit ELF file; expected one for x86-64");
  CHECK(error_after([](ElfKernel& k) { k.header.e_ident[EI_CLASS] = 7; }) ==
        "kernel 'k': is a 32-bit ELF file; expected one for x86-64");
  CHECK(error_after([](ElfKernel& k) { k.header.e_ident[EI_DATA] = ELFDATA2MSB; }) ==
        "kernel 'k': is a big-endian ELF file; expected one for x86-64");
  CHECK(error_after([](ElfKernel& k) { k.header.e_machine = EM_AARCH64; }) ==
        "kernel 'k': is an ELF file for another processor (machine 183); expected x86-64 (62)");
}

TEST_CASE("an ELF file that is no kernel is refused") {
  CHECK(error_after([](ElfKernel& k) { k.header.e_type = ET_REL; }) ==
        "kernel 'k': is no ELF executable with fixed addresses (type 1, expected 2): a library, "
        "object file, core dump or position-independent program");
  CHECK(error_after([](ElfKernel& k) { k.header.e_type = ET_DYN; }) ==
        "kernel 'k': is no ELF executable with fixed addresses (type 3, expected 2): a library, "
        "object file, core dump or position-independent program");
  CHECK(error_after([](ElfKernel& k) { k.segments[2].p_type = PT_INTERP; }) ==
        "kernel 'k': is a dynamically linked program; expected a kernel");
  CHECK(error_after([](ElfKernel& k) { k.header.e_phnum = 0; }) ==
        "kernel 'k': has no loadable segment; expected a linked kernel");
}

TEST_CASE("broken ELF program headers are refused") {
  CHECK(error_after([](ElfKernel& k) { k.header.e_phentsize = 32; }) ==
        "kernel 'k': has ELF program headers of 32 bytes, expected 56");
  CHECK(error_after([](ElfKernel& k) { k.header.e_phnum = PN_XNUM; }) ==
        "kernel 'k': has 65535 ELF program headers, 128 at most are supported");
  CHECK(error_after([](ElfKernel& k) { k.header.e_phoff = UINT64_MAX; }) ==
        "kernel 'k': is cut off: its ELF program headers lie behind the end of the file");
  CHECK(error_after([](ElfKernel& k) { k.header.e_phoff = UINT64_MAX - 167; }) ==
        "kernel 'k': is cut off: its ELF program headers lie behind the end of the file");
}

TEST_CASE("broken ELF segments are refused") {
  CHECK(error_after([](ElfKernel& k) { k.segments[1].p_filesz = 0x101; }) ==
        "kernel 'k': segment 1 has 257 bytes in the file, but 256 in memory");
  CHECK(error_after([](ElfKernel& k) { k.segments[1].p_offset = UINT64_MAX - 0xff; }) ==
        "kernel 'k': is cut off: segment 1 (256 bytes at offset 18446744073709551360) reaches "
        "behind its end");
  CHECK(error_after([](ElfKernel& k) { k.segments[0].p_paddr = 0; }) ==
        "kernel 'k': segment 0 starts at 0x0; memory below 0x100000 is taken by boot data");
  CHECK(error_after([](ElfKernel& k) { k.segments[0].p_paddr = 0xff'fff; }) ==
        "kernel 'k': segment 0 starts at 0xfffff; memory below 0x100000 is taken by boot data");
  CHECK(error_after([](ElfKernel& k) { k.segments[1].p_paddr = 0x10'1fff; }) ==
        "kernel 'k': segment 1 overlaps segment 0 in memory");
  CHECK(error_after([](ElfKernel& k) { k.segments[0].p_memsz = UINT64_MAX; }) ==
        "kernel 'k': segment 1 overlaps segment 0 in memory");
}

TEST_CASE("broken PVH notes are refused") {
  CHECK(error_after([](ElfKernel& k) { k.segments[2].p_filesz = 65537; }) ==
        "kernel 'k': has 65537 bytes of ELF notes, 65536 at most are supported");
  CHECK(error_after([](ElfKernel& k) { k.segments[2].p_offset = 0x20f0; }) ==
        "kernel 'k': is cut off: its ELF notes lie behind the end of the file");
  CHECK(error_after([](ElfKernel& k) { k.set_note(0x800, "Xen", 18, uint16_t{1}, 4); }) ==
        "kernel 'k': has a PVH note of 2 bytes, expected 4 or 8");
  CHECK(error_after([](ElfKernel& k) { k.set_note(0x800, "Xen", 18, uint64_t{1} << 32, 4); }) ==
        "kernel 'k': has a PVH entry point above 4 GiB (0x100000000)");
}

TEST_CASE("an entry point outside of the segments is refused") {
  CHECK(error_after([](ElfKernel& k) { k.set_note(0x800, "Xen", 18, uint32_t{0x20'0100}, 4); }) ==
        "kernel 'k': has its entry point 0x200100 outside of the loaded segments");
  CHECK(error_after([](ElfKernel& k) {
          k.remove_note();
          k.header.e_entry = 0xffff'ffff'8100'0000;
        }) == "kernel 'k': has its entry point 0xffffffff81000000 outside of the loaded segments");
}

}  // namespace
}  // namespace ringlet
