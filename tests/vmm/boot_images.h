// Kernel files made in memory, good ones to start from; tests spoil one thing at a time.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <elf.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "vmm/boot/file.h"
#include "vmm/boot/kernel_image.h"

namespace ringlet::test {

using Bytes = std::vector<std::byte>;

/// Writes `value` at `offset`; the vector grows to hold it.
template <typename T>
void put(Bytes& bytes, size_t offset, const T& value) {
  if (bytes.size() < offset + sizeof(T)) bytes.resize(offset + sizeof(T));
  std::memcpy(&bytes[offset], &value, sizeof(T));
}

inline void put_text(Bytes& bytes, size_t offset, std::string_view text) {
  if (bytes.size() < offset + text.size()) bytes.resize(offset + text.size());
  std::memcpy(&bytes[offset], text.data(), text.size());
}

inline void fill(Bytes& bytes, size_t offset, size_t count, unsigned char value) {
  if (bytes.size() < offset + count) bytes.resize(offset + count);
  std::memset(&bytes[offset], value, count);
}

/// A file in memory that holds `bytes`.
inline Fd memory_file(const Bytes& bytes) {
  Fd fd(check(::memfd_create("boot-test", MFD_CLOEXEC), "memfd_create"));
  check(::pwrite(fd.get(), bytes.data(), bytes.size(), 0), "pwrite");
  return fd;
}

inline BootFile boot_file(const Bytes& bytes, std::string label = "kernel 'k'") {
  return BootFile(std::move(label), memory_file(bytes));
}

/// The message of the ConfigError that `action` throws; "no error" when there is none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

/// An ELF kernel: segment 0 has 0x300 bytes of 0xaa for 0x10'0000 and 0x1d00 bytes of zeroes
/// behind them; segment 1 has 0x100 bytes of 0xbb for 0x20'0000; segment 2 is a PVH note.
struct ElfKernel {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  Bytes bytes;  // without the headers, which bytes() puts in

  ElfKernel() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x20'0040;
    header.e_phoff = 0x40;
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 3;
    segments = {load(0x1000, 0x300, 0x10'0000, 0x2000), load(0x2000, 0x100, 0x20'0000, 0x100),
                Elf64_Phdr{}};
    fill(bytes, 0x1000, 0x300, 0xaa);
    fill(bytes, 0x2000, 0x100, 0xbb);
    set_note(0x800, "Xen", 18, uint32_t{0x10'0010}, 4);
  }

  static Elf64_Phdr load(uint64_t offset, uint64_t file_size, uint64_t address, uint64_t size) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = offset;
    segment.p_filesz = file_size;
    segment.p_paddr = address;
    segment.p_vaddr = address + 0xffff'ffff'8000'0000;
    segment.p_memsz = size;
    segment.p_align = 0x1000;
    return segment;
  }

  /// Writes a note with a 4-byte owner ("Xen" and its NUL) at `offset`.
  template <typename T>
  void put_note(size_t offset, std::string_view owner, uint32_t type, T text) {
    put(bytes, offset, uint32_t{4});
    put(bytes, offset + 4, static_cast<uint32_t>(sizeof(T)));
    put(bytes, offset + 8, type);
    put(bytes, offset + 12, uint32_t{0});
    put_text(bytes, offset + 12, owner);
    put(bytes, offset + 16, text);
  }

  /// Makes segment 2 that one note.
  template <typename T>
  void set_note(size_t offset, std::string_view owner, uint32_t type, T text, uint64_t align) {
    put_note(offset, owner, type, text);
    set_notes(offset, 16 + sizeof(T), align);
  }

  void set_notes(size_t offset, size_t size, uint64_t align) {
    segments[2] = {};
    segments[2].p_type = PT_NOTE;
    segments[2].p_offset = offset;
    segments[2].p_filesz = size;
    segments[2].p_align = align;
  }

  void remove_note() { segments[2].p_type = PT_NULL; }

  Bytes build() const {
    Bytes file = bytes;
    put(file, 0, header);
    for (size_t i = 0; i < segments.size(); ++i) {
      put(file, 0x40 + i * sizeof(Elf64_Phdr), segments[i]);
    }
    return file;
  }
};

/// A bzImage of boot protocol 2.15 with two sectors of setup code and 0x1000 bytes of 0xcc for
/// 0x100'0000, where it needs 0x80'0000 bytes.
struct BzImage {
  SetupHeader header;
  size_t code_bytes = 0x1000;

  BzImage() {
    header.setup_sects = 2;
    header.syssize = 0x100;
    header.boot_flag = 0xaa55;
    header.jump = 0xeb;
    header.jump_distance = 0x6a;
    header.magic = 0x5372'6448;
    header.version = 0x020f;
    header.loadflags = 1;
    header.initrd_addr_max = 0x7fff'ffff;
    header.kernel_alignment = 0x20'0000;
    header.relocatable_kernel = 1;
    header.xloadflags = 1;
    header.cmdline_size = 2047;
    header.pref_address = 0x100'0000;
    header.init_size = 0x80'0000;
    header.setup_data = 0x1234;
  }

  Bytes build() const {
    Bytes file;
    put_text(file, 0, "MZ");
    put(file, 0x1ef, uint8_t{0xff});  // the sentinel that must not reach the boot parameters
    put(file, 0x1f1, header);
    fill(file, 0x600, code_bytes, 0xcc);
    return file;
  }
};

}  // namespace ringlet::test
