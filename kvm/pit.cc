// The PIT (Intel 8254 timer), which KVM plays, made when the guest first asks for it.
#include "kvm/pit.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
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

/// Those that have just been made have no count to latch yet.
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

void write_count(kvm_pit_channel_state& counter, uint8_t value) noexcept {
  switch (counter.write_state) {
    case kHighByte: return load(counter, uint32_t{value} << 8);
    case kLowThenHigh:
      counter.write_latch = value;
      counter.write_state = kHighOfBoth;
      return;
    case kHighOfBoth:
      counter.write_state = kLowThenHigh;
      return load(counter, counter.write_latch | uint32_t{value} << 8);
    default: return load(counter, value);  // the low byte, also before any control word
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

}  // namespace

LatePit::LatePit(Vm& vm, Bus& ports) : vm_(vm) {
  [[maybe_unused]] const bool placed =
      ports.insert(kCounterPorts, counters_) && ports.insert(kSpeakerPort, speaker_);
  assert(placed && "its ports are fixed, and it is there first");
}

void LatePit::write_counter_port(kvm_pit_state2& pit, uint64_t port, uint8_t value) noexcept {
  if (port == kControlPort) {
    write_control(pit, value);
  } else {
    assert(port < kCounters);
    write_count(pit.channels[port], value);
  }
}

void LatePit::write_speaker(kvm_pit_state2& pit, uint8_t value) noexcept {
  pit.channels[2].gate = value & kGate;
  pit.flags &= ~uint32_t{KVM_PIT_FLAGS_SPEAKER_DATA_ON};
  if ((value & kSpeakerData) != 0) pit.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
}

uint8_t LatePit::read_speaker(const kvm_pit_state2& pit) noexcept {
  const bool data = (pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
  return static_cast<uint8_t>((data ? kSpeakerData : 0) | (pit.channels[2].gate & kGate));
}

std::optional<kvm_pit_state2> LatePit::state() noexcept {
  if (!vm_.make_pit()) {
    complain("KVM_CREATE_PIT2");
    return std::nullopt;
  }
  kvm_pit_state2 state{};
  if (kvm_ioctl(vm_.fd(), KVM_GET_PIT2, &state) == 0) return state;
  complain("KVM_GET_PIT2");
  return std::nullopt;
}

void LatePit::set_state(const kvm_pit_state2& state) noexcept {
  if (kvm_ioctl(vm_.fd(), KVM_SET_PIT2, &state) < 0) complain("KVM_SET_PIT2");
}

void LatePit::complain(const char* what) noexcept {
  const int error = errno;
  if (log_limit_.allow()) log_error("the guest's timer: {}: {}", what, std::strerror(error));
}

// A counter that nobody has set begins at 0x10000, of which every byte read is 0; so is what the
// control port answers.
void LatePit::Counters::read(uint64_t /*offset*/, std::span<std::byte> data) noexcept {
  if (pit.state()) answer(data, 0);
}

void LatePit::Counters::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  auto state = pit.state();
  if (!state) return;
  write_counter_port(*state, offset, first(data));
  pit.set_state(*state);
}

void LatePit::Speaker::read(uint64_t /*offset*/, std::span<std::byte> data) noexcept {
  if (const auto state = pit.state()) answer(data, read_speaker(*state));
}

void LatePit::Speaker::write(uint64_t /*offset*/, std::span<const std::byte> data) noexcept {
  auto state = pit.state();
  if (!state) return;
  write_speaker(*state, first(data));
  pit.set_state(*state);
}

}  // namespace ringlet
