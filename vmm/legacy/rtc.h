// The CMOS real-time clock of a PC (Motorola MC146818): time of day and battery-backed bytes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "kvm/bus.h"

namespace ringlet {

struct RtcState {
  int64_t offset_s = 0;  ///< the guest's time ahead of the host's
  uint8_t index = 0;
  uint8_t control = 2;
  std::array<uint8_t, 128> ram{};
};

/// Ports 0x70 (index) and 0x71 (data). The time is the host's, in UTC, plus what the guest set it
/// off by; alarms and periodic interrupts are left out, as every kernel here has better timers.
class Rtc final : public BusDevice {
 public:
  /// Seconds since 1970, UTC.
  using Clock = std::function<int64_t()>;

  /// Without a clock of its own: the host's.
  explicit Rtc(Clock clock = {});

  /// The clock goes on with the host's: time that passes until restore() passes for the guest, too.
  RtcState save() const {
    return {.offset_s = offset_, .index = index_, .control = control_, .ram = ram_};
  }
  /// Throws ConfigError when the state cannot be.
  void restore(const RtcState& state);

  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  uint8_t read_register(uint8_t index) noexcept;
  void write_register(uint8_t index, uint8_t value) noexcept;
  uint8_t time_register(uint8_t index) const noexcept;
  void set_time() noexcept;
  uint8_t encode(unsigned value) const noexcept;
  unsigned decode(uint8_t value) const noexcept;
  int64_t now() const noexcept { return clock_() + offset_; }

  Clock clock_;
  int64_t offset_ = 0;  // seconds that the guest's time is ahead of the host's
  uint8_t index_ = 0;
  uint8_t control_;                 // register B
  std::array<uint8_t, 128> ram_{};  // also holds time registers while the guest sets them
};

}  // namespace ringlet
