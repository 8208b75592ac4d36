// Interrupts and doorbells of the simulated machine: all of it made of simulated files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kvm/irq.h"
#include "tests/fake/simulated_loop.h"

namespace ringlet {

/// An eventfd that only the simulated loop knows.
class SimulatedEvent {
 public:
  SimulatedEvent(SimulatedLoop& loop, int fd)
      : fd_(fd), slot_(loop.add_event()), file_(loop.file(slot_)) {
    loop.stand_in(fd, slot_);
  }
  int fd() const { return fd_; }
  IoFile slot() const { return slot_; }
  bool pending() const { return file_.count > 0; }
  bool drain() { return std::exchange(file_.count, 0) > 0; }
  /// How often it was signalled, ever.
  uint64_t signals() const { return file_.signals; }

 private:
  const int fd_;
  const IoFile slot_;
  SimFile& file_;
};

/// An MSI-X vector as KVM serves it.
class SimulatedMsi final : public MsiVector {
 public:
  SimulatedMsi(SimulatedLoop& loop, int fd) : event_(loop, fd) {}

  int fd() const noexcept override { return event_.fd(); }
  bool attach(const MsiMessage& message) noexcept override;
  void detach() noexcept override;
  bool pending() const noexcept override { return !attached_ && event_.pending(); }
  void clear() noexcept override;

  /// What the guest's APIC received since the last call: the data of messages, merged.
  std::vector<uint32_t> take_messages();
  /// Signals since the last call.
  uint64_t take_signals();

 private:
  void deliver();
  SimulatedEvent event_;
  bool attached_ = false;
  MsiMessage message_;
  uint64_t signals_seen_ = 0;
  std::vector<uint32_t> messages_;
};

/// One device's share of a level-triggered line.
class SimulatedLevel final : public LevelLine {
 public:
  SimulatedLevel(SimulatedLoop& loop, int fd)
      : loop_(loop), asserted_(loop, fd), resample_(loop, fd + 1) {}
  void connect() noexcept override { connected_ = true; }
  int assert_fd() const noexcept override { return asserted_.fd(); }
  int resample_fd() const noexcept override { return resample_.fd(); }
  bool raised() const { return connected_ && asserted_.pending(); }
  /// Signals since the last call.
  uint64_t take_signals() {
    return asserted_.signals() - std::exchange(signals_seen_, asserted_.signals());
  }
  void end_of_interrupt();

 private:
  SimulatedLoop& loop_;
  SimulatedEvent asserted_;
  SimulatedEvent resample_;
  bool connected_ = false;
  uint64_t signals_seen_ = 0;
};

/// What one device gets its interrupts from.
class SimulatedInterrupts final : public InterruptSource {
 public:
  explicit SimulatedInterrupts(SimulatedLoop& loop, int first_fd)
      : loop_(loop), next_fd_(first_fd) {}
  std::unique_ptr<MsiVector> make_msi() override;
  std::unique_ptr<LevelLine> make_level(Gsi gsi) override;
  std::unique_ptr<IrqLine> make_line(Gsi gsi) override;

  unsigned msi_left = UINT32_MAX;  ///< make_msi() throws once this many were made
  std::vector<SimulatedMsi*> msi;
  SimulatedLevel* level = nullptr;

 private:
  SimulatedLoop& loop_;
  int next_fd_;
};

class SimulatedDoorbells final : public Doorbells {
 public:
  explicit SimulatedDoorbells(SimulatedLoop& loop) : loop_(loop) {}
  bool add(GuestAddr address, int eventfd) noexcept override;
  void remove(GuestAddr address, int eventfd) noexcept override;
  /// A guest write there; false when it would be an exit.
  bool ring(GuestAddr address);
  size_t present() const { return present_.size(); }

  bool refuse = false;  ///< add() fails

 private:
  SimulatedLoop& loop_;
  std::map<GuestAddr, int> present_;
};

}  // namespace ringlet
