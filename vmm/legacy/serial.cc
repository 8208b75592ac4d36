// A serial port: the 16550A UART of a PC, as its data sheet (TI TL16C550C) describes it.
#include "vmm/legacy/serial.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

// Offsets of the registers. With the divisor latch open, 0 and 1 are the divisor.
enum : uint64_t {
  kData = 0,
  kInterruptEnable = 1,
  kInterruptId = 2,  // reads
  kFifoControl = 2,  // writes
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

// Interrupt enable.
constexpr uint8_t kEnableReceived = 0x01;
constexpr uint8_t kEnableEmpty = 0x02;
constexpr uint8_t kEnableLineStatus = 0x04;
constexpr uint8_t kEnableMask = 0x0f;

// Interrupt identification, by falling priority.
constexpr uint8_t kIdLineStatus = 0x06;
constexpr uint8_t kIdReceived = 0x04;
constexpr uint8_t kIdTimeout = 0x0c;  // fewer bytes than the trigger level, and no more coming
constexpr uint8_t kIdEmpty = 0x02;
constexpr uint8_t kIdNone = 0x01;
constexpr uint8_t kIdFifosEnabled = 0xc0;

// FIFO control.
constexpr uint8_t kFifoEnable = 0x01;
constexpr uint8_t kFifoClearReceived = 0x02;
constexpr unsigned kFifoTriggerShift = 6;
constexpr std::array<uint8_t, 4> kTriggerLevels{1, 4, 8, 14};

constexpr uint8_t kDivisorLatch = 0x80;  // of line control

// Modem control, and the modem status lines that loopback wires it to.
constexpr uint8_t kDtr = 0x01;
constexpr uint8_t kRts = 0x02;
constexpr uint8_t kOut1 = 0x04;
constexpr uint8_t kOut2 = 0x08;
constexpr uint8_t kLoopback = 0x10;
constexpr uint8_t kModemControlMask = 0x1f;
constexpr uint8_t kCts = 0x10;
constexpr uint8_t kDsr = 0x20;
constexpr uint8_t kRing = 0x40;
constexpr uint8_t kCarrier = 0x80;

// Line status.
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kOverrun = 0x02;
constexpr uint8_t kHoldingEmpty = 0x20;
constexpr uint8_t kTransmitterEmpty = 0x40;

}  // namespace

bool Serial::loopback() const {
  return (modem_control_ & kLoopback) != 0;
}

bool Serial::divisor_latch() const {
  return (line_control_ & kDivisorLatch) != 0;
}

size_t Serial::fifo_capacity() const {
  return fifos_enabled_ ? kFifoSize : 1;
}

// ---- Saving and restoring ----------------------------------------------------------------------

SerialState Serial::save() const {
  const std::lock_guard lock(mutex_);
  SerialState state{.divisor = divisor_,
                    .interrupt_enable = interrupt_enable_,
                    .line_control = line_control_,
                    .modem_control = modem_control_,
                    .scratch = scratch_,
                    .fifos_enabled = fifos_enabled_,
                    .trigger_level = trigger_level_,
                    .overrun = overrun_,
                    .empty_pending = empty_pending_,
                    .waits_for_room = waits_for_room_};
  for (size_t i = 0; i < fifo_count_; ++i) {
    state.received.push_back(fifo_[(fifo_first_ + i) % kFifoSize]);
  }
  return state;
}

void Serial::restore(const SerialState& state) {
  const std::span<const uint8_t> levels(kTriggerLevels);
  const bool level_can_be = std::ranges::find(levels, state.trigger_level) != levels.end() &&
                            (state.fifos_enabled || state.trigger_level == 1);
  if ((state.interrupt_enable & ~kEnableMask) != 0 ||
      (state.modem_control & ~kModemControlMask) != 0 || !level_can_be) {
    throw ConfigError(fmt::format(
        "serial: the saved state cannot be: interrupt enable {:#x}, modem control {:#x}, trigger "
        "level {}",
        state.interrupt_enable, state.modem_control, state.trigger_level));
  }
  const std::lock_guard lock(mutex_);
  const size_t capacity = state.fifos_enabled ? kFifoSize : 1;
  if (state.received.size() > capacity) {
    throw ConfigError(
        fmt::format("serial: the saved state cannot be: {} bytes received, room for {}",
                    state.received.size(), capacity));
  }
  divisor_ = state.divisor;
  interrupt_enable_ = state.interrupt_enable;
  line_control_ = state.line_control;
  modem_control_ = state.modem_control;
  scratch_ = state.scratch;
  fifos_enabled_ = state.fifos_enabled;
  trigger_level_ = state.trigger_level;
  overrun_ = state.overrun;
  fifo_first_ = 0;
  fifo_count_ = state.received.size();
  std::ranges::copy(state.received, fifo_.begin());
  // Who waited for room learns of this peer's.
  empty_pending_ = state.empty_pending || (state.waits_for_room && transmitter_empty());
  irq_level_ = pending_interrupt() != kIdNone;
  irq_->set(irq_level_);  // also when low: the line may have been made with another level
}

// ---- Receiving ---------------------------------------------------------------------------------

size_t Serial::receive(std::span<const std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  size_t taken = 0;
  // In loopback the wire is cut.
  while (!loopback() && taken < data.size() && fifo_count_ < fifo_capacity()) {
    push_received(std::to_integer<uint8_t>(data[taken++]));
  }
  input_waits_ = taken < data.size();
  update_irq();
  return taken;
}

void Serial::push_received(uint8_t value) {
  if (fifo_count_ == fifo_capacity()) {
    overrun_ = true;
    return;
  }
  fifo_[(fifo_first_ + fifo_count_++) % kFifoSize] = value;
}

