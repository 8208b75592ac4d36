// Interrupts and doorbells without KVM: fakes that record what was asked of them.
#include "tests/fake/fake_irq.h"

#include <cassert>
#include <cerrno>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace ringlet {

void FakeMsiVector::deliver() {
  if (is_attached && event.drain()) delivered_.push_back(message);
}

bool FakeMsiVector::attach(const MsiMessage& new_message) noexcept {
  deliver();
  if (refuse) return false;
  ++attaches;
  is_attached = true;
  message = new_message;
  deliver();
  return true;
}

void FakeMsiVector::detach() noexcept {
  deliver();
  ++detaches;
  is_attached = false;
}

void FakeMsiVector::clear() noexcept {
  event.drain();
}

std::vector<MsiMessage> FakeMsiVector::take_delivered() {
  deliver();
  return std::exchange(delivered_, {});
}

std::unique_ptr<MsiVector> FakeInterrupts::make_msi() {
  if (msi_left == 0) throw std::system_error(EMFILE, std::generic_category(), "eventfd");
  --msi_left;
  auto vector = std::make_unique<FakeMsiVector>();
  msi.push_back(vector.get());
  return vector;
}

std::unique_ptr<LevelLine> FakeInterrupts::make_level(Gsi gsi) {
  auto line = std::make_unique<FakeLevelLine>(gsi);
  levels.push_back(line.get());
  return line;
}

std::unique_ptr<IrqLine> FakeInterrupts::make_line(Gsi gsi) {
  auto line = std::make_unique<FakeIrqLine>(gsi);
  lines.push_back(line.get());
  return line;
}

bool FakeDoorbells::add(GuestAddr address, int eventfd) noexcept {
  ++adds;
  return !refuse && present.try_emplace(address, eventfd).second;
}

void FakeDoorbells::remove(GuestAddr address, int eventfd) noexcept {
  const auto found = present.find(address);
  assert(found != present.end() && found->second == eventfd);
  present.erase(found);
  ++removes;
}

bool FakeDoorbells::ring(GuestAddr address) {
  const auto found = present.find(address);
  if (found == present.end()) return false;
  const uint64_t one = 1;
  return ::write(found->second, &one, sizeof one) == sizeof one;
}

}  // namespace ringlet
