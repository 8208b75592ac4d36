// The configuration space of a PCI function: type 0 header, base address registers, capabilities.
//
//   0x00 ┌─────────────────────┬─────────────────────┐
//        │ Device ID           │ Vendor ID           │   A byte of the space is a value and a
//   0x04 ├─────────────────────┼─────────────────────┤   mask of the bits the guest may change.
//        │ Status              │ Command             │   That is all there is to BAR sizing
//   0x08 ├─────────────────────┴──────────┬──────────┤   (6.2.5.1), read-only and reserved
//        │ Class Code                     │ Revision │   registers, and partial writes.
//   0x0c ├──────────┬──────────┬──────────┼──────────┤
//        │ BIST     │ Header   │ Latency  │ Cacheline│   Offsets 0x100 to 0xfff, which only ECAM
//   0x10 ├──────────┴──────────┴──────────┴──────────┤   reaches, read as zero: the end mark of
//        │ BAR 0 to 5                                │   an empty extended capability list
//   0x2c ├─────────────────────┬─────────────────────┤   (PCI Express 6.0, 7.6.1).
//        │ Subsystem ID        │ Subsystem Vendor ID │
//   0x34 ├─────────────────────┴──────────┬──────────┤
//        │ Reserved                       │ Cap. Ptr │
//   0x3c ├──────────┬──────────┬──────────┼──────────┤
//        │ Max_Lat  │ Min_Gnt  │ Int. Pin │ Int. Line│
//   0x40 ├──────────┴──────────┴──────────┴──────────┤
//        │ capabilities, in the order they were added│
//  0x100 └───────────────────────────────────────────┘
//
// Clauses without a document's name are those of the PCI Local Bus Specification 3.0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvm/address.h"

namespace ringlet {

/// Offsets of the type 0 header's registers (6.1).
enum ConfigOffset : uint16_t {
  kConfigVendor = 0x00,
  kConfigDevice = 0x02,
  kConfigCommand = 0x04,
  kConfigStatus = 0x06,
  kConfigRevision = 0x08,
  kConfigClass = 0x09,
  kConfigCacheLine = 0x0c,
  kConfigBar0 = 0x10,
  kConfigSubsystemVendor = 0x2c,
  kConfigSubsystem = 0x2e,
  kConfigCapabilities = 0x34,
  kConfigInterruptLine = 0x3c,
  kConfigInterruptPin = 0x3d,
};

/// The Command register (6.2.2). Bits that are not here read as zero: no function has I/O ports,
/// special cycles, VGA or fast back-to-back.
struct PciCommand {
  static constexpr uint16_t kMemory = 1 << 1;        ///< answers in its memory BARs
  static constexpr uint16_t kBusMaster = 1 << 2;     ///< may access memory and send MSI
  static constexpr uint16_t kParity = 1 << 6;        ///< no effect: nothing has parity errors
  static constexpr uint16_t kSerr = 1 << 8;          ///< no effect: there is no SERR# either
  static constexpr uint16_t kIntxDisable = 1 << 10;  ///< must not assert its INTx# pin
  static constexpr uint16_t kWritable = kMemory | kBusMaster | kParity | kSerr | kIntxDisable;

  uint16_t value = 0;

  constexpr bool memory() const { return (value & kMemory) != 0; }
  constexpr bool bus_master() const { return (value & kBusMaster) != 0; }
  constexpr bool intx_disabled() const { return (value & kIntxDisable) != 0; }
  constexpr bool operator==(const PciCommand&) const = default;
};

/// The INTx# pin a function is wired to (6.2.4, Interrupt Pin).
enum class IntxPin : uint8_t { None = 0, A = 1, B = 2, C = 3, D = 4 };

/// What a function is, for its header's read-only registers.
struct PciIdentity {
  uint16_t vendor = 0xffff;
  uint16_t device = 0xffff;
  uint8_t revision = 0;
  uint32_t class_code = 0;  ///< 24 bits: base class, sub-class, programming interface
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
};

/// A memory base address register (6.2.5.1).
struct Bar {
  unsigned index = 0;  ///< 0 to 5; a 64-bit BAR takes the next one too
  uint64_t size = 0;   ///< bytes: a power of two, at least 16 (a page, if anyone is to map it)
  bool is_64bit = true;
  bool prefetchable = false;
};

/// Has a say in the guest's accesses to one capability. Offsets count from the capability's first
/// byte (its ID), as specifications draw it. Under the bus mutex.
class CapabilityHandler {
 public:
  /// The guest reads data.size() (1 to 4) bytes; `data` comes with the stored ones.
  virtual void capability_read(size_t /*offset*/, std::span<std::byte> /*data*/) noexcept {}
  /// The guest wrote data.size() (1 to 4) bytes. Those of them that are writable are stored; this
  /// is `data` as the guest gave it.
  virtual void capability_written(size_t /*offset*/, std::span<const std::byte> /*data*/) noexcept {
  }

