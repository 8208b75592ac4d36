// A VM just big enough for a few instructions of test code.
#include "tests/machine/tiny_guest.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace ringlet {
namespace {

constexpr std::array kRam{AddrRange{0, 2 << 20}};
constexpr VmAddresses kAddresses{.identity_map = GuestAddr(0xfffb'c000),
                                 .tss = GuestAddr(0xfffb'd000)};

void expect(bool held, const char* what) {
  if (!held) throw std::logic_error(what);
}

}  // namespace

void Journal::read(uint64_t offset, std::span<std::byte> data) noexcept {
  lines_.push_back(fmt::format("in {:#x}", base_ + offset));
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(0xa1 + i);
}

void Journal::write(uint64_t offset, std::span<const std::byte> data) noexcept {
  std::string line = fmt::format("out {:#x} ", base_ + offset);
  for (size_t i = data.size(); i > 0; --i) line += fmt::format("{:02x}", data[i - 1]);
  lines_.push_back(line);
}

std::vector<std::string> Journal::take() {
  return std::exchange(lines_, {});
}

void MessagePort::write(uint64_t, std::span<const std::byte> data) noexcept {
  message_ = std::to_integer<uint8_t>(data[0]);
  vcpu_.kick();
}

std::optional<uint8_t> MessagePort::take() {
  return std::exchange(message_, std::nullopt);
}

void TinyGuest::Values::write(uint64_t, std::span<const std::byte> data) noexcept {
  uint32_t value = 0;
  for (size_t i = data.size(); i > 0; --i)
    value = value << 8 | std::to_integer<uint8_t>(data[i - 1]);
  list.push_back(value);
}

TinyGuest::TinyGuest(std::span<const uint8_t> code)
    : memory(kRam, {}), vm(kvm, memory, kAddresses), irqs(vm), vcpu(vm, 0), messages_(vcpu) {
  write(kCode, code);
  expect(buses.port.insert({0x80, 4}, values_), "the value ports are taken");
  expect(buses.port.insert({0xf4, 1}, messages_), "the message port is taken");
  expect(buses.port.insert({0x100, 0x100}, ports), "the journal's ports are taken");
  expect(buses.mmio.insert({kMmio, 0x1000}, mmio), "the journal's memory is taken");
  vcpu.set_cpuid(make_cpuid(kvm.supported_cpuid(), {}));
  vcpu.set_start(ProtectedModeStart{.rip = GuestAddr(kCode), .rbx = GuestAddr(0)});
}

std::optional<uint8_t> TinyGuest::next_message() {
  const Watchdog watchdog(vcpu);
  exit = vcpu.run(buses);
  return messages_.take();
}

std::vector<uint32_t> TinyGuest::take_values() {
  return std::exchange(values_.list, {});
}

void TinyGuest::write(uint64_t at, std::span<const uint8_t> bytes) {
  expect(memory.write(GuestAddr(at), std::as_bytes(bytes)), "a test writes outside of RAM");
}

std::vector<uint8_t> TinyGuest::read(uint64_t at, size_t size) const {
  std::vector<uint8_t> bytes(size);
  expect(memory.read(GuestAddr(at), std::as_writable_bytes(std::span(bytes))),
         "a test reads outside of RAM");
  return bytes;
}

struct Watchdog::Impl {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::thread thread;
};

Watchdog::Watchdog(Vcpu& vcpu) : impl_(std::make_unique<Impl>()) {
  impl_->thread = std::thread([this, &vcpu] {
    std::unique_lock lock(impl_->mutex);
    const bool in_time =
        impl_->changed.wait_for(lock, std::chrono::minutes(5), [this] { return impl_->done; });
    if (!in_time) vcpu.kick();
  });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->done = true;
  }
  impl_->changed.notify_one();
  impl_->thread.join();
}

}  // namespace ringlet
