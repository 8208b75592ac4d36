// PCI configuration space: access through ports 0xcf8/0xcfc or ECAM, capabilities, BARs.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include "lib/span.h"

namespace guest::pci {

struct Bdf {
  uint8_t bus;
  uint8_t device;
  uint8_t function;

  // bits 15:8 bus, 7:3 device, 2:0 function
  constexpr uint32_t value() const {
    return uint32_t{bus} << 8 | uint32_t{device} << 3 | uint32_t{function};
  }
};

// Offsets in the type 0 header (PCI Local Bus Specification 3.0, 6.1).
inline constexpr uint16_t kVendorId = 0x00;
inline constexpr uint16_t kDeviceId = 0x02;
inline constexpr uint16_t kCommand = 0x04;
inline constexpr uint16_t kStatus = 0x06;
inline constexpr uint16_t kRevision = 0x08;
inline constexpr uint16_t kClassCode = 0x0a;
inline constexpr uint16_t kHeaderType = 0x0e;
inline constexpr uint16_t kFirstBar = 0x10;
inline constexpr uint16_t kCapabilityPointer = 0x34;
inline constexpr uint16_t kInterruptLine = 0x3c;
inline constexpr uint16_t kInterruptPin = 0x3d;

inline constexpr uint16_t kCommandIo = 1 << 0;
inline constexpr uint16_t kCommandMemory = 1 << 1;
inline constexpr uint16_t kCommandBusMaster = 1 << 2;
inline constexpr uint16_t kCommandInterruptDisable = 1 << 10;
inline constexpr uint16_t kStatusInterrupt = 1 << 3;
inline constexpr uint16_t kStatusCapabilities = 1 << 4;

inline constexpr uint8_t kCapabilityMsix = 0x11;
inline constexpr uint8_t kCapabilityVendor = 0x09;

enum class Access { Ports, Ecam };

struct Bar {
  bool present;
  bool io;
  bool wide;  // 64-bit: takes the next register too
  bool prefetchable;
  uint64_t address;
};

// One function of a device.
class Function {
 public:
  explicit constexpr Function(Bdf where, Access access = Access::Ports)
      : bdf_(where), access_(access) {}

  Bdf bdf() const { return bdf_; }
  bool present() const { return read<uint16_t>(kVendorId) != 0xffff; }

  template <std::unsigned_integral T>
  T read(uint16_t offset) const {
    return static_cast<T>(read_bytes(offset, sizeof(T)));
  }
  template <std::unsigned_integral T>
  void write(uint16_t offset, T value) const {
    write_bytes(offset, sizeof(T), value);
  }

  // Offset of the first capability, or of the one after the one at `after`.
  std::optional<uint16_t> next_capability(uint16_t after = 0) const;
  // Offset of the first capability with this id after the one at `after` (0: from the start).
  std::optional<uint16_t> find_capability(uint8_t id, uint16_t after = 0) const;

  Bar bar(uint32_t index) const;
  // Moves a memory BAR: writes the address register or registers, and nothing else.
  void set_bar(uint32_t index, uint64_t address) const;
  // What the BAR claims, found by writing ones; 0 when it is not there. Decoding is off meanwhile.
  uint64_t bar_size(uint32_t index) const;

  void set_command(uint16_t set, uint16_t clear = 0) const;

 private:
  uint32_t read_bytes(uint16_t offset, size_t size) const;
  void write_bytes(uint16_t offset, size_t size, uint32_t value) const;

  Bdf bdf_;
  Access access_;
};

// Must be known before the first access by ECAM: the base of bus 0, from the MCFG table.
void set_ecam_base(uint64_t address);

// The n-th function on bus 0 with this vendor and device, in the order of device numbers.
std::optional<Function> find(uint16_t vendor, uint16_t device, uint32_t n);

// MSI-X: the table, mapped, and its function-wide switch.
class Msix {
 public:
  explicit Msix(const Function& function);

  uint16_t size() const { return size_; }
  void set_entry(uint16_t index, uint64_t address, uint32_t data);
  void set_masked(uint16_t index, bool masked);
  bool pending(uint16_t index) const;
  void enable(bool on);
  void mask_all(bool on);

 private:
  Function function_;
  uint16_t capability_;
  uint16_t size_;
  uint64_t table_;
  uint64_t pending_;
};

}  // namespace guest::pci
