// Interrupts and doorbells without KVM: fakes that record what was asked of them.
//
// Descriptors are real eventfds, so whoever signals them may be the real or the simulated loop.
// The fakes made by FakeInterrupts belong to the device that asked; FakeInterrupts points to them
// in the order they were made, for as long as the device lives.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "kvm/fd.h"
#include "kvm/irq.h"

namespace ringlet {

/// As KVM would do it, except that a message goes nowhere until take_delivered() looks.
class FakeMsiVector final : public MsiVector {
 public:
  int fd() const noexcept override { return event.fd(); }
  bool attach(const MsiMessage& message) noexcept override;
  void detach() noexcept override;
  bool pending() const noexcept override { return !is_attached && event.pending(); }
  void clear() noexcept override;

  /// The messages delivered since the last call, oldest first. Signals that came in between two
  /// looks merge into one message, as they do in the guest's APIC.
  std::vector<MsiMessage> take_delivered();

  EventFd event;
  bool refuse = false;  ///< attach() fails
  bool is_attached = false;
  MsiMessage message;  ///< of the last attach()
  unsigned attaches = 0;
  unsigned detaches = 0;

 private:
  void deliver();
  std::vector<MsiMessage> delivered_;
};

class FakeLevelLine final : public LevelLine {
 public:
  explicit FakeLevelLine(Gsi number) : gsi(number) {}
  void connect() noexcept override { connected = true; }
  int assert_fd() const noexcept override { return asserted.fd(); }
  int resample_fd() const noexcept override { return resample.fd(); }

  /// Whether the line was raised since the last call.
  bool take_raised() { return connected && asserted.drain(); }
  /// The guest's end of interrupt: KVM lowers the line and says so.
  void end_of_interrupt() { resample.signal(); }

  Gsi gsi;
  bool connected = false;
  EventFd asserted;
  EventFd resample;
};

class FakeIrqLine final : public IrqLine {
 public:
  explicit FakeIrqLine(Gsi number) : gsi(number) {}
  void set(bool level) noexcept override { levels.push_back(level); }
  bool level() const { return !levels.empty() && levels.back(); }

  Gsi gsi;
  std::vector<bool> levels;  ///< every call of set(), oldest first
};

class FakeInterrupts final : public InterruptSource {
 public:
  std::unique_ptr<MsiVector> make_msi() override;
  std::unique_ptr<LevelLine> make_level(Gsi gsi) override;
  std::unique_ptr<IrqLine> make_line(Gsi gsi) override;

  unsigned msi_left = UINT32_MAX;  ///< make_msi() throws once this many were made
  std::vector<FakeMsiVector*> msi;
  std::vector<FakeLevelLine*> levels;
  std::vector<FakeIrqLine*> lines;
};

class FakeDoorbells final : public Doorbells {
 public:
  bool add(GuestAddr address, int eventfd) noexcept override;
  void remove(GuestAddr address, int eventfd) noexcept override;

  /// A guest write at `address`: false when no doorbell is there, so that it would be an exit.
  bool ring(GuestAddr address);

  bool refuse = false;               ///< add() fails
  std::map<GuestAddr, int> present;  ///< address to eventfd
  unsigned adds = 0;
  unsigned removes = 0;
};

}  // namespace ringlet
