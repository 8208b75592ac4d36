// Fills in the ACPI tables and places them one behind the other.
//
// The machine is "full" ACPI, not hardware-reduced: that gives it a poweroff and a power button
// which every kernel knows without AML. It has no PM timer: ACPI 5.0A made that optional, kernels
// calibrate by kvmclock or the PIT, and a clock that costs an exit for each reading helps nobody.
#include "vmm/acpi/tables.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "kvm/wire.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/dsdt.h"
#include "vmm/acpi/wire.h"

namespace ringlet {
namespace {

using Bytes = std::vector<std::byte>;
using aml::append;

// The value that makes the bytes' sum zero once it takes the place of a zero among them.
std::byte checksum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte each : bytes) sum += std::to_integer<unsigned>(each);
  return static_cast<std::byte>(-sum & 0xff);
}

// A table that starts with `head`, of whatever type, and goes on with `tail`: sets the length and
// the checksum, which every table has in the same place.
template <typename Head>
Bytes finish(const Head& head, std::span<const std::byte> tail = {}) {
  Bytes table;
  append(table, bytes_of(head));
  append(table, tail);
  const auto length = bytes_of(le32{static_cast<uint32_t>(table.size())});
  std::ranges::copy(length, table.begin() + offsetof(acpi::Header, length));
  table[offsetof(acpi::Header, checksum)] = checksum(table);
  return table;
}

// Where the tables go: each at the next free address that is aligned for any of them.
class Area {
 public:
  // Appends `table` and returns its guest-physical address.
  uint64_t place(std::span<const std::byte> table) {
    blob_.resize((blob_.size() + acpi::kTableAlign - 1) / acpi::kTableAlign * acpi::kTableAlign);
    const uint64_t address = kAcpiTables.base + blob_.size();
    append(blob_, table);
    assert(blob_.size() <= kAcpiTables.size);
    return address;
  }
  // Overwrites the start of the area.
  void set_front(std::span<const std::byte> bytes) { std::ranges::copy(bytes, blob_.begin()); }
  Bytes take() { return std::move(blob_); }

 private:
  Bytes blob_;
};

Bytes dsdt(const AcpiConfig& config) {
  // Revision 2 makes AML integers 64 bits wide.
  const acpi::Header header{.signature = {'D', 'S', 'D', 'T'}, .revision = 2};
  return finish(header, build_dsdt(config));
}

Bytes fadt(const AcpiConfig& config, uint64_t facs_address, uint64_t dsdt_address) {
  acpi::Fadt fadt;
  fadt.firmware_ctrl = static_cast<uint32_t>(facs_address);
  fadt.dsdt = static_cast<uint32_t>(dsdt_address);
  fadt.x_dsdt = dsdt_address;
  fadt.century = config.has_rtc ? kCmosCentury : uint8_t{0};
  fadt.iapc_boot_arch = static_cast<uint16_t>(acpi::kBootVgaNotPresent |
                                              (config.has_serial ? acpi::kBootLegacyDevices : 0) |
                                              (config.has_rtc ? 0 : acpi::kBootCmosRtcNotPresent));
  return finish(fadt);
}

// Processors whose APIC id fits in 8 bits get the old entry, which every kernel reads, and 255
// means all of them there (5.2.12.12).
Bytes madt(const AcpiConfig& config) {
  constexpr uint32_t kFirstX2ApicOnly = 255;
  Bytes entries;
  bool has_x2apic = false;
  for (uint32_t uid = 0; uid < config.apic_ids.size(); ++uid) {
    const uint32_t id = config.apic_ids[uid];
    if (id < kFirstX2ApicOnly && uid < kFirstX2ApicOnly) {
      append(entries, bytes_of(acpi::MadtLocalApic{.processor_uid = static_cast<uint8_t>(uid),
                                                   .apic_id = static_cast<uint8_t>(id)}));
    } else {
      append(entries, bytes_of(acpi::MadtLocalX2Apic{.apic_id = id, .processor_uid = uid}));
      has_x2apic = true;
    }
  }
  append(entries, bytes_of(acpi::MadtIoApic{}));
  append(entries,
         bytes_of(acpi::MadtSourceOverride{
             .source = kSciGsi.value(), .gsi = kSciGsi.value(), .flags = acpi::kLevelActiveHigh}));
  append(entries, bytes_of(acpi::MadtLocalApicNmi{}));
  if (has_x2apic) append(entries, bytes_of(acpi::MadtLocalX2ApicNmi{}));
  return finish(acpi::Madt{}, entries);
}

Bytes xsdt(std::span<const uint64_t> tables) {
  Bytes entries;
  for (const uint64_t address : tables) append(entries, bytes_of(le64{address}));
  return finish(acpi::Header{.signature = {'X', 'S', 'D', 'T'}, .revision = 1}, entries);
}

auto rsdp(uint64_t xsdt_address) {
  auto bytes = bytes_of(acpi::Rsdp{.xsdt_address = xsdt_address});
  bytes[offsetof(acpi::Rsdp, checksum)] = checksum(std::span(bytes).first(acpi::kRsdpVersion1Size));
  bytes[offsetof(acpi::Rsdp, extended_checksum)] = checksum(bytes);
  return bytes;
}

}  // namespace

AcpiTables build_acpi(const AcpiConfig& config) {
  assert(!config.apic_ids.empty());
  Area area;
  const uint64_t rsdp_address = area.place(bytes_of(acpi::Rsdp{}));  // its pointer comes last
  const uint64_t facs_address = area.place(bytes_of(acpi::Facs{}));
  const uint64_t dsdt_address = area.place(dsdt(config));
  const std::array listed{
      area.place(fadt(config, facs_address, dsdt_address)),
      area.place(madt(config)),
      area.place(finish(acpi::Mcfg{})),
  };
  area.set_front(bytes_of(rsdp(area.place(xsdt(listed)))));
  return {.blob = area.take(), .rsdp = rsdp_address};
}

}  // namespace ringlet
