// Tells kernel formats apart by their first bytes.
#include "vmm/boot/kernel_image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include <elf.h>

namespace ringlet {
namespace {

using namespace std::string_view_literals;

struct Signature {
  size_t offset;
  std::string_view bytes;
  std::string_view looks_like;
};

// What people hand over by mistake. Order matters: kernels for other machines can be EFI programs
// at the same time.
constexpr std::array<Signature, 18> kSignatures{{
    {0x38, "ARM\x64"sv, "a Linux Image for 64-bit ARM"},
    {0x38, "RSC\x05"sv, "a Linux Image for RISC-V"},
    {0x24, "\x18\x28\x6f\x01"sv, "a Linux zImage for 32-bit ARM"},
    {0, "MZ"sv, "an EFI or Windows program (PE)"},
    {0, "\x1f\x8b"sv, "a gzip file (unpack it first)"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "an xz file (unpack it first)"},
    {0, "\x28\xb5\x2f\xfd"sv, "a zstd file (unpack it first)"},
    {0, "BZh"sv, "a bzip2 file (unpack it first)"},
    {0, "\x04\x22\x4d\x18"sv, "an lz4 file (unpack it first)"},
    {0, "\x02\x21\x4c\x18"sv, "an lz4 file (unpack it first)"},
    {0, "\x5d\0\0"sv, "an lzma file (unpack it first)"},
    {0, "\x27\x05\x19\x56"sv, "a U-Boot image"},
    {0, "QFI\xfb"sv, "a qcow2 disk image"},
    {0, "070701"sv, "a cpio archive, such as an initrd"},
    {0, "#!"sv, "a script"},
    {0, "!<arch>"sv, "a static library or Debian package"},
    {0x1fe, "\x55\xaa"sv, "a disk image or boot sector"},
    {0x438, "\x53\xef"sv, "an ext2, ext3 or ext4 file system"},
}};

bool has(std::span<const std::byte> head, size_t at, std::string_view bytes) {
  return std::memcmp(&head[at], bytes.data(), bytes.size()) == 0;
}

}  // namespace

KernelImage parse_kernel(const BootFile& file) {
  std::array<std::byte, 0x440> head{};  // long enough for every signature
  const size_t length = std::min<size_t>(head.size(), file.size());
  file.read(0, std::span(head).first(length));

  if (has(head, EI_MAG0, ELFMAG)) return parse_elf(file);
  if (has(head, 0x1fe, "\x55\xaa"sv) && has(head, 0x202, "HdrS"sv)) return parse_bzimage(file);
  constexpr std::string_view kExpected = "an ELF kernel (vmlinux) or a bzImage for x86-64";
  for (const Signature& signature : kSignatures) {
    if (!has(head, signature.offset, signature.bytes)) continue;
    file.reject("looks like {}; expected {}", signature.looks_like, kExpected);
  }
  file.reject("is not a kernel; expected {}", kExpected);
}

}  // namespace ringlet
