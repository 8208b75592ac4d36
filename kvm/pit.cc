// The PIT (Intel 8254 timer), which KVM plays, made when the guest first lets it count.
#include "kvm/pit.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "kvm/error.h"
#include "kvm/ioctl.h"

namespace ringlet {
namespace {

constexpr uint64_t kControlPort = 3;  // behind the three counters
constexpr size_t kCounters = 3;

// The control word (8254 data sheet): counter, access, mode, BCD.
constexpr unsigned kReadBack = 3;
constexpr unsigned kLatch = 0;
constexpr uint8_t kNoStatus = 1 << 4;      // of a read-back command
constexpr uint8_t kFirstCounter = 1 << 1;  // and the two above
constexpr uint8_t kHighByte = 2;
constexpr uint8_t kLowThenHigh = 3;
constexpr uint8_t kHighOfBoth = 4;  // KVM's state behind the low byte

// Port 0x61.
constexpr uint8_t kGate = 1 << 0;
constexpr uint8_t kSpeakerData = 1 << 1;
constexpr uint8_t kRefresh = 1 << 4;  // changes every 15 us or so, and some guests wait by that
constexpr unsigned kRefreshShift = 14;

/// After power-on, as KVM has it: without a mode, counting down from the longest count.
kvm_pit_state2 untouched() noexcept {
  kvm_pit_state2 pit{};
  for (size_t i = 0; i < kCounters; ++i) {
    pit.channels[i].count = 0x1'0000;
    pit.channels[i].mode = 0xff;
    pit.channels[i].gate = i == 2 ? 0 : 1;
  }
  return pit;
}

/// A count of 0 stands for 0x10000.
void load(kvm_pit_channel_state& counter, uint32_t count) noexcept {
  counter.count = count == 0 ? 0x1'0000 : count;
}

/// Keeps what the counter is set to, for the next read of it. Its output is low at first.
void latch_status(kvm_pit_channel_state& counter) noexcept {
  if (counter.status_latched != 0) return;
  counter.status =
      static_cast<uint8_t>(counter.rw_mode << 4 | (counter.mode << 1 & 0xff) | counter.bcd);
  counter.status_latched = 1;
}

/// There is no count to latch yet.
void read_back(kvm_pit_state2& pit, uint8_t value) noexcept {
  if ((value & kNoStatus) != 0) return;
  for (size_t i = 0; i < kCounters; ++i) {
    if ((value & kFirstCounter << i) != 0) latch_status(pit.channels[i]);
  }
}

void write_control(kvm_pit_state2& pit, uint8_t value) noexcept {
  const unsigned number = value >> 6;
  const auto access = static_cast<uint8_t>(value >> 4 & 3);
  if (number == kReadBack) return read_back(pit, value);
  if (access == kLatch) return;
  kvm_pit_channel_state& counter = pit.channels[number];
  counter.rw_mode = counter.read_state = counter.write_state = access;
  const auto mode = static_cast<uint8_t>(value >> 1 & 7);
  counter.mode = mode > 5 ? static_cast<uint8_t>(mode - 4) : mode;  // 6 and 7 are 2 and 3
  counter.bcd = value & 1;
}

/// True when the count is complete, and counting begins.
bool write_count(kvm_pit_channel_state& counter, uint8_t value) noexcept {
  switch (counter.write_state) {
    case kLowThenHigh:
      counter.write_latch = value;
      counter.write_state = kHighOfBoth;
      return false;
    case kHighOfBoth:
      counter.write_state = kLowThenHigh;
      load(counter, counter.write_latch | uint32_t{value} << 8);
      return true;
    case kHighByte: load(counter, uint32_t{value} << 8); return true;
    default: load(counter, value); return true;  // the low byte, also before any control word
  }
}

/// A device of one byte: wider writes count by their first, wider reads are zero behind it.
uint8_t first(std::span<const std::byte> data) noexcept {
  return std::to_integer<uint8_t>(data.front());
}

void answer(std::span<std::byte> data, uint8_t value) noexcept {
  std::ranges::fill(data, std::byte{0});
  data.front() = std::byte{value};
}

uint8_t refresh_bit() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return (std::chrono::nanoseconds(now).count() >> kRefreshShift & 1) != 0 ? kRefresh : uint8_t{0};
}

}  // namespace

LatePit::LatePit(Vm& vm, Bus& ports) : vm_(vm) {
  [[maybe_unused]] const bool placed =
      ports.insert(kCounterPorts, counters_) && ports.insert(kSpeakerPort, speaker_);
  assert(placed && "its ports are fixed, and it is there first");
}

kvm_pit_state2 LatePit::state() noexcept {
  if (!vm_.has_pit()) return vm_.unmade_pit().value_or(untouched());
  kvm_pit_state2 state = untouched();
  if (kvm_ioctl(vm_.fd(), KVM_GET_PIT2, &state) < 0) complain("KVM_GET_PIT2");
  return state;
}

void LatePit::keep(const kvm_pit_state2& state) noexcept {
  if (vm_.has_pit()) {
    make(state);
  } else {
    vm_.set_unmade_pit(state);
  }
}

void LatePit::make(const kvm_pit_state2& state) noexcept {
  if (!vm_.make_pit()) {
    complain("KVM_CREATE_PIT2");
    vm_.set_unmade_pit(state);  // the next access tries again
    return;
  }
  if (kvm_ioctl(vm_.fd(), KVM_SET_PIT2, &state) < 0) complain("KVM_SET_PIT2");
}

void LatePit::complain(const char* what) noexcept {
  const int error = errno;
  if (log_limit_.allow()) log_error("the guest's timer: {}: {}", what, std::strerror(error));
}

void LatePit::Counters::read(uint64_t offset, std::span<std::byte> data) noexcept {
  answer(data, 0);  // also what the control port answers
  if (offset == kControlPort) return;
  kvm_pit_state2 state = pit.state();
  kvm_pit_channel_state& counter = state.channels[offset];
  if (counter.status_latched != 0) {
    counter.status_latched = 0;
    answer(data, counter.status);
    pit.keep(state);
  } else if (!pit.vm_.has_pit()) {
    pit.make(state);  // who reads it again wants it to have moved on
  }
}

void LatePit::Counters::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  kvm_pit_state2 state = pit.state();
  if (offset == kControlPort) {
    write_control(state, first(data));
    pit.keep(state);
  } else if (write_count(state.channels[offset], first(data))) {
    pit.make(state);
  } else {
    pit.keep(state);
  }
}

void LatePit::Speaker::read(uint64_t /*offset*/, std::span<std::byte> data) noexcept {
  const kvm_pit_state2 state = pit.state();
  const bool speaks = (state.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
  const auto set = static_cast<uint8_t>((speaks ? kSpeakerData : 0) |
                                        (state.channels[2].gate & kGate) | refresh_bit());
  answer(data, set);
}

void LatePit::Speaker::write(uint64_t /*offset*/, std::span<const std::byte> data) noexcept {
  kvm_pit_state2 state = pit.state();
  const uint8_t value = first(data);
  state.channels[2].gate = value & kGate;
  state.flags &= ~uint32_t{KVM_PIT_FLAGS_SPEAKER_DATA_ON};
  if ((value & kSpeakerData) != 0) state.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
  pit.keep(state);
}

}  // namespace ringlet
