// Writes AML, the byte code of the DSDT: functions that return bytes, nested as the ASL would be.
//
//   scope("\\_SB", device("COM1", name("_HID", eisa_id("PNP0501"))))
//
// is  Scope (\_SB) { Device (COM1) { Name (_HID, EisaId ("PNP0501")) } }. Arguments are ours, never
// the guest's: what cannot be encoded is an assert. Chapter 20 of ACPI 6.5 is the grammar.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kvm/address.h"

namespace ringlet::aml {

/// A piece of AML: a term, a list of terms, a data object or a resource descriptor.
using Code = std::vector<std::byte>;

/// Puts `tail` behind `code`: for lists made in loops.
constexpr void append(Code& code, std::span<const std::byte> tail);

/// A list of pieces in order, where the language takes "any number of terms".
template <std::same_as<Code>... Part>
constexpr Code list(const Part&... parts) {
  Code code;
  code.reserve((parts.size() + ... + 0));
  (append(code, parts), ...);
  return code;
}

/// What `make` returns, worked out by the compiler: starting a machine only copies it.
template <auto make>
Code constant() {
  constexpr size_t kSize = [] {
    const Code code = make();
    return code.size();
  }();
  static constexpr auto kBytes = [] {
    const Code code = make();
    std::array<std::byte, kSize> bytes{};
    std::ranges::copy(code, bytes.begin());
    return bytes;
  }();
  return {kBytes.begin(), kBytes.end()};
}

// ---- Data objects (20.2.3) ----------------------------------------------------------------------

/// An integer in its shortest form.
constexpr Code integer(uint64_t value);
/// Puts one behind `code`.
constexpr void append_integer(Code& code, uint64_t value);
/// Text: ASCII without zero bytes.
constexpr Code string(std::string_view text);
/// Buffer (bytes.size()) { bytes }.
constexpr Code buffer(std::span<const std::byte> bytes);
/// Package (count) { elements }; at most 255 of them.
constexpr Code package(size_t count, const Code& elements);
/// Puts one behind `code`.
constexpr void append_package(Code& code, size_t count, const Code& elements);
template <std::same_as<Code>... Element>
constexpr Code package(const Element&... elements) {
  return package(sizeof...(elements), list(elements...));
}
/// EisaId ("PNP0501"): three capital letters and four hexadecimal digits, in 32 bits.
constexpr Code eisa_id(std::string_view id);
/// ToUUID ("aabbccdd-eeff-gghh-iijj-kkllmmnnoopp"): a buffer of 16 bytes, the first three groups
/// little-endian. Hexadecimal digits may be of either case.
constexpr Code uuid(std::string_view text);

// ---- Named objects (20.2.5) ---------------------------------------------------------------------

/// A name as operand: "\\_SB.PCI0", "^COM1", "_HID". Segments have 1 to 4 characters.
constexpr Code path(std::string_view name);
/// Name (`name`, value).
constexpr Code name(std::string_view name, const Code& value);

/// How scope() and its like wrap a body: opcode, PkgLength, head, body.
constexpr Code scope_of(std::string_view name, const Code& body);
constexpr Code device_of(std::string_view name, const Code& body);
constexpr Code method_of(std::string_view name, unsigned arguments, const Code& body);
constexpr Code if_of(const Code& condition, const Code& body);

/// Scope (`name`) { parts }.
template <std::same_as<Code>... Part>
constexpr Code scope(std::string_view name, const Part&... parts) {
  return scope_of(name, list(parts...));
}

/// Device (`name`) { parts }.
template <std::same_as<Code>... Part>
constexpr Code device(std::string_view name, const Part&... parts) {
  return device_of(name, list(parts...));
}

/// Method (`name`, arguments, NotSerialized) { parts }; at most 7 arguments. Such a method must not
/// create named objects.
template <std::same_as<Code>... Part>
constexpr Code method(std::string_view name, unsigned arguments, const Part&... parts) {
  return method_of(name, arguments, list(parts...));
}

// ---- Terms of methods (20.2.5.3, 20.2.5.4) ------------------------------------------------------

/// Arg0 to Arg6.
constexpr Code arg(unsigned index);
/// If (condition) { parts }.
template <std::same_as<Code>... Part>
constexpr Code if_(const Code& condition, const Part&... parts) {
  return if_of(condition, list(parts...));
}
/// Return (value).
constexpr Code return_(const Code& value);
/// LEqual (left, right), in newer ASL left == right.
constexpr Code equal(const Code& left, const Code& right);
/// Index (object, at), in newer ASL object [at]: a reference to an element.
constexpr Code index(const Code& object, const Code& at);
/// Store (value, target), in newer ASL target = value.
constexpr Code store(const Code& value, const Code& target);

// ---- Resource descriptors (6.4) -----------------------------------------------------------------

/// ResourceTemplate () { parts }: a buffer closed by an end tag.
constexpr Code resource_template_of(const Code& descriptors);
template <std::same_as<Code>... Part>
constexpr Code resource_template(const Part&... parts) {
  return resource_template_of(list(parts...));
}

/// IO (Decode16, base, base, 1, size): ports that a device occupies.
constexpr Code io(AddrRange ports);
/// IRQNoFlags () { irq }: an ISA interrupt, edge-triggered, active high.
constexpr Code irq(Gsi irq);
/// Memory32Fixed (ReadWrite, base, size): memory that a device occupies, below 4 GiB.
constexpr Code memory32_fixed(AddrRange memory);

/// What a host bridge hands down to the devices behind it (ResourceProducer, MinFixed, MaxFixed).
constexpr Code bus_window(uint16_t first, uint16_t last);
constexpr Code io_window(AddrRange ports);
constexpr Code memory_window32(AddrRange memory);
constexpr Code memory_window64(AddrRange memory);

}  // namespace ringlet::aml

#include "vmm/acpi/aml_encoding.h"  // IWYU pragma: export
