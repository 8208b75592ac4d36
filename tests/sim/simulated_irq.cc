// Interrupts and doorbells of the simulated machine: all of it made of simulated files.
#include "tests/sim/simulated_irq.h"

#include <cassert>
#include <cerrno>
#include <system_error>

#include <unistd.h>

#include "tests/sim/trace.h"

namespace ringlet {

void SimulatedMsi::deliver() {
  if (attached_ && event_.drain()) messages_.push_back(message_.data);
}

bool SimulatedMsi::attach(const MsiMessage& message) noexcept {
  deliver();
  attached_ = true;
  message_ = message;
  deliver();
  return true;
}

void SimulatedMsi::detach() noexcept {
  deliver();
  attached_ = false;
}

void SimulatedMsi::clear() noexcept {
  if (!attached_) event_.drain();
}

std::vector<uint32_t> SimulatedMsi::take_messages() {
  deliver();
  return std::exchange(messages_, {});
}

uint64_t SimulatedMsi::take_signals() {
  return event_.signals() - std::exchange(signals_seen_, event_.signals());
}

void SimulatedLevel::end_of_interrupt() {
  asserted_.drain();
  loop_.notify(resample_.slot());
}

std::unique_ptr<MsiVector> SimulatedInterrupts::make_msi() {
  if (msi_left == 0) throw std::system_error(EMFILE, std::generic_category(), "eventfd");
  --msi_left;
  auto vector = std::make_unique<SimulatedMsi>(loop_, next_fd_++);
  msi.push_back(vector.get());
  return vector;
}

std::unique_ptr<LevelLine> SimulatedInterrupts::make_level(Gsi) {
  auto line = std::make_unique<SimulatedLevel>(loop_, std::exchange(next_fd_, next_fd_ + 2));
  level = line.get();
  return line;
}

std::unique_ptr<IrqLine> SimulatedInterrupts::make_line(Gsi) {
  assert(false && "virtio devices have no plain wires");
  return nullptr;
}

bool SimulatedDoorbells::add(GuestAddr address, int eventfd) noexcept {
  if (refuse) return false;
  expect(present_.try_emplace(address, eventfd).second, "a second doorbell at {:#x}",
         address.value());
  return true;
}

void SimulatedDoorbells::remove(GuestAddr address, int eventfd) noexcept {
  const auto found = present_.find(address);
  expect(found != present_.end() && found->second == eventfd, "no such doorbell at {:#x}",
         address.value());
  present_.erase(found);
}

bool SimulatedDoorbells::ring(GuestAddr address) {
  const auto found = present_.find(address);
  if (found == present_.end()) return false;
  if (loop_.notify_host(found->second)) return true;
  // The loop does not know it yet: the kernel keeps count.
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(found->second, &one, sizeof one);
  loop_.look_at_host_events();
  return true;
}

}  // namespace ringlet
