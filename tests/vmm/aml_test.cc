// Tests of the AML writer. The expected bytes are what iasl makes of the ASL beside them.
#include "vmm/acpi/aml.h"

#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace ringlet {
namespace {

using aml::Code;

std::string hex(const Code& code) {
  std::string text;
  for (const std::byte each : code) text += fmt::format("{:02x} ", std::to_integer<unsigned>(each));
  if (!text.empty()) text.pop_back();
  return text;
}

// The first bytes of a buffer of `size` bytes: opcode and PkgLength.
std::string buffer_head(size_t size, size_t head_size) {
  Code code = aml::buffer(std::vector<std::byte>(size));
  code.resize(head_size);
  return hex(code);
}

TEST_CASE("an AML integer takes its shortest form") {
  CHECK(hex(aml::integer(0)) == "00");     // Zero
  CHECK(hex(aml::integer(1)) == "01");     // One
  CHECK(hex(aml::integer(2)) == "0a 02");  // 0x02
  CHECK(hex(aml::integer(0xff)) == "0a ff");
  CHECK(hex(aml::integer(0x100)) == "0b 00 01");
  CHECK(hex(aml::integer(0xffff)) == "0b ff ff");
  CHECK(hex(aml::integer(0x10000)) == "0c 00 00 01 00");
  CHECK(hex(aml::integer(0xffff'ffff)) == "0c ff ff ff ff");
  CHECK(hex(aml::integer(0x1'0000'0000)) == "0e 00 00 00 00 01 00 00 00");
}

TEST_CASE("an AML string ends with a zero byte") {
  // "QEMU0001"
  CHECK(hex(aml::string("QEMU0001")) == "0d 51 45 4d 55 30 30 30 31 00");
}

TEST_CASE("EISA and UUID identifiers are compressed as ASL's EisaId and ToUUID do") {
  // EisaId ("PNP0A08")
  CHECK(hex(aml::eisa_id("PNP0A08")) == "0c 41 d0 0a 08");
  // EisaId ("PNP0501")
  CHECK(hex(aml::eisa_id("PNP0501")) == "0c 41 d0 05 01");
  // ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766")
  CHECK(hex(aml::uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")) ==
        "11 13 0a 10 5b 4d db 33 f7 1f 1c 40 96 57 74 41 c0 3d d7 66");
  CHECK(aml::uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766") ==
        aml::uuid("33db4d5b-1ff7-401c-9657-7441c03dd766"));
}

TEST_CASE("an AML path has padded segments behind its prefixes") {
  CHECK(hex(aml::path("X")) == "58 5f 5f 5f");
  CHECK(hex(aml::path("^X")) == "5e 58 5f 5f 5f");
  CHECK(hex(aml::path("\\_SB")) == "5c 5f 53 42 5f");
  CHECK(hex(aml::path("\\_SB.Y")) == "5c 2e 5f 53 42 5f 59 5f 5f 5f");
  CHECK(hex(aml::path("\\_SB.Z.ABC1")) == "5c 2f 03 5f 53 42 5f 5a 5f 5f 5f 41 42 43 31");
}

TEST_CASE("a package counts its elements") {
  // Package (4) { 0x0001FFFF, 2, Zero, 0x13 }
  CHECK(hex(aml::package(aml::integer(0x1ffff), aml::integer(2), aml::integer(0),
                         aml::integer(0x13))) == "12 0c 04 0c ff ff 01 00 0a 02 00 0a 13");
  // Package (0) {}
  CHECK(hex(aml::package()) == "12 02 00");
}

TEST_CASE("PkgLength takes one byte up to 63 and then a nibble and one to three bytes") {
  CHECK(buffer_head(60, 4) == "11 3f 0a 3c");
  CHECK(buffer_head(61, 5) == "11 41 04 0a 3d");
  CHECK(buffer_head(4090, 6) == "11 4f ff 0b fa 0f");
  CHECK(buffer_head(4091, 7) == "11 81 00 01 0b fb 0f");
  CHECK(buffer_head(1'048'567, 9) == "11 8f ff ff 0c f7 ff 0f 00");
  CHECK(buffer_head(1'048'568, 10) == "11 c1 00 00 01 0c f8 ff 0f 00");
}

TEST_CASE("scopes and devices nest as in ASL") {
  // Scope (\_SB) { Device (COM1) { Name (_HID, EisaId ("PNP0501")) Name (_UID, One) } }
  CHECK(hex(aml::scope("\\_SB", aml::device("COM1", aml::name("_HID", aml::eisa_id("PNP0501")),
                                            aml::name("_UID", aml::integer(1))))) ==
        "10 1d 5c 5f 53 42 5f "
        "5b 82 15 43 4f 4d 31 "
        "08 5f 48 49 44 0c 41 d0 05 01 "
        "08 5f 55 49 44 01");
}

TEST_CASE("a method holds conditions, stores and returns") {
  // Method (_OSC, 4, NotSerialized) {
  //     If (Arg0 == 0x05) { Return (Arg3) }
  //     Arg3 [Zero] = 0x04
  //     Return (Arg3)
  // }
  using aml::arg, aml::equal, aml::if_, aml::integer, aml::method, aml::return_, aml::store;
  CHECK(hex(method("_OSC", 4,                                          //
                   if_(equal(arg(0), integer(5)), return_(arg(3))),    //
                   store(integer(4), aml::index(arg(3), integer(0))),  //
                   return_(arg(3)))) ==
        "14 17 5f 4f 53 43 04 "
        "a0 07 93 68 0a 05 a4 6b "
        "70 0a 04 88 6b 00 00 "
        "a4 6b");
}

TEST_CASE("a resource template is a buffer of descriptors with an end tag") {
  // ResourceTemplate () { IO (Decode16, 0x3F8, 0x3F8, 1, 8) IRQNoFlags () {4} }
  CHECK(hex(aml::resource_template(aml::io({0x3f8, 8}), aml::irq(Gsi{4}))) ==
        "11 10 0a 0d 47 01 f8 03 f8 03 01 08 22 10 00 79 00");
  // ResourceTemplate () { Memory32Fixed (ReadWrite, 0xE0000000, 0x100000) }
  CHECK(hex(aml::resource_template(aml::memory32_fixed({0xe000'0000, 0x10'0000}))) ==
        "11 11 0a 0e 86 09 00 01 00 00 00 e0 00 00 10 00 79 00");
}

TEST_CASE("a host bridge's windows give minimum, maximum and length") {
  // WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
  CHECK(hex(aml::bus_window(0, 0xff)) == "88 0d 00 02 0c 00 00 00 00 00 ff 00 00 00 00 01");
  // WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
  //         0, 0x1000, 0xFFFF, 0, 0xF000)
  CHECK(hex(aml::io_window({0x1000, 0xf000})) == "88 0d 00 01 0c 03 00 00 00 10 ff ff 00 00 00 f0");
  // DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
  //              0, 0xC8000000, 0xDFFFFFFF, 0, 0x18000000)
  CHECK(hex(aml::memory_window32({0xc800'0000, 0x1800'0000})) ==
        "87 17 00 00 0c 01 00 00 00 00 00 00 00 c8 ff ff ff df 00 00 00 00 00 00 00 18");
  // QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
  //              0, 0x100000000, 0x40FFFFFFFF, 0, 0x4000000000)
  CHECK(hex(aml::memory_window64({0x1'0000'0000, 0x40'0000'0000})) ==
        "8a 2b 00 00 0c 01 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 "
        "ff ff ff ff 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 40 00 00 00");
}

}  // namespace
}  // namespace ringlet
