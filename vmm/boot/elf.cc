// Reads ELF kernels: program headers, and the note that says where PVH boot enters.
#include <cstring>
#include <optional>

#include <elf.h>

#include "vmm/boot/kernel_image.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

// A vmlinux has about five program headers and half a kilobyte of notes; these bounds keep a
// broken file from costing more than a moment.
constexpr size_t kMaxProgramHeaders = 128;
constexpr size_t kMaxNoteBytes = 64 * kKiB;

constexpr uint32_t kXenPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY

Elf64_Ehdr read_elf_header(const BootFile& file) {
  if (!file.contains(0, EI_NIDENT)) file.reject("is cut off inside the ELF header");
  const auto ident = file.read<std::array<unsigned char, EI_NIDENT>>(0);
  if (ident[EI_CLASS] != ELFCLASS64) {
    file.reject("is a 32-bit ELF file; expected one for x86-64");
  }
  if (ident[EI_DATA] != ELFDATA2LSB) {
    file.reject("is a big-endian ELF file; expected one for x86-64");
  }
  if (!file.contains(0, sizeof(Elf64_Ehdr))) file.reject("is cut off inside the ELF header");
  const auto header = file.read<Elf64_Ehdr>(0);
  if (header.e_machine != EM_X86_64) {
    file.reject("is an ELF file for another processor (machine {}); expected x86-64 (62)",
                header.e_machine);
  }
  if (header.e_type != ET_EXEC) {
    file.reject(
        "is no ELF executable with fixed addresses (type {}, expected 2): a library, "
        "object file, core dump or position-independent program",
        header.e_type);
  }
  return header;
}

std::vector<Elf64_Phdr> read_program_headers(const BootFile& file) {
  const Elf64_Ehdr header = read_elf_header(file);
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    file.reject("has ELF program headers of {} bytes, expected {}", header.e_phentsize,
                sizeof(Elf64_Phdr));
  }
  if (header.e_phnum > kMaxProgramHeaders) {
    file.reject("has {} ELF program headers, {} at most are supported", header.e_phnum,
                kMaxProgramHeaders);
  }
  std::vector<Elf64_Phdr> headers(header.e_phnum);
  const auto bytes = std::as_writable_bytes(std::span(headers));
  if (!file.contains(header.e_phoff, bytes.size())) {
    file.reject("is cut off: its ELF program headers lie behind the end of the file");
  }
  file.read(header.e_phoff, bytes);
  return headers;
}

std::vector<KernelSegment> loadable_segments(const BootFile& file,
                                             std::span<const Elf64_Phdr> headers) {
  std::vector<KernelSegment> segments;
  for (size_t i = 0; i < headers.size(); ++i) {
    const Elf64_Phdr& header = headers[i];
    if (header.p_type == PT_INTERP) {
      file.reject("is a dynamically linked program; expected a kernel");
    }
    if (header.p_type != PT_LOAD || header.p_memsz == 0) continue;
    if (header.p_filesz > header.p_memsz) {
      file.reject("segment {} has {} bytes in the file, but {} in memory", i, header.p_filesz,
                  header.p_memsz);
    }
    if (!file.contains(header.p_offset, header.p_filesz)) {
      file.reject("is cut off: segment {} ({} bytes at offset {}) reaches behind its end", i,
                  header.p_filesz, header.p_offset);
    }
    if (header.p_paddr < kHighRam) {
      file.reject("segment {} starts at {:#x}; memory below {:#x} is taken by boot data", i,
                  header.p_paddr, kHighRam);
    }
    const AddrRange memory{header.p_paddr, header.p_memsz};
    for (const KernelSegment& other : segments) {
      if (!other.memory.overlaps(memory)) continue;
      file.reject("segment {} overlaps {} in memory", i, other.name);
    }
    segments.push_back({fmt::format("segment {}", i), header.p_offset, header.p_filesz, memory});
  }
  if (segments.empty()) file.reject("has no loadable segment; expected a linked kernel");
  return segments;
}

constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/// The description of the PVH note in `notes`, whose parts are aligned to `alignment` bytes.
std::optional<std::span<const std::byte>> find_pvh_note(std::span<const std::byte> notes,
                                                        uint64_t alignment) {
  constexpr char kOwner[] = "Xen";
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    std::memcpy(&header, notes.data(), sizeof(header));
    const uint64_t name_end = sizeof(header) + uint64_t{header.n_namesz};
    const uint64_t text = align_up(name_end, alignment);
    if (text > notes.size() || header.n_descsz > notes.size() - text) return std::nullopt;
    if (header.n_type == kXenPhys32Entry && header.n_namesz == sizeof(kOwner) &&
        std::memcmp(&notes[sizeof(header)], kOwner, sizeof(kOwner)) == 0) {
      return notes.subspan(text, header.n_descsz);
    }
    const uint64_t next = align_up(text + header.n_descsz, alignment);
    if (next >= notes.size()) return std::nullopt;
    notes = notes.subspan(next);
  }
  return std::nullopt;
}

/// The 32-bit entry point, where the file has the note that makes it a PVH kernel.
std::optional<uint32_t> read_pvh_entry(const BootFile& file, std::span<const Elf64_Phdr> headers) {
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_NOTE) continue;
    if (header.p_filesz > kMaxNoteBytes) {
      file.reject("has {} bytes of ELF notes, {} at most are supported", header.p_filesz,
                  kMaxNoteBytes);
    }
    if (!file.contains(header.p_offset, header.p_filesz)) {
      file.reject("is cut off: its ELF notes lie behind the end of the file");
    }
    std::vector<std::byte> notes(header.p_filesz);
    file.read(header.p_offset, notes);
    // Linkers disagree: a segment aligned to 8 may hold notes aligned to 4, and the reverse.
    const uint64_t stated = header.p_align == 8 ? 8 : 4;
    auto text = find_pvh_note(notes, stated);
    if (!text) text = find_pvh_note(notes, 12 - stated);
    if (!text) continue;
    uint64_t entry = 0;
    if (text->size() != sizeof(uint32_t) && text->size() != sizeof(uint64_t)) {
      file.reject("has a PVH note of {} bytes, expected 4 or 8", text->size());
    }
    std::memcpy(&entry, text->data(), text->size());
    if (entry > UINT32_MAX) file.reject("has a PVH entry point above 4 GiB ({:#x})", entry);
    return static_cast<uint32_t>(entry);
  }
  return std::nullopt;
}

}  // namespace

KernelImage parse_elf(const BootFile& file) {
  const std::vector<Elf64_Phdr> headers = read_program_headers(file);
  KernelImage image;
  image.segments = loadable_segments(file, headers);
  if (const auto pvh_entry = read_pvh_entry(file, headers)) {
    image.protocol = BootProtocol::Pvh;
    image.entry = GuestAddr(*pvh_entry);
  } else {
    image.protocol = BootProtocol::Linux64;
    image.entry = GuestAddr(file.read<Elf64_Ehdr>(0).e_entry);
    image.header = elf_setup_header();
  }
  for (const KernelSegment& segment : image.segments) {
    if (segment.memory.contains(image.entry.value())) return image;
  }
  file.reject("has its entry point {:#x} outside of the loaded segments", image.entry.value());
}

}  // namespace ringlet
