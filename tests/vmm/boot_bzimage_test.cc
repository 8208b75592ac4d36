// Tests of the bzImage reader, and of what is said about files that are no kernel at all.
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "tests/vmm/boot_images.h"
#include "vmm/boot/kernel_image.h"

namespace ringlet {
namespace {

using namespace std::string_view_literals;

using test::boot_file;
using test::Bytes;
using test::BzImage;
using test::error_of;

KernelImage parse(const BzImage& kernel) {
  return parse_kernel(boot_file(kernel.build()));
}

std::string error_after(void (*spoil)(BzImage&)) {
  BzImage kernel;
  spoil(kernel);
  return error_of([&] { parse(kernel); });
}

/// What is said about a file of `size` zeroes with `text` at `offset`.
std::string error_of_file(size_t size, size_t offset, std::string_view text) {
  Bytes bytes(size);
  test::put_text(bytes, offset, text);
  return error_of([&] { parse_kernel(boot_file(bytes)); });
}

TEST_CASE("a bzImage boots at 0x200 behind the address that it prefers") {
  const KernelImage image = parse(BzImage());
  CHECK(image.protocol == BootProtocol::Linux64);
  CHECK(image.entry == GuestAddr(0x100'0200));
  REQUIRE(image.segments.size() == 1);
  CHECK(image.segments[0].file_offset == 0x600);
  CHECK(image.segments[0].file_size == 0x1000);
  CHECK(image.segments[0].memory == AddrRange{0x100'0000, 0x80'0000});
  CHECK(image.cmdline_max == 2047);
  CHECK(image.initrd_max == 0x7fff'ffff);
}

TEST_CASE("no setup sectors in a bzImage mean four") {
  BzImage kernel;
  kernel.header.setup_sects = 0;
  kernel.code_bytes = 0xa00 - 0x600 + 0x1000;
  CHECK(parse(kernel).segments[0].file_offset == 0xa00);
}

TEST_CASE("what follows the code in a bzImage, such as a signature, is not loaded") {
  BzImage kernel;
  kernel.code_bytes = 0x1800;
  CHECK(parse(kernel).segments[0].file_size == 0x1000);
}

TEST_CASE("fields behind the end of an older, shorter setup header are zero") {
  BzImage kernel;
  kernel.header.jump_distance = 0x66;  // up to handover_offset
  kernel.header.handover_offset = 0x1111;
  kernel.header.kernel_info_offset = 0x2222;
  const KernelImage image = parse(kernel);
  CHECK(image.header.handover_offset == 0x1111u);
  CHECK(image.header.kernel_info_offset == 0u);
}

TEST_CASE("a bzImage that this machine cannot start is refused") {
  CHECK(error_after([](BzImage& k) { k.header.version = 0x020b; }) ==
        "kernel 'k': speaks boot protocol 2.11; expected 2.12 (Linux 3.8) or later");
  CHECK(error_after([](BzImage& k) { k.header.jump_distance = 0; }) ==
        "kernel 'k': speaks boot protocol 0.0; expected 2.12 (Linux 3.8) or later");
  CHECK(error_after([](BzImage& k) { k.header.xloadflags = 0xfe; }) ==
        "kernel 'k': is a 32-bit kernel; expected one with a 64-bit entry point");
  CHECK(error_after([](BzImage& k) { k.header.loadflags = 0; }) ==
        "kernel 'k': is a zImage, which loads low; expected a bzImage");
  CHECK(error_after([](BzImage& k) { k.header.pref_address = 0xf'ffff; }) ==
        "kernel 'k': wants to be loaded at 0xfffff; expected 0x100000 to 0xc0000000");
  CHECK(error_after([](BzImage& k) { k.header.pref_address = UINT64_MAX; }) ==
        "kernel 'k': wants to be loaded at 0xffffffffffffffff; expected 0x100000 to 0xc0000000");
}

TEST_CASE("a bzImage with sizes that cannot be is refused") {
  CHECK(error_after([](BzImage& k) { k.code_bytes = 0xfff; }) ==
        "kernel 'k': is cut off: 5632 bytes were expected, it has 5631");
  CHECK(error_after([](BzImage& k) { k.header.syssize = UINT32_MAX; }) ==
        "kernel 'k': is cut off: 68719478256 bytes were expected, it has 5632");
  CHECK(error_after([](BzImage& k) { k.header.setup_sects = 255; }) ==
        "kernel 'k': is cut off: 135168 bytes were expected, it has 5632");
  CHECK(error_after([](BzImage& k) { k.header.syssize = 0x20; }) ==
        "kernel 'k': has 512 bytes of code, too few to hold the 64-bit entry");
  CHECK(error_after([](BzImage& k) { k.header.init_size = 0xfff; }) ==
        "kernel 'k': says it needs 4095 bytes of memory (init_size), but has 4096 bytes of code");
  CHECK(error_of([] {
          Bytes bytes = BzImage().build();
          bytes.resize(0x206);
          parse_kernel(boot_file(bytes));
        }) ==
        "kernel 'k': is cut off: 123 bytes were expected at offset 497, the file ends at 518");
}

TEST_CASE("a file in another format is refused and called by its name") {
  CHECK(error_of_file(1, 0, "x") ==
        "kernel 'k': is not a kernel; expected an ELF kernel (vmlinux) or a bzImage for x86-64");
  CHECK(error_of_file(4096, 0, "\x1f\x8b"sv) ==
        "kernel 'k': looks like a gzip file (unpack it first); expected an ELF kernel (vmlinux) or "
        "a bzImage for x86-64");
  CHECK_THAT(error_of_file(6, 0,
                           "\xfd"
                           "7zXZ\0"sv),
             Catch::Contains("looks like an xz file"));
  CHECK_THAT(error_of_file(4, 0, "\x28\xb5\x2f\xfd"sv), Catch::Contains("like a zstd file"));
  CHECK_THAT(error_of_file(4, 0, "\x02\x21\x4c\x18"sv), Catch::Contains("like an lz4 file"));
  CHECK_THAT(error_of_file(4096, 0, "MZ"), Catch::Contains("an EFI or Windows program (PE)"));
  CHECK_THAT(error_of_file(4096, 0x38, "ARM\x64"), Catch::Contains("Image for 64-bit ARM"));
  CHECK_THAT(error_of_file(4096, 0, "070701"), Catch::Contains("a cpio archive"));
  CHECK_THAT(error_of_file(4096, 0, "#!/bin/sh\n"), Catch::Contains("looks like a script"));
  CHECK_THAT(error_of_file(4096, 0, "QFI\xfb"), Catch::Contains("a qcow2 disk image"));
  CHECK_THAT(error_of_file(512, 0x1fe, "\x55\xaa"), Catch::Contains("a disk image"));
  CHECK_THAT(error_of_file(4096, 0x438, "\x53\xef"), Catch::Contains("ext4 file system"));
}

TEST_CASE("what is not a readable, regular file with contents cannot be booted from") {
  CHECK(error_of([] { BootFile::open("kernel", "/nonexistent/k"); }) ==
        "kernel '/nonexistent/k': cannot be opened: No such file or directory");
  CHECK(error_of([] { BootFile::open("kernel", "/"); }) ==
        "kernel '/': is a directory; expected a file");
  CHECK(error_of([] { BootFile::open("initrd", "/dev/null"); }) ==
        "initrd '/dev/null': is not a regular file; expected one");
  CHECK(error_of([] { boot_file({}); }) ==
        "kernel 'k': is empty; expected a file with something in it");
}

TEST_CASE("a file that shrinks while it is read is an error, not a hang") {
  const Bytes bytes(8192);
  Fd fd = test::memory_file(bytes);
  const int raw = fd.get();
  const BootFile file("kernel 'k'", std::move(fd));
  REQUIRE(::ftruncate(raw, 4096) == 0);
  CHECK(error_of([&] { file.read<std::array<std::byte, 8192>>(0); }) ==
        "kernel 'k': became shorter while it was read");
}

}  // namespace
}  // namespace ringlet