uint8_t Serial::pop_received() {
  if (fifo_count_ == 0) return 0;
  const uint8_t value = fifo_[fifo_first_];
  fifo_first_ = (fifo_first_ + 1) % kFifoSize;
  --fifo_count_;
  tell_room();
  return value;
}

// The peer refills an empty FIFO, not each place in it: a wake-up of the I/O loop is dear.
void Serial::tell_room() {
  if (fifo_count_ == 0 && !loopback() && std::exchange(input_waits_, false)) peer_->can_receive();
}

// ---- Sending -----------------------------------------------------------------------------------

bool Serial::transmitter_empty() {
  const bool room = loopback() || peer_ == nullptr || peer_->has_room();
  waits_for_room_ = !room;
  return room;
}

void Serial::send(uint8_t value) {
  if (loopback()) {
    push_received(value);
  } else if (peer_ != nullptr) {
    peer_->send(std::byte{value});
  }
  empty_pending_ = transmitter_empty();
}

void Serial::room_again() noexcept {
  const std::lock_guard lock(mutex_);
  if (!waits_for_room_ || !transmitter_empty()) return;
  empty_pending_ = true;
  update_irq();
}

// ---- Interrupts --------------------------------------------------------------------------------

uint8_t Serial::pending_interrupt() const {
  if ((interrupt_enable_ & kEnableLineStatus) != 0 && overrun_) return kIdLineStatus;
  if ((interrupt_enable_ & kEnableReceived) != 0 && fifo_count_ > 0) {
    return fifo_count_ >= trigger_level_ ? kIdReceived : kIdTimeout;
  }
  if ((interrupt_enable_ & kEnableEmpty) != 0 && empty_pending_) return kIdEmpty;
  return kIdNone;
}

// OUT2, which connects the line on a PC, is taken as set: QEMU does so, and guests rely on it.
void Serial::update_irq() {
  const bool level = pending_interrupt() != kIdNone;
  if (std::exchange(irq_level_, level) != level) irq_->set(level);
}

// Being told of the empty transmitter is what ends that interrupt.
uint8_t Serial::read_interrupt_id() {
  const uint8_t id = pending_interrupt();
  if (id == kIdEmpty) empty_pending_ = false;
  return static_cast<uint8_t>(id | (fifos_enabled_ ? kIdFifosEnabled : 0));
}

// Enabling the interrupt while the transmitter is empty raises it: drivers start sending so.
void Serial::set_interrupt_enable(uint8_t value) {
  const uint8_t before = std::exchange(interrupt_enable_, value & kEnableMask);
  if ((interrupt_enable_ & ~before & kEnableEmpty) != 0) empty_pending_ = transmitter_empty();
}

// ---- Registers ---------------------------------------------------------------------------------

void Serial::set_fifo_control(uint8_t value) {
  const bool enabled = (value & kFifoEnable) != 0;
  // A change of mode empties the FIFOs, whatever the other bits say.
  const bool clear = enabled != fifos_enabled_ || (value & kFifoClearReceived) != 0;
  fifos_enabled_ = enabled;
  trigger_level_ = enabled ? kTriggerLevels[value >> kFifoTriggerShift] : uint8_t{1};
  if (clear) fifo_count_ = 0;
  tell_room();
}

uint8_t Serial::read_line_status() {
  const uint8_t empty = transmitter_empty() ? kHoldingEmpty | kTransmitterEmpty : 0;
  const uint8_t overrun = std::exchange(overrun_, false) ? kOverrun : 0;
  return static_cast<uint8_t>((fifo_count_ > 0 ? kDataReady : 0) | overrun | empty);
}

// Somebody is always at the other end, so that a guest need not be told to ignore the carrier.
uint8_t Serial::read_modem_status() const {
  if (!loopback()) return kCarrier | kDsr | kCts;
  const uint8_t control = modem_control_;
  return static_cast<uint8_t>(
      ((control & kDtr) != 0 ? kDsr : 0) | ((control & kRts) != 0 ? kCts : 0) |
      ((control & kOut1) != 0 ? kRing : 0) | ((control & kOut2) != 0 ? kCarrier : 0));
}

uint8_t Serial::read_register(uint64_t offset) {
  uint8_t value = 0xff;
  switch (offset) {
    case kData: value = divisor_latch() ? static_cast<uint8_t>(divisor_) : pop_received(); break;
    case kInterruptEnable:
      value = divisor_latch() ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
      break;
    case kInterruptId: value = read_interrupt_id(); break;
    case kLineControl: value = line_control_; break;
    case kModemControl: value = modem_control_; break;
    case kLineStatus: value = read_line_status(); break;
    case kModemStatus: value = read_modem_status(); break;
    case kScratch: value = scratch_; break;
    default: break;
  }
  return value;
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (divisor_latch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
      } else {
        send(value);
      }
      break;
    case kInterruptEnable:
      if (divisor_latch()) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0x00ff) | (value << 8));
      } else {
        set_interrupt_enable(value);
      }
      break;
    case kFifoControl: set_fifo_control(value); break;
    case kLineControl: line_control_ = value; break;
    case kModemControl:
      modem_control_ = value & kModemControlMask;
      tell_room();
      break;
    case kScratch: scratch_ = value; break;
    default:  // the status registers are read-only
      break;
  }
}

void Serial::read(uint64_t offset, std::span<std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  for (std::byte& byte : data) byte = std::byte{read_register(offset++)};
  update_irq();
}

void Serial::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  for (const std::byte byte : data) write_register(offset++, std::to_integer<uint8_t>(byte));
  update_irq();
}

}  // namespace ringlet
