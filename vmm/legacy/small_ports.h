// The one-register devices: keyboard controller reset, pvpanic, debug exit and console, boot timer.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "kvm/bus.h"
#include "kvm/log.h"
#include "vmm/events.h"

namespace ringlet {

/// The one thing that an i8042 keyboard controller is still used for: command 0xfe at port 0x64
/// pulses the processor's reset line. Everything else reads as a controller with nothing to say
/// (status 0), so that kernels find no keyboard soon.
class I8042 final : public BusDevice {
 public:
  explicit I8042(MachineEvents& events) : events_(events) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  MachineEvents& events_;
};

/// pvpanic (QEMU's docs/specs/pvpanic): reading tells which events it takes, writing 1 tells that
/// the kernel has panicked. A kernel that loads a crash kernel (2) goes on: that is only logged.
class Pvpanic final : public BusDevice {
 public:
  explicit Pvpanic(MachineEvents& events) : events_(events) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  MachineEvents& events_;
  LogLimit log_limit_;
};

/// For test guests: writing V ends the machine with exit status (V << 1) | 1, as QEMU's
/// isa-debug-exit does.
class DebugExit final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 4;
  explicit DebugExit(MachineEvents& events) : events_(events) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  MachineEvents& events_;
};

/// For test guests: bytes written to it go to the console; it reads as 0xe9, by which guests tell
/// that it is there (Bochs).
class DebugConsole final : public BusDevice {
 public:
  using Output = std::function<void(std::byte)>;
  explicit DebugConsole(Output output) : output_(std::move(output)) {}
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  Output output_;
};

/// The guest writes 123 to its first byte when it is up, and the log gets the time that took since
/// this was made, early in the machine's set-up: wall clock, and CPU time of the whole process. It
/// was asked for, so it is logged at the level that is kept by default.
class BootTimer final : public BusDevice {
 public:
  BootTimer();
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  static constexpr uint8_t kBooted = 123;
  int64_t start_us_;
  int64_t start_cpu_us_;
  bool reported_ = false;
};

}  // namespace ringlet
