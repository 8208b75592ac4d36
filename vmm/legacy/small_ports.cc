// The one-register devices: keyboard controller reset, pvpanic, debug exit and console, boot timer.
#include "vmm/legacy/small_ports.h"

#include <algorithm>
#include <cstring>
#include <ctime>

namespace ringlet {
namespace {

int64_t now_us(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000 + time.tv_nsec / 1000;
}

}  // namespace

void I8042::read(uint64_t, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0});
}

void I8042::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  constexpr uint64_t kCommand = 0;  // the range begins at port 0x64
  constexpr std::byte kPulseReset{0xfe};
  if (offset == kCommand && data[0] == kPulseReset) events_.guest_request(GuestRequest::Reset, 0);
}

namespace {

constexpr std::byte kPanicked{1};
constexpr std::byte kCrashLoaded{2};

}  // namespace

void Pvpanic::read(uint64_t, std::span<std::byte> data) noexcept {
  data[0] = kPanicked | kCrashLoaded;
}

void Pvpanic::write(uint64_t, std::span<const std::byte> data) noexcept {
  if ((data[0] & kPanicked) != std::byte{0}) {
    events_.guest_request(GuestRequest::Panic, 0);
  } else if ((data[0] & kCrashLoaded) != std::byte{0} && log_limit_.allow()) {
    log_warn("the guest has panicked and loads a crash kernel");
  }
}

void DebugExit::read(uint64_t, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0});
}

void DebugExit::write(uint64_t, std::span<const std::byte> data) noexcept {
  uint32_t value = 0;
  std::memcpy(&value, data.data(), std::min(data.size(), sizeof value));
  events_.guest_request(GuestRequest::DebugExit, static_cast<uint8_t>(value << 1 | 1));
}

void DebugConsole::read(uint64_t, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0xe9});
}

void DebugConsole::write(uint64_t, std::span<const std::byte> data) noexcept {
  for (const std::byte byte : data) output_(byte);
}

BootTimer::BootTimer()
    : start_us_(now_us(CLOCK_MONOTONIC)), start_cpu_us_(now_us(CLOCK_PROCESS_CPUTIME_ID)) {}

void BootTimer::read(uint64_t, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0});
}

void BootTimer::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  if (offset != 0 || data[0] != std::byte{kBooted} || reported_) return;
  reported_ = true;
  const int64_t wall = now_us(CLOCK_MONOTONIC) - start_us_;
  const int64_t cpu = now_us(CLOCK_PROCESS_CPUTIME_ID) - start_cpu_us_;
  log_message(LogLevel::Warn, fmt::format("Guest-boot-time = {:6} us {} ms, {:6} CPU us {} CPU ms",
                                          wall, wall / 1000, cpu, cpu / 1000));
}

}  // namespace ringlet
