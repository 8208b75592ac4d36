// Tests of the edits to the kernel's command line.
#include <catch2/catch.hpp>

#include "tests/vmm/boot_images.h"
#include "vmm/boot/command_line.h"

namespace ringlet {
namespace {

using test::error_of;

const RootDisk kWritable{"/dev/vda", false};
const RootDisk kReadOnly{"/dev/vda", true};

TEST_CASE("without a command line the default is taken, with the first disk as root") {
  CHECK(make_command_line(std::nullopt, std::nullopt) ==
        "console=ttyS0 reboot=k panic=-1 i8042.noaux 8250.nr_uarts=1");
  CHECK(make_command_line(std::nullopt, kWritable) ==
        "console=ttyS0 reboot=k panic=-1 i8042.noaux 8250.nr_uarts=1 root=/dev/vda rw");
}

TEST_CASE("a given command line gets its root and loses pci=off") {
  CHECK(make_command_line("reboot=k pci=off panic=1", kReadOnly) ==
        "reboot=k panic=1 root=/dev/vda ro");
  CHECK(make_command_line("", std::nullopt).empty());
  CHECK(make_command_line("a  b ", std::nullopt) == "a  b ");
}

TEST_CASE("root= is added once, at the end") {
  CHECK(add_root("", kWritable) == "root=/dev/vda rw");
  CHECK(add_root("quiet", kWritable) == "quiet root=/dev/vda rw");
  CHECK(add_root("quiet ", kReadOnly) == "quiet root=/dev/vda ro");
  CHECK(add_root("quiet", {"PARTUUID=0eaa-01", true}) == "quiet root=PARTUUID=0eaa-01 ro");
}

TEST_CASE("a root= that is there stays the only one") {
  CHECK(add_root("root=/dev/vdb1", kWritable) == "root=/dev/vdb1");
  CHECK(add_root("quiet root=", kWritable) == "quiet root=");
  CHECK(add_root("\"root=LABEL=my disk\" quiet", kWritable) == "\"root=LABEL=my disk\" quiet");
}

TEST_CASE("only whole parameters count as root=") {
  CHECK(add_root("nfsroot=1.2.3.4:/", kWritable) == "nfsroot=1.2.3.4:/ root=/dev/vda rw");
  CHECK(add_root("rootwait", kWritable) == "rootwait root=/dev/vda rw");
  CHECK(add_root("dyndbg=\"file root=x +p\"", kWritable) ==
        "dyndbg=\"file root=x +p\" root=/dev/vda rw");
}

TEST_CASE("ro or rw on the command line decides how the root is mounted") {
  CHECK(add_root("ro", kWritable) == "ro root=/dev/vda");
  CHECK(add_root("rw quiet", kReadOnly) == "rw quiet root=/dev/vda");
}

TEST_CASE("the arguments of init come last and are left alone") {
  CHECK(add_root("quiet -- root=x ro", kWritable) == "quiet root=/dev/vda rw -- root=x ro");
  CHECK(add_root("-- -s", kWritable) == "root=/dev/vda rw -- -s");
  CHECK(add_root("a=-- b", kWritable) == "a=-- b root=/dev/vda rw");
  CHECK(remove_pci_off("quiet -- pci=off") == "quiet -- pci=off");
}

TEST_CASE("pci=off is removed together with one space") {
  CHECK(remove_pci_off("pci=off").empty());
  CHECK(remove_pci_off("pci=off quiet") == "quiet");
  CHECK(remove_pci_off("quiet pci=off") == "quiet");
  CHECK(remove_pci_off("a pci=off b pci=off c") == "a b c");
  CHECK(remove_pci_off("\"pci=off\" pci=\"off\" x") == "x");
}

TEST_CASE("other options beside off in pci= stay") {
  CHECK(remove_pci_off("pci=off,nomsi") == "pci=nomsi");
  CHECK(remove_pci_off("a pci=nomsi,off b") == "a pci=nomsi b");
  CHECK(remove_pci_off("pci=conf1,off,nomsi,off") == "pci=conf1,nomsi");
  CHECK(remove_pci_off("pci=,off,").empty());
}

TEST_CASE("what only resembles pci=off stays") {
  CHECK(remove_pci_off("acpi=off pci=noacpi") == "acpi=off pci=noacpi");
  CHECK(remove_pci_off("pci=offline xpci=off pci") == "pci=offline xpci=off pci");
  CHECK(remove_pci_off("a=\"x pci=off y\"") == "a=\"x pci=off y\"");
  CHECK(remove_pci_off("pci=\"off, pci=off\"") == "pci=\"off, pci=off\"");
  CHECK(remove_pci_off("pci=nomsi,,") == "pci=nomsi,,");
}

TEST_CASE("a command line must be printable ASCII") {
  CHECK(error_of([] { check_command_line("console=ttyS0\tdyndbg=\"x y\" ~"); }) == "no error");
  CHECK(error_of([] { check_command_line("a\nb"); }) ==
        "--cmdline: expected printable ASCII, got byte 0x0a at position 1");
  CHECK(error_of([] {
          check_command_line({"ab\0c", 4});
        }) == "--cmdline: expected printable ASCII, got byte 0x00 at position 2");
  CHECK(error_of([] { check_command_line("\x7f"); }) ==
        "--cmdline: expected printable ASCII, got byte 0x7f at position 0");
  CHECK(error_of([] { check_command_line("caf\xc3\xa9"); }) ==
        "--cmdline: expected printable ASCII, got byte 0xc3 at position 3");
}

}  // namespace
}  // namespace ringlet