 protected:
  ~CapabilityHandler() = default;
};

struct Capability {
  uint8_t id = 0;
  /// What follows the ID and the next pointer, which the configuration space writes.
  std::span<const std::byte> body;
  /// The bits of `body` that the guest may change; as long as `body`, or empty for none.
  std::span<const std::byte> writable{};
  /// Must outlive the configuration space.
  CapabilityHandler* handler = nullptr;
};

/// The bits that the guest may change; the others follow from how the machine was made.
struct ConfigSpaceState {
  std::array<uint8_t, 256> bytes{};
};

/// Belongs to whoever holds the bus mutex, like everything the guest configures.
class ConfigSpace {
 public:
  static constexpr size_t kSize = 256;
  static constexpr size_t kBars = 6;

  /// What a write brought about, for those who act on it.
  struct Change {
    bool command = false;   ///< the Command register has a new value
    bool decoding = false;  ///< a BAR, or whether memory is decoded at all, changed
  };

  explicit ConfigSpace(const PciIdentity& identity);
  ConfigSpace(const ConfigSpace&) = delete;
  ConfigSpace& operator=(const ConfigSpace&) = delete;

  // Building. What does not fit is our mistake: an assert.

  /// `line` is what firmware would leave for systems without ACPI: the pin's interrupt number.
  void set_interrupt(IntxPin pin, uint8_t line);
  void add_bar(const Bar& bar);
  /// Appends to the list; returns the capability's offset.
  uint8_t add_capability(const Capability& capability);

  // The guest's accesses: 1 to 4 bytes inside one dword below 4096. `data` is little-endian.

  void read(uint16_t at, std::span<std::byte> data) noexcept;
  Change write(uint16_t at, std::span<const std::byte> data) noexcept;

  // The host's view of the registers: no handler is called.

  PciCommand command() const noexcept { return {read16(kConfigCommand)}; }
  void set_command(PciCommand command) noexcept;
  const std::optional<Bar>& bar(unsigned index) const { return bars_.at(index); }
  /// Where the BAR points, decoded or not.
  uint64_t bar_base(unsigned index) const noexcept;
  /// As the guest would write it; `base` must be aligned to the size.
  void set_bar_base(unsigned index, uint64_t base) noexcept;
  /// Bytes of a capability's body that the function itself changes.
  void store(size_t at, std::span<const std::byte> data) noexcept;
  /// The Status register's Interrupt Status bit (6.2.3).
  void set_interrupt_status(bool asserted) noexcept;
  uint8_t read8(size_t at) const noexcept { return static_cast<uint8_t>(get(at, 1)); }
  uint16_t read16(size_t at) const noexcept { return static_cast<uint16_t>(get(at, 2)); }
  uint32_t read32(size_t at) const noexcept { return static_cast<uint32_t>(get(at, 4)); }

  ConfigSpaceState save() const;
  /// Takes over the writable bits and nothing else, so a made-up state can do what a guest can.
  /// No handler is called; the host bridge has to settle, MSI-X and INTx have to look again.
  void restore(const ConfigSpaceState& state);

 private:
  struct Placed {
    uint8_t at;
    uint8_t size;
    CapabilityHandler* handler;
  };

  uint64_t get(size_t at, size_t width) const noexcept;
  void set(size_t at, size_t width, uint64_t value) noexcept;
  void set_writable(size_t at, size_t width, uint64_t mask) noexcept;

  std::array<std::byte, kSize> value_{};
  std::array<std::byte, kSize> writable_{};
  std::array<std::optional<Bar>, kBars> bars_{};
  std::vector<Placed> capabilities_;
};

}  // namespace ringlet
