// Bad inputs: what is given for a kernel, and what does not fit with it.
#include <functional>
#include <string_view>

#include "tests/cli/bad_input.h"
#include "tests/vmm/boot_images.h"

namespace ringlet {
namespace {

using test::BzImage;
using test::ElfKernel;

std::string text_of(const test::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// `ringlet run --kernel k` with these contents.
BadInput kernel(std::string content, const std::string& why, const Arguments& more = {}) {
  Arguments arguments{"run", "--kernel", "k"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return {arguments, "kernel 'k': " + why, "k", std::move(content)};
}

std::string elf(const std::function<void(ElfKernel&)>& spoil) {
  ElfKernel kernel;
  spoil(kernel);
  return text_of(kernel.build());
}

std::string bzimage(const std::function<void(BzImage&)>& spoil) {
  BzImage kernel;
  spoil(kernel);
  return text_of(kernel.build());
}

std::string start_of(const std::string& content, size_t size) {
  return content.substr(0, size);
}

/// `magic` at the start of a file of 4 KiB.
std::string file_with(std::string_view magic) {
  std::string content(4096, '\0');
  content.replace(0, magic.size(), magic);
  return content;
}

constexpr const char* kExpected = "; expected an ELF kernel (vmlinux) or a bzImage for x86-64";

}  // namespace

std::vector<BadInput> bad_kernels() {
  const std::string good = elf([](ElfKernel&) {});
  return {
      kernel("x", std::string("is not a kernel") + kExpected),
      kernel("#!/bin/sh\n", std::string("looks like a script") + kExpected),
      kernel(file_with("\x1f\x8b"),
             std::string("looks like a gzip file (unpack it first)") + kExpected),
      kernel(file_with("QFI\xfb"), std::string("looks like a qcow2 disk image") + kExpected),
      kernel(file_with("MZ"), std::string("looks like an EFI or Windows program (PE)") + kExpected),
      kernel(start_of(good, 15), "is cut off inside the ELF header"),
      kernel(start_of(good, 100),
             "is cut off: its ELF program headers lie behind the end of the file"),
      kernel(start_of(good, 0x2080),
             "is cut off: segment 1 (256 bytes at offset 8192) reaches behind its end"),
      kernel("\x7f"
             "ELF" +
                 std::string(4096, '\xff'),
             "is a 32-bit ELF file; expected one for x86-64"),
      kernel(elf([](ElfKernel& k) { k.header.e_ident[EI_DATA] = ELFDATA2MSB; }),
             "is a big-endian ELF file; expected one for x86-64"),
      kernel(elf([](ElfKernel& k) { k.header.e_machine = EM_AARCH64; }),
             "is an ELF file for another processor (machine 183); expected x86-64 (62)"),
      kernel(elf([](ElfKernel& k) { k.header.e_type = ET_DYN; }),
             "is no ELF executable with fixed addresses (type 3, expected 2): a library, object "
             "file, core dump or position-independent program"),
      kernel(elf([](ElfKernel& k) { k.header.e_phnum = 0xffff; }),
             "has 65535 ELF program headers, 128 at most are supported"),
      kernel(elf([](ElfKernel& k) { k.header.e_phoff = ~uint64_t{0}; }),
             "is cut off: its ELF program headers lie behind the end of the file"),
      kernel(elf([](ElfKernel& k) { k.segments[0].p_memsz = 1; }),
             "segment 0 has 768 bytes in the file, but 1 in memory"),
      kernel(elf([](ElfKernel& k) { k.segments[0].p_paddr = 0; }),
             "segment 0 starts at 0x0; memory below 0x100000 is taken by boot data"),
      kernel(elf([](ElfKernel& k) { k.segments[1].p_paddr = 0x10'0000; }),
             "segment 1 overlaps segment 0 in memory"),
      kernel(elf([](ElfKernel& k) { k.set_note(0x800, "Xen", 18, uint32_t{0x1234}, 4); }),
             "has its entry point 0x1234 outside of the loaded segments"),
      kernel(start_of(bzimage([](BzImage&) {}), 0x206),
             "is cut off: 123 bytes were expected at offset 497, the file ends at 518"),
      kernel(start_of(bzimage([](BzImage&) {}), 5631),
             "is cut off: 5632 bytes were expected, it has 5631"),
      kernel(bzimage([](BzImage& k) { k.header.version = 0x0205; }),
             "speaks boot protocol 2.5; expected 2.12 (Linux 3.8) or later"),
      kernel(bzimage([](BzImage& k) { k.header.xloadflags = 0; }),
             "is a 32-bit kernel; expected one with a 64-bit entry point"),
      kernel(bzimage([](BzImage& k) { k.header.pref_address = ~uint64_t{0}; }),
             "wants to be loaded at 0xffffffffffffffff; expected 0x100000 to 0xc0000000"),
  };
}

std::vector<BadInput> bad_boots() {
  const std::string good = elf([](ElfKernel&) {});
  return {
      kernel(elf([](ElfKernel& k) { k.segments[1].p_memsz = 0x200'0000; }),
             "segment 1 (0x2000000 bytes at 0x200000) does not fit below the end of RAM at "
             "0x1000000",
             {"--memory", "16M"}),
      kernel(elf([](ElfKernel& k) { k.segments[1].p_memsz = ~uint64_t{0}; }),
             "segment 1 (0xffffffffffffffff bytes at 0x200000) does not fit below the end of RAM "
             "at 0xc0000000",
             {"--memory", "4T"}),
      kernel(bzimage([](BzImage&) {}),
             "the unpacked kernel (0x800000 bytes at 0x1000000) does not fit below the end of RAM "
             "at 0x1000000",
             {"--memory", "16M"}),
      kernel(good, "takes a command line of at most 2047 bytes, this one has 2048",
             {"--cmdline", std::string(2048, 'x')}),
      kernel(good, "takes a command line of at most 2047 bytes, this one has 2048",
             {"--cmdline", std::string(2031, 'x'), "--disk", "disk.img"}),
      kernel(bzimage([](BzImage& k) { k.header.cmdline_size = 10; }),
             "takes a command line of at most 10 bytes, this one has 11",
             {"--cmdline", "01234567890"}),
      {{"run", "--kernel", "vmlinux", "--initrd", "big", "--memory", "1G"},
       "initrd 'big': its 1073741824 bytes do not fit between the kernel's end at 0x201000 and "
       "0x40000000"},
  };
}

}  // namespace ringlet
