// MSI-X: the capability, the vector table and the pending bit array (PCI 3.0, 6.8.2).
//
// A vector is *effective* while MSI-X is enabled, the function may write to memory (Bus Master),
// and neither function nor vector is masked; then KVM turns a write to its eventfd into the
// message. Otherwise the eventfd is detached and its counter is the pending bit, so unmasking
// delivers what came meanwhile, and the I/O loop writes to one and the same descriptor whatever
// the guest does to the table.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kvm/irq.h"
#include "kvm/log.h"
#include "pci/config_space.h"

namespace ringlet {

/// Where table and pending bits lie; both BARs are the function's own.
struct MsixLayout {
  uint16_t vectors = 1;  ///< 1 to 2048
  unsigned table_bar = 0;
  uint32_t table_offset = 0;  ///< multiple of 8; msix_table_size() bytes
  unsigned pba_bar = 0;
  uint32_t pba_offset = 0;  ///< multiple of 8; msix_pba_size() bytes
};

constexpr size_t msix_table_size(uint16_t vectors) {
  return size_t{16} * vectors;
}
constexpr size_t msix_pba_size(uint16_t vectors) {
  return (size_t{vectors} + 63) / 64 * 8;
}

struct MsixVectorState {
  uint64_t address = 0;
  uint32_t data = 0;
  bool masked = true;
  bool pending = false;
};

/// Message Control is saved with the configuration space.
struct MsixState {
  std::vector<MsixVectorState> vectors;
};

/// Everything under the bus mutex, but for enabled().
class Msix final : public CapabilityHandler {
 public:
  /// Adds the capability to `config`. Both arguments must outlive this.
  Msix(ConfigSpace& config, InterruptSource& interrupts, const MsixLayout& layout);

  uint16_t vectors() const noexcept { return static_cast<uint16_t>(entries_.size()); }

  /// The guest's accesses to the table and to the pending bits, `offset` bytes into them; data
  /// beyond their end is left alone. The specification knows aligned dwords and qwords only; here
  /// any width does what it says.
  void table_read(uint64_t offset, std::span<std::byte> data) const noexcept;
  void table_write(uint64_t offset, std::span<const std::byte> data) noexcept;
  /// Read-only: writes are to be dropped (6.8.2.10).
  void pba_read(uint64_t offset, std::span<std::byte> data) const noexcept;

  /// The eventfd that signals `vector`, the same for the rest of this object's life. Made on the
  /// first call: a vector that no queue uses costs the host nothing. Nothing when there is no such
  /// vector or the host has no descriptor left (logged).
  std::optional<int> vector_fd(uint16_t vector) noexcept;

  /// Whether the guest enabled MSI-X. Any thread.
  bool enabled() const noexcept { return enabled_.load(std::memory_order_acquire); }

  /// Call it from PciFunction::command_changed().
  void command_changed() noexcept;

  /// Forgets pending interrupts: the device was reset.
  void clear_pending() noexcept;

  MsixState save() const;
  /// After the configuration space was restored. Entries that `state` lacks stay masked. Pending
  /// bits are not raised here, as that is a write to an eventfd: the owner signals the vectors
  /// that `state` calls pending anew, as if the device had.
  void restore(const MsixState& state);

  void capability_written(size_t offset, std::span<const std::byte> data) noexcept override;

 private:
  struct Entry {
    MsiMessage message;
    bool masked = true;
    bool attached = false;
    std::unique_ptr<MsiVector> host;
  };

  bool is_pending(size_t vector) const noexcept;
  void update(Entry& entry, bool message_changed) noexcept;
  void update_control() noexcept;

  ConfigSpace& config_;
  InterruptSource& interrupts_;
  std::vector<Entry> entries_;
  uint8_t capability_ = 0;
  std::atomic<bool> enabled_{false};
  bool function_masked_ = false;
  LogLimit log_limit_;
};

}  // namespace ringlet
