// AML encoding: chapter 20 and section 6.4 of ACPI 6.5. The end of vmm/acpi/aml.h: all of it can
// run in the compiler.
#pragma once

#include <array>
#include <cassert>
#include <limits>

#include "kvm/wire.h"
#include "vmm/acpi/aml.h"

namespace ringlet::aml {
inline namespace encoding {

enum Opcode : uint8_t {
  kZeroOp = 0x00,
  kOneOp = 0x01,
  kNameOp = 0x08,
  kBytePrefix = 0x0a,
  kWordPrefix = 0x0b,
  kDWordPrefix = 0x0c,
  kStringPrefix = 0x0d,
  kQWordPrefix = 0x0e,
  kScopeOp = 0x10,
  kBufferOp = 0x11,
  kPackageOp = 0x12,
  kMethodOp = 0x14,
  kDualNamePrefix = 0x2e,
  kMultiNamePrefix = 0x2f,
  kExtOpPrefix = 0x5b,
  kArg0Op = 0x68,
  kStoreOp = 0x70,
  kDeviceOp = 0x82,  // after kExtOpPrefix
  kIndexOp = 0x88,
  kLEqualOp = 0x93,
  kIfOp = 0xa0,
  kReturnOp = 0xa4,
};

constexpr void put(Code& code, uint64_t value) {
  assert(value <= std::numeric_limits<uint8_t>::max());
  code.push_back(std::byte{static_cast<uint8_t>(value)});
}

constexpr Code byte(uint64_t value) {
  Code code;
  put(code, value);
  return code;
}

template <typename T>
constexpr Code code_of(const T& object) {
  const auto bytes = bytes_of(object);
  return {bytes.begin(), bytes.end()};
}

// PkgLength (20.2.4): the number of bytes from itself to the end of the package. The lead byte's
// bits 7:6 say how many bytes follow it. If none, bits 5:0 are the length; otherwise bits 3:0 are
// its lowest four bits and each further byte holds the next eight.
constexpr void put_pkg_length(Code& code, size_t body_size) {
  constexpr std::array<size_t, 4> kMaxLength{0x3f, 0xfff, 0xf'ffff, 0xfff'ffff};
  size_t following = 0;
  while (following < 3 && body_size + 1 + following > kMaxLength[following]) ++following;
  size_t length = body_size + 1 + following;
  assert(length <= kMaxLength[following]);
  if (following == 0) return put(code, length);
  put(code, following << 6 | (length & 0xf));
  for (length >>= 4; following > 0; --following, length >>= 8) put(code, length & 0xff);
}

constexpr Code package_of(const Code& opcode, const Code& body) {
  constexpr size_t kMaxPkgLength = 4;
  Code code;
  code.reserve(opcode.size() + kMaxPkgLength + body.size());
  append(code, opcode);
  put_pkg_length(code, body.size());
  append(code, body);
  return code;
}

// A NameSeg (20.2.2): four characters, short ones padded with underscores.
constexpr Code name_segment(std::string_view segment) {
  assert(!segment.empty() && segment.size() <= 4);
  Code code;
  for (size_t i = 0; i < 4; ++i) {
    const char c = i < segment.size() ? segment[i] : '_';
    const bool is_letter = (c >= 'A' && c <= 'Z') || c == '_';
    assert(is_letter || (i > 0 && c >= '0' && c <= '9'));
    put(code, static_cast<uint8_t>(c));
  }
  return code;
}

constexpr uint64_t hex_digit(char c) {
  const uint64_t code = static_cast<uint8_t>(c);
  if (c >= '0' && c <= '9') return code - '0';
  if (c >= 'a' && c <= 'f') return code - 'a' + 10;
  assert(c >= 'A' && c <= 'F');
  return code - 'A' + 10;
}

// An address space descriptor (6.4.3.5) with fields of type T.
template <typename T>
struct AddressSpace {
  uint8_t tag;
  le16 length = static_cast<uint16_t>(sizeof(AddressSpace) - 3);
  uint8_t type;
  uint8_t flags = 0x0c;  // producer, positive decode, minimum and maximum fixed
  uint8_t type_flags;
  Le<T> granularity;
  Le<T> minimum;
  Le<T> maximum;
  Le<T> translation;
  Le<T> size;
};
static_assert(sizeof(AddressSpace<uint16_t>) == 16);
static_assert(sizeof(AddressSpace<uint32_t>) == 26);
static_assert(sizeof(AddressSpace<uint64_t>) == 46);

enum class Space : uint8_t { Memory = 0, Io = 1, Bus = 2 };
constexpr uint8_t kReadWriteUncached = 0x01;  // for Space::Memory
constexpr uint8_t kEntireRange = 0x03;        // for Space::Io: not only ISA's 10-bit addresses
constexpr uint8_t kNoTypeFlags = 0;

template <typename T>
constexpr Code window(uint8_t tag, Space space, uint8_t type_flags, AddrRange range) {
  assert(range.size > 0 && range.size - 1 <= std::numeric_limits<T>::max() - range.base);
  assert(range.size <= std::numeric_limits<T>::max());
  return code_of(AddressSpace<T>{.tag = tag,
                                 .type = static_cast<uint8_t>(space),
                                 .type_flags = type_flags,
                                 .granularity = {},
                                 .minimum = static_cast<T>(range.base),
                                 .maximum = static_cast<T>(range.base + range.size - 1),
                                 .translation = {},
                                 .size = static_cast<T>(range.size)});
}

constexpr uint8_t kDWordSpaceTag = 0x87;
constexpr uint8_t kWordSpaceTag = 0x88;
constexpr uint8_t kQWordSpaceTag = 0x8a;

}  // namespace encoding

constexpr void append(Code& code, std::span<const std::byte> tail) {
  code.insert(code.end(), tail.begin(), tail.end());
}

constexpr void append_integer(Code& code, uint64_t value) {
  if (value == 0) return put(code, kZeroOp);
  if (value == 1) return put(code, kOneOp);
  if (value <= 0xff) {
    put(code, kBytePrefix);
    put(code, value);
  } else if (value <= 0xffff) {
    put(code, kWordPrefix);
    append(code, bytes_of(le16{static_cast<uint16_t>(value)}));
  } else if (value <= 0xffff'ffff) {
    put(code, kDWordPrefix);
    append(code, bytes_of(le32{static_cast<uint32_t>(value)}));
  } else {
    put(code, kQWordPrefix);
    append(code, bytes_of(le64{value}));
  }
}

constexpr Code integer(uint64_t value) {
  Code code;
  append_integer(code, value);
  return code;
}

constexpr Code string(std::string_view text) {
  Code code = byte(kStringPrefix);
  for (const char c : text) {
    assert(c > 0);
    put(code, static_cast<uint8_t>(c));
  }
  put(code, 0);
  return code;
}

constexpr Code buffer(std::span<const std::byte> bytes) {
  return package_of(byte(kBufferOp), list(integer(bytes.size()), Code(bytes.begin(), bytes.end())));
}

constexpr void append_package(Code& code, size_t count, const Code& elements) {
  put(code, kPackageOp);
  put_pkg_length(code, 1 + elements.size());
  put(code, count);
  append(code, elements);
}

constexpr Code package(size_t count, const Code& elements) {
  constexpr size_t kMaxHead = 6;
  Code code;
  code.reserve(kMaxHead + elements.size());
  append_package(code, count, elements);
  return code;
}

constexpr Code eisa_id(std::string_view id) {
  assert(id.size() == 7);
  uint64_t bits = 0;  // five bits a letter, four a digit, most significant first
  for (const char letter : id.substr(0, 3)) {
    assert(letter >= 'A' && letter <= 'Z');
    bits = bits << 5 | static_cast<uint64_t>(letter - 'A' + 1);
  }
  for (const char digit : id.substr(3)) bits = bits << 4 | hex_digit(digit);
  const Code swapped = code_of(le32{static_cast<uint32_t>(bits)});
  return list(byte(kDWordPrefix), Code(swapped.rbegin(), swapped.rend()));
}

constexpr Code uuid(std::string_view text) {
  // Where each byte's two digits are in "aabbccdd-eeff-gghh-iijj-kkllmmnnoopp".
  constexpr std::array<size_t, 16> kDigitsAt{6,  4,  2,  0,  11, 9,  16, 14,
                                             19, 21, 24, 26, 28, 30, 32, 34};
  assert(text.size() == 36);
  Code bytes;
  for (const size_t at : kDigitsAt) {
    put(bytes, hex_digit(text[at]) << 4 | hex_digit(text[at + 1]));
  }
  return buffer(bytes);
}

// NameString (20.2.2): root or parent prefixes, then one, two or more segments.
constexpr Code path(std::string_view name) {
  Code code;
  while (name.starts_with('\\') || name.starts_with('^')) {
    put(code, static_cast<uint8_t>(name.front()));
    name.remove_prefix(1);
  }
  Code segments;
  size_t dot = 0;
  do {
    dot = name.find('.');
    append(segments, name_segment(name.substr(0, dot)));
    name.remove_prefix(dot == name.npos ? name.size() : dot + 1);
  } while (dot != name.npos);
  const size_t count = segments.size() / 4;
  if (count == 2) put(code, kDualNamePrefix);
  if (count > 2) append(code, list(byte(kMultiNamePrefix), byte(count)));
  append(code, segments);
  return code;
}

constexpr Code name(std::string_view name, const Code& value) {
  return list(byte(kNameOp), path(name), value);
}

constexpr Code scope_of(std::string_view name, const Code& body) {
  return package_of(byte(kScopeOp), list(path(name), body));
}

constexpr Code device_of(std::string_view name, const Code& body) {
  return package_of(list(byte(kExtOpPrefix), byte(kDeviceOp)), list(path(name), body));
}

constexpr Code method_of(std::string_view name, unsigned arguments, const Code& body) {
  assert(arguments <= 7);
  return package_of(byte(kMethodOp), list(path(name), byte(arguments), body));
}

constexpr Code if_of(const Code& condition, const Code& body) {
  return package_of(byte(kIfOp), list(condition, body));
}

constexpr Code arg(unsigned index) {
  assert(index <= 6);
  return byte(kArg0Op + index);
}

constexpr Code return_(const Code& value) {
  return list(byte(kReturnOp), value);
}

constexpr Code equal(const Code& left, const Code& right) {
  return list(byte(kLEqualOp), left, right);
}

// The last operand is where the reference would be stored as well: nowhere.
constexpr Code index(const Code& object, const Code& at) {
  return list(byte(kIndexOp), object, at, byte(kZeroOp));
}

constexpr Code store(const Code& value, const Code& target) {
  return list(byte(kStoreOp), value, target);
}

constexpr Code resource_template_of(const Code& descriptors) {
  constexpr std::array<std::byte, 2> kEndTag{std::byte{0x79}, std::byte{0}};  // 6.4.2.9
  return buffer(list(descriptors, Code(kEndTag.begin(), kEndTag.end())));
}

constexpr Code io(AddrRange ports) {
  struct Io {  // 6.4.2.5
    uint8_t tag = 0x47;
    uint8_t decodes_16_bits = 1;
    le16 minimum;
    le16 maximum;
    uint8_t alignment = 1;
    uint8_t size;
  };
  static_assert(sizeof(Io) == 8);
  assert(ports.base <= 0xffff && ports.size <= 0xff);
  return code_of(Io{.minimum = static_cast<uint16_t>(ports.base),
                    .maximum = static_cast<uint16_t>(ports.base),
                    .size = static_cast<uint8_t>(ports.size)});
}

constexpr Code irq(Gsi irq) {
  struct Irq {  // 6.4.2.1, the form without flags
    uint8_t tag = 0x22;
    le16 mask;
  };
  static_assert(sizeof(Irq) == 3);
  assert(irq.value() < 16);
  return code_of(Irq{.mask = static_cast<uint16_t>(1u << irq.value())});
}

constexpr Code memory32_fixed(AddrRange memory) {
  struct Memory32Fixed {  // 6.4.3.4
    uint8_t tag = 0x86;
    le16 length = uint16_t{9};
    uint8_t is_writable = 1;
    le32 base;
    le32 size;
  };
  static_assert(sizeof(Memory32Fixed) == 12);
  assert(memory.base <= 0xffff'ffff && memory.size <= 0xffff'ffff);
  return code_of(Memory32Fixed{.base = static_cast<uint32_t>(memory.base),
                               .size = static_cast<uint32_t>(memory.size)});
}

constexpr Code bus_window(uint16_t first, uint16_t last) {
  assert(first <= last);
  return window<uint16_t>(kWordSpaceTag, Space::Bus, kNoTypeFlags,
                          {first, uint64_t{last} - first + 1});
}

constexpr Code io_window(AddrRange ports) {
  return window<uint16_t>(kWordSpaceTag, Space::Io, kEntireRange, ports);
}

constexpr Code memory_window32(AddrRange memory) {
  return window<uint32_t>(kDWordSpaceTag, Space::Memory, kReadWriteUncached, memory);
}

constexpr Code memory_window64(AddrRange memory) {
  return window<uint64_t>(kQWordSpaceTag, Space::Memory, kReadWriteUncached, memory);
}

}  // namespace ringlet::aml
