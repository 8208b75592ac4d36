// The CMOS real-time clock of a PC (Motorola MC146818): time of day and battery-backed bytes.
#include "vmm/legacy/rtc.h"

#include <ctime>
#include <utility>

#include <fmt/core.h>

#include "kvm/error.h"
#include "vmm/layout.h"

namespace ringlet {
namespace {

// The data sheet's registers; the century's place is what the FADT says.
enum Index : uint8_t {
  kSeconds = 0,
  kMinutes = 2,
  kHours = 4,
  kWeekday = 6,
  kDay = 7,
  kMonth = 8,
  kYear = 9,
  kRegisterA = 10,
  kRegisterB = 11,
  kRegisterC = 12,
  kRegisterD = 13,
  kCentury = kCmosCentury,
};

constexpr uint8_t kDividerOn = 0x26;  // A: 32,768 Hz time base, no update in progress
constexpr uint8_t kSet = 0x80;        // B: the guest sets the time, the clock stands
constexpr uint8_t kBinary = 0x04;     // B: binary, not BCD
constexpr uint8_t k24Hours = 0x02;    // B
constexpr uint8_t kValid = 0x80;      // D: the battery is good
constexpr uint8_t kAfternoon = 0x80;  // hours, in 12-hour mode

constexpr uint8_t kLastIndex = 0x7f;
/// Seconds; more than a guest can make of the registers, whose years end before 26,000.
constexpr int64_t kMaxOffset = 1'000'000'000'000;

constexpr uint8_t kTimeRegisters[] = {kSeconds, kMinutes, kHours, kWeekday,
                                      kDay,     kMonth,   kYear,  kCentury};

bool is_time(uint8_t index) {
  for (const uint8_t one : kTimeRegisters) {
    if (one == index) return true;
  }
  return false;
}

std::tm calendar(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return parts;
}

}  // namespace

Rtc::Rtc(Clock clock)
    : clock_(clock ? std::move(clock) : [] { return static_cast<int64_t>(std::time(nullptr)); }),
      control_(k24Hours) {}

void Rtc::restore(const RtcState& state) {
  if (state.index > kLastIndex) {
    throw ConfigError(fmt::format("rtc: the saved state cannot be: index {}, expected 0 to {}",
                                  state.index, kLastIndex));
  }
  if (state.offset_s < -kMaxOffset || state.offset_s > kMaxOffset) {
    throw ConfigError(fmt::format(
        "rtc: the saved state cannot be: the clock is {} s ahead of the host's", state.offset_s));
  }
  offset_ = state.offset_s;
  index_ = state.index;
  control_ = state.control;
  ram_ = state.ram;
}

void Rtc::read(uint64_t offset, std::span<std::byte> data) noexcept {
  if (data.size() != 1) return;
  data[0] = std::byte{offset == 0 ? index_ : read_register(index_)};
}

void Rtc::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  const auto value = std::to_integer<uint8_t>(data[0]);
  if (offset == 0) {
    index_ = value & kLastIndex;  // bit 7 masks NMIs on a PC
    if (data.size() > 1) write_register(index_, std::to_integer<uint8_t>(data[1]));
  } else {
    write_register(index_, value);
  }
}

uint8_t Rtc::encode(unsigned value) const noexcept {
  if ((control_ & kBinary) != 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>(value / 10 % 10 * 16 + value % 10);
}

unsigned Rtc::decode(uint8_t value) const noexcept {
  if ((control_ & kBinary) != 0) return value;
  return (value >> 4) * 10U + (value & 0xfU);
}

uint8_t Rtc::read_register(uint8_t index) noexcept {
  switch (index) {
    case kRegisterA: return kDividerOn;
    case kRegisterB: return control_;
    case kRegisterC: return 0;  // no interrupt is ever pending
    case kRegisterD: return kValid;
    default: break;
  }
  return is_time(index) && (control_ & kSet) == 0 ? time_register(index) : ram_[index];
}

uint8_t Rtc::time_register(uint8_t index) const noexcept {
  const std::tm time = calendar(now());
  const auto year = static_cast<unsigned>(time.tm_year + 1900);
  switch (index) {
    case kSeconds: return encode(static_cast<unsigned>(time.tm_sec));
    case kMinutes: return encode(static_cast<unsigned>(time.tm_min));
    case kHours: break;
    case kWeekday: return encode(static_cast<unsigned>(time.tm_wday + 1));
    case kDay: return encode(static_cast<unsigned>(time.tm_mday));
    case kMonth: return encode(static_cast<unsigned>(time.tm_mon + 1));
    case kYear: return encode(year % 100);
    default: return encode(year / 100);
  }
  const auto hour = static_cast<unsigned>(time.tm_hour);
  if ((control_ & k24Hours) != 0) return encode(hour);
  const unsigned hour12 = hour % 12 == 0 ? 12 : hour % 12;
  return static_cast<uint8_t>(encode(hour12) | (hour >= 12 ? kAfternoon : 0));
}

void Rtc::write_register(uint8_t index, uint8_t value) noexcept {
  if (index == kRegisterB) {
    const bool was_setting = (control_ & kSet) != 0;
    const bool setting = (value & kSet) != 0;
    if (setting && !was_setting) {
      for (const uint8_t one : kTimeRegisters) ram_[one] = time_register(one);
    }
    control_ = value;
    if (was_setting && !setting) set_time();
    return;
  }
  if (index >= kRegisterA && index <= kRegisterD) return;
  ram_[index] = value;
  if (!is_time(index) || (control_ & kSet) != 0) return;
  // Set while the clock runs: the other fields are what they are now.
  for (const uint8_t one : kTimeRegisters) {
    if (one != index) ram_[one] = time_register(one);
  }
  set_time();
}

void Rtc::set_time() noexcept {
  unsigned hour = decode(ram_[kHours]);
  if ((control_ & k24Hours) == 0) {
    hour = decode(ram_[kHours] & 0x7f) % 12 + ((ram_[kHours] & kAfternoon) != 0 ? 12 : 0);
  }
  std::tm time{};
  time.tm_sec = static_cast<int>(decode(ram_[kSeconds]));
  time.tm_min = static_cast<int>(decode(ram_[kMinutes]));
  time.tm_hour = static_cast<int>(hour);
  time.tm_mday = static_cast<int>(decode(ram_[kDay]));
  time.tm_mon = static_cast<int>(decode(ram_[kMonth])) - 1;
  time.tm_year = static_cast<int>(decode(ram_[kCentury]) * 100 + decode(ram_[kYear])) - 1900;
  // timegm() brings fields that are out of range, as a guest may write them, into range.
  offset_ = static_cast<int64_t>(::timegm(&time)) - clock_();
}

}  // namespace ringlet
