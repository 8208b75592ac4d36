// A VM just big enough for a few instructions of test code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvm/bus.h"
#include "kvm/irq_router.h"
#include "kvm/kvm.h"
#include "kvm/memory.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

namespace ringlet {

/// Writes down each access, as "out 0x100 89abcdef" or "in 0x100"; reads give the bytes a1 a2 ...
class Journal final : public BusDevice {
 public:
  explicit Journal(uint64_t base) : base_(base) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
  /// What was written down since the last call.
  std::vector<std::string> take();

 private:
  uint64_t base_;
  std::vector<std::string> lines_;
};

/// A byte written here is a message for the test, and ends Vcpu::run().
class MessagePort final : public BusDevice {
 public:
  explicit MessagePort(Vcpu& vcpu) : vcpu_(vcpu) {}
  void read(uint64_t, std::span<std::byte>) noexcept override {}
  void write(uint64_t, std::span<const std::byte> data) noexcept override;
  std::optional<uint8_t> take();

 private:
  Vcpu& vcpu_;
  std::optional<uint8_t> message_;
};

/// One vCPU in 32-bit protected mode, 2 MiB of RAM, and the code at kCode. Ports 0x80 to 0x83
/// take values from the guest, ports 0x100 to 0x1ff and 4 KiB of MMIO at kMmio are journals,
/// port 0xf4 takes a message.
class TinyGuest {
 public:
  static constexpr uint64_t kCode = 0x1000;
  static constexpr uint64_t kMmio = 0xd000'0000;

  explicit TinyGuest(std::span<const uint8_t> code);

  /// Runs until the guest sends a message, and returns that. Nothing when something else ended the
  /// run, or when it took too long: `exit` tells.
  std::optional<uint8_t> next_message();
  /// The values written to port 0x80 since the last call.
  std::vector<uint32_t> take_values();
  void write(uint64_t at, std::span<const uint8_t> bytes);
  std::vector<uint8_t> read(uint64_t at, size_t size) const;

  Kvm kvm;
  GuestMemory memory;
  Vm vm;
  IrqRouter irqs;
  Buses buses;
  Vcpu vcpu;
  Journal ports{0x100};
  Journal mmio{kMmio};
  VcpuExit exit;

 private:
  class Values final : public BusDevice {
   public:
    void read(uint64_t, std::span<std::byte>) noexcept override {}
    void write(uint64_t offset, std::span<const std::byte> data) noexcept override;
    std::vector<uint32_t> list;
  };

  MessagePort messages_;
  Values values_;
};

/// Calls vcpu.kick() after ten seconds, unless destroyed before: no test hangs.
class Watchdog {
 public:
  explicit Watchdog(Vcpu& vcpu);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringlet
