// The DSDT's content, one function per device; each reads as its ASL would.
#include "vmm/acpi/dsdt.h"

#include <array>
#include <string_view>

namespace ringlet {
namespace {

using namespace aml;  // NOLINT(google-build-using-namespace): so that the code below reads as ASL

// Interrupt pins of the slots behind the host bridge, wired to fixed IOAPIC inputs (6.2.13). Slot
// 0 is the host bridge itself and has none.
constexpr Code interrupt_routing() {
  Code routes;
  Code route;
  size_t count = 0;
  for (unsigned slot = 1; slot < kPciSlots; ++slot) {
    for (unsigned pin = 0; pin < kPciIntxLines; ++pin, ++count) {
      constexpr unsigned kNoLinkDevice = 0;
      const uint32_t any_function = slot << 16 | 0xffff;
      route.clear();
      for (const uint32_t each : {any_function, pin, kNoLinkDevice, intx_gsi(slot, pin).value()}) {
        append_integer(route, each);
      }
      append_package(routes, 4, route);
    }
  }
  return package(count, routes);
}

// clang-format off
// One line for each line of ASL.

// _OSC (PCI Firmware 3.3, 4.5.1): there is no firmware to share the devices with, so the guest is
// granted every control it asks for. Without _OSC, Linux would switch off what it cannot own.
constexpr Code operating_system_capabilities() {
  constexpr auto kPciHostBridge = "33db4d5b-1ff7-401c-9657-7441c03dd766";
  constexpr unsigned kUnrecognizedUuid = 1u << 2;  // in the first byte of the answer
  return method("_OSC", 4,
      if_(equal(arg(0), uuid(kPciHostBridge)),
          return_(arg(3))),
      store(integer(kUnrecognizedUuid), index(arg(3), integer(0))),
      return_(arg(3)));
}

constexpr Code host_bridge_names() {
  return list(
      name("_HID", eisa_id("PNP0A08")),  // PCI Express
      name("_CID", eisa_id("PNP0A03")),  // or PCI, for kernels that do not know that
      name("_UID", integer(0)),
      name("_SEG", integer(0)),
      name("_BBN", integer(0)));
}

constexpr Code host_bridge_windows() {
  return list(
      bus_window(0, 0),
      io(kPciConfigPorts),
      io_window(kPciIoWindow),
      memory_window32(kPciWindow32));
}

constexpr Code host_bridge_rest() {
  return list(
      name("_PRT", interrupt_routing()),
      operating_system_capabilities());
}

Code host_bridge(const Window64& window) {
  return device("PCI0",
      constant<host_bridge_names>(),
      name("_CRS", resource_template(
          constant<host_bridge_windows>(),
          memory_window64(window))),
      constant<host_bridge_rest>());
}

// Addresses that belong to no device driver. Linux believes an MCFG only with ECAM listed here
// (PCI Firmware 3.3, 4.1.2).
constexpr Code motherboard() {
  return device("MBRD",
      name("_HID", eisa_id("PNP0C02")),
      name("_UID", integer(0)),
      name("_CRS", resource_template(memory32_fixed(kEcam))));
}

constexpr Code serial() {
  return device("COM1",
      name("_HID", eisa_id("PNP0501")),  // 16550A
      name("_UID", integer(1)),
      name("_CRS", resource_template(io(kCom1Ports), irq(kCom1Gsi))));
}

constexpr Code rtc() {
  return device("RTC",
      name("_HID", eisa_id("PNP0B00")),  // AT real-time clock
      name("_CRS", resource_template(io(kCmosPorts), irq(kCmosGsi))));
}

constexpr Code pvpanic() {
  constexpr unsigned kPresentEnabledWorking = 0x0b;  // and not shown to the user
  return device("PEVT",
      name("_HID", string("QEMU0001")),
      name("_STA", integer(kPresentEnabledWorking)),
      name("_CRS", resource_template(io(kPvpanicPorts))));
}

// clang-format on

// Processor device `uid`, which is the MADT entry of that UID.
Code processor(uint32_t uid) {
  constexpr std::string_view kHexDigits = "0123456789ABCDEF";
  const std::array<char, 4> own_name{'C', kHexDigits[uid >> 8 & 0xf], kHexDigits[uid >> 4 & 0xf],
                                     kHexDigits[uid & 0xf]};
  return device({own_name.data(), own_name.size()}, name("_HID", string("ACPI0007")),
                name("_UID", integer(uid)));
}

// SLP_TYP values for the PM1a and PM1b control blocks, then two reserved (7.4.2).
constexpr Code soft_off() {
  return name("_S5", package(integer(kSleepTypeS5), integer(kSleepTypeS5), integer(0), integer(0)));
}

}  // namespace

Code build_dsdt(const AcpiConfig& config) {
  Code devices = list(host_bridge(config.window64), constant<motherboard>());
  if (config.has_serial) append(devices, constant<serial>());
  if (config.has_rtc) append(devices, constant<rtc>());
  if (config.has_pvpanic) append(devices, constant<pvpanic>());
  for (uint32_t uid = 0; uid < config.apic_ids.size(); ++uid) append(devices, processor(uid));
  return list(constant<soft_off>(), scope("\\_SB", devices));
}

}  // namespace ringlet
