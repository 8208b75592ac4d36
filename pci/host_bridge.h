// The root of PCI: bus 0, the two ways to its configuration space, and where BARs are decoded.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "kvm/address.h"
#include "kvm/bus.h"
#include "kvm/log.h"
#include "pci/bdf.h"
#include "pci/function.h"

namespace ringlet {

/// What the ACPI tables say about the bridge, too.
struct PciLayout {
  AddrRange ecam;      ///< guest-physical; 1 MiB (bus 0) or more
  AddrRange window32;  ///< where BARs may lie below 4 GiB
  AddrRange window64;  ///< and above; may be empty
};

struct HostBridgeState {
  uint32_t config_address = 0;
  /// Of the bridge's own function, in slot 0.
  ConfigSpaceState config_space;
};

/// Everything is called under the bus mutex (or during set-up).
///
/// Which BARs are decoded is a function of all functions' registers and nothing else, so it does
/// not depend on the order of the guest's writes and need not be saved: in order of slot and BAR
/// number, a BAR is decoded when its function decodes memory, it lies in a window, and no BAR
/// before it and nothing else on the bus is in its place.
class HostBridge {
 public:
  static constexpr unsigned kSlots = 32;
  /// CONFIG_ADDRESS and CONFIG_DATA (PCI 3.0, 3.2.2.3.2).
  static constexpr AddrRange kConfigPorts{0xcf8, 8};

  /// Puts itself on both buses and a host bridge function into slot 0.
  HostBridge(Buses& buses, const PciLayout& layout);
  HostBridge(const HostBridge&) = delete;
  HostBridge& operator=(const HostBridge&) = delete;

  /// Puts `function`, which must outlive this, into the given slot or the first free one. Throws
  /// ConfigError when the slot is taken or all are. Before assign_bars().
  Bdf add(PciFunction& function, std::optional<unsigned> slot = std::nullopt);

  /// What firmware would do: gives every BAR an address (64-bit ones above 4 GiB as long as there
  /// is room) and lets functions with BARs decode memory. Bus mastering is left to the guest.
  /// Throws ConfigError when a BAR fits nowhere. Before the guest runs.
  void assign_bars();

  /// Where a BAR is decoded now.
  std::optional<GuestAddr> mapped_at(Bdf bdf, unsigned bar) const noexcept;
  /// The bus as `lspci -nv` would show it, a line for a function and one for each of its BARs.
  std::string describe() const;

  HostBridgeState save() const {
    return {.config_address = config_address_, .config_space = bridge_.config().save()};
  }
  /// After all functions' configuration spaces were restored. Of any state no more is taken than a
  /// guest could have brought about.
  void restore(const HostBridgeState& state);

 private:
  /// Mechanism #1: the dword at 0xcf8 selects, the one at 0xcfc is the register.
  struct ConfigPorts final : BusDevice {
    explicit ConfigPorts(HostBridge& bridge) : bridge_(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
    HostBridge& bridge_;
  };
  /// The enhanced mechanism (PCI Express 6.0, 7.2.2): 4 KiB of address space for each function.
  struct Ecam final : BusDevice {
    explicit Ecam(HostBridge& bridge) : bridge_(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
    HostBridge& bridge_;
  };
  using Mapping = std::array<std::optional<GuestAddr>, ConfigSpace::kBars>;
  struct Slot {
    PciFunction* function = nullptr;
    Mapping mapped{};
  };

  PciFunction* find(Bdf bdf) const noexcept;
  /// The guest's accesses, of 1 to 4 bytes inside one dword. What is not there reads as all ones.
  void config_read(Bdf bdf, uint16_t at, std::span<std::byte> data) noexcept;
  /// True when BARs have to settle.
  [[nodiscard]] bool config_write(Bdf bdf, uint16_t at, std::span<const std::byte> data) noexcept;
  void settle() noexcept;
  Mapping decode(const Slot& slot, Bdf bdf) noexcept;

  Bus& mmio_;
  PciLayout layout_;
  ConfigPorts ports_{*this};
  Ecam ecam_{*this};
  PciFunction bridge_;
  uint32_t config_address_ = 0;
  std::array<Slot, kSlots> slots_{};
  LogLimit log_limit_;
};

}  // namespace ringlet
