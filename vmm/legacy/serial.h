// A serial port: the 16550A UART of a PC, as its data sheet (TI TL16C550C) describes it.
//
//   vCPU threads                       I/O loop
//   registers ──► SerialPeer::send ──► ring ──► stdout         (vmm/legacy/console.h)
//   registers ◄── receive FIFO ◄────── Serial::receive ◄── stdin
//
// The wire is infinitely fast: what is written is sent at once, as long as the peer has room. When
// it has none, "transmitter empty" stays clear and the guest waits, not its vCPU.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "kvm/bus.h"
#include "kvm/irq.h"

namespace ringlet {

/// What is at the other end of the wire. Called with the serial port's mutex held, so it must not
/// call back, and never blocks.
class SerialPeer {
 public:
  /// Takes one byte; loses it when there is no room.
  virtual void send(std::byte byte) noexcept = 0;
  /// Whether there is room for all that the guest sends before it looks again: a full FIFO.
  virtual bool has_room() noexcept = 0;
  /// receive() would take bytes again.
  virtual void can_receive() noexcept = 0;

 protected:
  ~SerialPeer() = default;
};

struct SerialState {
  uint16_t divisor = 1;
  uint8_t interrupt_enable = 0;
  uint8_t line_control = 0;
  uint8_t modem_control = 0;
  uint8_t scratch = 0;
  bool fifos_enabled = false;
  uint8_t trigger_level = 1;
  bool overrun = false;
  bool empty_pending = false;
  bool waits_for_room = false;
  std::vector<uint8_t> received{};  ///< what the guest has not taken yet
};

/// Registers are for vCPU threads under the bus mutex, the rest is for the I/O loop. What both
/// touch is guarded by a mutex of its own, held for some instructions.
class Serial final : public BusDevice {
 public:
  static constexpr size_t kFifoSize = 16;

  /// Discards what is sent until connect().
  explicit Serial(std::unique_ptr<IrqLine> irq) : irq_(std::move(irq)) {}

  /// `peer` outlives this port's use. Before the guest runs.
  void connect(SerialPeer& peer) { peer_ = &peer; }

  /// What the peer still holds is not part of it. With no vCPU running.
  SerialState save() const;
  /// After connect(). Throws ConfigError when the state cannot be.
  void restore(const SerialState& state);

  /// Puts bytes into the receive FIFO; returns how many it took. After less than all the peer
  /// hears can_receive() when there is room again. On the I/O loop.
  size_t receive(std::span<const std::byte> data) noexcept;
  /// The peer has room again after has_room() was false. On the I/O loop.
  void room_again() noexcept;

  // BusDevice. A wider access reaches several registers in a row, as on the ISA bus.
  void read(uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);

  bool loopback() const;
  bool divisor_latch() const;
  size_t fifo_capacity() const;
  uint8_t pop_received();
  void push_received(uint8_t value);
  void tell_room();
  void send(uint8_t value);
  bool transmitter_empty();
  uint8_t pending_interrupt() const;
  uint8_t read_interrupt_id();
  uint8_t read_line_status();
  uint8_t read_modem_status() const;
  void set_interrupt_enable(uint8_t value);
  void set_fifo_control(uint8_t value);
  void update_irq();

  const std::unique_ptr<IrqLine> irq_;
  SerialPeer* peer_ = nullptr;

  mutable std::mutex mutex_;  // guards what follows
  uint16_t divisor_ = 1;
  uint8_t interrupt_enable_ = 0;
  uint8_t line_control_ = 0;
  uint8_t modem_control_ = 0;
  uint8_t scratch_ = 0;
  bool fifos_enabled_ = false;
  uint8_t trigger_level_ = 1;
  bool overrun_ = false;
  bool empty_pending_ = false;   // "transmitter empty" waits to be told as an interrupt
  bool waits_for_room_ = false;  // the peer was full when the guest last sent
  bool input_waits_ = false;     // receive() took less than all
  bool irq_level_ = false;
  std::array<uint8_t, kFifoSize> fifo_{};
  size_t fifo_first_ = 0;
  size_t fifo_count_ = 0;
};

}  // namespace ringlet
