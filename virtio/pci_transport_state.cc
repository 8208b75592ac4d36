// Saving and restoring the state of a virtio PCI device.
//
// A state may come from a file that somebody damaged, or made up. What a guest could have brought
// about is taken as it is, for the device copes with that; everything else is refused.
#include "virtio/pci_transport_state.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

#include <fmt/core.h>

#include "kvm/error.h"
#include "virtio/pci_transport.h"
#include "virtio/queue.h"

namespace ringlet {
namespace {

constexpr uint8_t kIsrBits = 3;  // 4.1.4.5

/// How far initialisation may have come (3.1.1).
constexpr uint8_t kProgressBits =
    status::kAcknowledge | status::kDriver | status::kFeaturesOk | status::kDriverOk;
constexpr std::array<uint8_t, 5> kProgress{
    0, status::kAcknowledge, status::kAcknowledge | status::kDriver,
    status::kAcknowledge | status::kDriver | status::kFeaturesOk, kProgressBits};

[[noreturn]] void refuse(std::string_view device, std::string_view what) {
  throw ConfigError(fmt::format("{}: the saved state does not fit: {}", device, what));
}

template <typename... T>
void expect(bool fits, std::string_view device, fmt::format_string<T...> what, T&&... args) {
  if (!fits) refuse(device, fmt::format(what, std::forward<T>(args)...));
}

QueueConfig config_of(const QueueState& state) {
  return {.size = state.size,
          .enabled = state.enabled,
          .descriptors = GuestAddr(state.descriptors),
          .driver_area = GuestAddr(state.driver_area),
          .device_area = GuestAddr(state.device_area)};
}

uint32_t identity_of(const ConfigSpaceState& state) {
  uint32_t value = 0;
  for (size_t i = 4; i > 0; --i) value = value << 8 | state.bytes[kConfigVendor + i - 1];
  return value;
}

}  // namespace

// Saving --------------------------------------------------------------------------------------

PciTransportState PciTransport::save() const {
  assert(phase_.load() != Phase::Resetting);
  PciTransportState state{.config_space = config().save(),
                          .msix = msix_.save(),
                          .status = status_,
                          .isr = isr_,
                          .device_feature_select = device_feature_select_,
                          .driver_feature_select = driver_feature_select_,
                          .driver_features = driver_features_,
                          .driver_wants_unknown = driver_wants_unknown_,
                          .config_vector = config_vector_,
                          .queue_select = queue_select_,
                          .queues = {},
                          .device_config = {}};
  // What waits behind a mask is as good as forgotten once a reset is done.
  if (forget_pending_ && status_ == 0) {
    for (MsixVectorState& vector : state.msix.vectors) vector.pending = false;
  }
  const std::vector<QueuePosition> positions = runners_.positions();
  for (size_t i = 0; i < queues_.size(); ++i) {
    const QueueRegisters& queue = queues_[i];
    assert(!queue.resetting);
    state.queues.push_back({.size = queue.config.size,
                            .enabled = queue.enabled,
                            .descriptors = queue.config.descriptors.value(),
                            .driver_area = queue.config.driver_area.value(),
                            .device_area = queue.config.device_area.value(),
                            .vector = queue.vector,
                            .next_avail = positions[i].next_avail,
                            .next_used = positions[i].next_used});
  }
  const std::scoped_lock lock(config_mutex_);
  state.generation = static_cast<uint8_t>(generation_ + (config_changed_ ? 1 : 0));
  for (const std::byte byte : config_) {
    state.device_config.push_back(std::to_integer<uint8_t>(byte));
  }
  return state;
}

// Checking ------------------------------------------------------------------------------------

void PciTransport::check_status(const PciTransportState& state) const {
  const std::string_view name = device_.traits().name;
  const auto progress = static_cast<uint8_t>(state.status & kProgressBits);
  const bool live = progress == kProgressBits;
  const auto known = static_cast<uint8_t>(kProgressBits | status::kFailed |
                                          (live ? status::kNeedsReset : uint8_t{0}));
  expect(std::ranges::find(kProgress, progress) != kProgress.end() && (state.status & ~known) == 0,
         name, "a device status of {:#x}, which cannot be", state.status);
  if ((state.status & status::kFeaturesOk) != 0) {
    const Features accepted(state.driver_features);
    expect(offered_.contains(accepted) && !state.driver_wants_unknown, name,
           "its driver uses features {:#x}, {:#x} are offered", state.driver_features,
           offered_.bits());
    expect(accepted.has(Feature::Version1), name,
           "its driver was accepted with features {:#x}, without VERSION_1", state.driver_features);
  }
  expect((state.isr & ~kIsrBits) == 0 && (live || state.isr == 0), name,
         "an interrupt status of {:#x}, which cannot be", state.isr);
}

void PciTransport::check_queue(const PciTransportState& state, size_t index) const {
  const std::string_view name = device_.traits().name;
  const QueueState& queue = state.queues[index];
  const uint16_t max_size = queues_[index].max_size;
  const Features features(state.driver_features);
  const bool packed =
      (state.status & status::kFeaturesOk) != 0 && features.has(Feature::RingPacked);
  expect(queue.size > 0 && queue.size <= max_size, name,
         "queue {} has {} descriptors, this device's has {} at most", index, queue.size, max_size);
  expect(packed || std::has_single_bit(queue.size), name,
         "queue {} has {} descriptors; expected a power of two", index, queue.size);
  expect(queue.vector == kNoVector || queue.vector < msix_.vectors(), name,
         "queue {} has interrupt vector {}, this device has {} of them", index, queue.vector,
         msix_.vectors());
  // At rest no chain is out, so all that was available has been used.
  expect(queue.next_avail == queue.next_used, name,
         "queue {}: the next available is at {}, the next used at {}; expected the same", index,
         queue.next_avail, queue.next_used);
  // A device that was given such a queue needs a reset, and is restored as such.
  const bool failed = (state.status & status::kNeedsReset) != 0;
  const bool live = (state.status & status::kDriverOk) != 0 && queue.enabled && !failed;
  const std::string_view why =
      live ? Queue::check(parts_.memory, config_of(queue), features,
                          {.next_avail = queue.next_avail, .next_used = queue.next_used})
           : std::string_view();
  expect(why.empty(), name, "queue {}: {}", index, why);
}

void PciTransport::check_config(const PciTransportState& state) const {
  const std::string_view name = device_.traits().name;
  const std::scoped_lock lock(config_mutex_);
  expect(state.device_config.size() == config_.size(), name,
         "its configuration has {} bytes, this device's has {}", state.device_config.size(),
         config_.size());
  const std::vector<std::byte>& writable = device_.traits().config_writable;
  for (size_t i = 0; i < config_.size(); ++i) {
    const std::byte saved{state.device_config[i]};
    expect(((saved ^ config_[i]) & ~writable[i]) == std::byte{0}, name,
           "byte {} of its configuration was {:#04x}, this device's is {:#04x}", i,
           std::to_integer<unsigned>(saved), std::to_integer<unsigned>(config_[i]));
  }
}

/// Throws when this device cannot have had the state.
void PciTransport::check_state(const PciTransportState& state) const {
  const std::string_view name = device_.traits().name;
  const uint32_t saved_identity = identity_of(state.config_space);
  const uint32_t own_identity = config().read32(kConfigVendor);
  expect(saved_identity == own_identity, name,
         "it is of PCI device {:04x}:{:04x}, not {:04x}:{:04x}", saved_identity & 0xffff,
         saved_identity >> 16, own_identity & 0xffff, own_identity >> 16);
  check_status(state);
  expect(state.msix.vectors.size() == msix_.vectors(), name,
         "it has {} interrupt vectors, this device has {}", state.msix.vectors.size(),
         msix_.vectors());
  expect(state.config_vector == kNoVector || state.config_vector < msix_.vectors(), name,
         "its configuration has interrupt vector {}, this device has {} of them",
         state.config_vector, msix_.vectors());
  expect(state.queues.size() == queues_.size(), name, "it has {} queues, this device has {}",
         state.queues.size(), queues_.size());
  for (size_t i = 0; i < queues_.size(); ++i) check_queue(state, i);
  check_config(state);
}

// Restoring -----------------------------------------------------------------------------------

uint16_t PciTransport::restore_vector(uint16_t saved) {
  const uint16_t vector = accept_vector(saved);
  if (vector == saved) return vector;
  throw ConfigError(fmt::format("{}: the host has no descriptor left for interrupt vector {}",
                                device_.traits().name, saved));
}

void PciTransport::restore_registers(const PciTransportState& state) {
  device_feature_select_ = state.device_feature_select;
  driver_feature_select_ = state.driver_feature_select;
  driver_features_ = state.driver_features;
  driver_wants_unknown_ = state.driver_wants_unknown;
  queue_select_ = state.queue_select;
  config_vector_ = restore_vector(state.config_vector);
  for (size_t i = 0; i < queues_.size(); ++i) {
    QueueRegisters& queue = queues_[i];
    queue.config = config_of(state.queues[i]);
    queue.vector = restore_vector(state.queues[i].vector);
    queue.enabled = queue.config.enabled;
    if (queue.config.enabled) runners_.kick_fd(index_of(queue));  // throws, unlike activate()
  }
  const std::vector<std::byte>& writable = device_.traits().config_writable;
  const std::scoped_lock lock(config_mutex_);
  for (size_t i = 0; i < config_.size(); ++i) {
    config_[i] = (config_[i] & ~writable[i]) | (std::byte{state.device_config[i]} & writable[i]);
  }
  generation_ = state.generation;
  isr_ = state.isr;
  status_ = state.status;
}

void PciTransport::restore(const PciTransportState& state) {
  assert(phase_.load() == Phase::Setup);
  check_state(state);
  config().restore(state.config_space);
  msix_.restore(state.msix);
  intx_.command_changed(config().command());
  runners_.set_bus_master(config().command().bus_master());
  restore_registers(state);

  std::vector<Target> pending;
  for (uint16_t i = 0; i < msix_.vectors(); ++i) {
    if (!state.msix.vectors[i].pending) continue;
    restore_vector(i);
    pending.push_back({.key = i, .fd = vector_fds_[i]});
  }
  runners_.request_signals(pending);
  if ((state.status & status::kDriverOk) == 0) {
    runners_.request_config(config_);
    return;
  }
  Runner::Activation activation{.features = {},
                                .queues = {},
                                .restored = true,
                                .config = config_,
                                .failed = (state.status & status::kNeedsReset) != 0};
  for (const QueueState& queue : state.queues) {
    activation.positions.push_back({.next_avail = queue.next_avail, .next_used = queue.next_used});
  }
  activate(std::move(activation));
  runners_.request_interrupt_check();
}

}  // namespace ringlet
