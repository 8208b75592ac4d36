// virtio-blk driver (virtio 1.3, 5.2): any number of queues, polled or interrupt-driven.
#include "lib/virtio_blk.h"

#include "lib/apic.h"
#include "lib/console.h"
#include "lib/io.h"
#include "lib/memory.h"

namespace guest {
namespace {

constexpr uint8_t kFirstMsixVector = 0x60;
constexpr uint8_t kIntxVector = 0x80;
constexpr uint8_t kIsrQueue = 1;

constexpr Features kKnownFeatures = Features{}
                                        .with(Feature::BlkSegMax)
                                        .with(Feature::BlkReadOnly)
                                        .with(Feature::BlkBlockSize)
                                        .with(Feature::BlkFlush)
                                        .with(Feature::BlkTopology)
                                        .with(Feature::BlkConfigWce)
                                        .with(Feature::BlkMultiQueue)
                                        .with(Feature::BlkDiscard)
                                        .with(Feature::BlkWriteZeroes)
                                        .with(Feature::IndirectDescriptors)
                                        .with(Feature::EventIndex)
                                        .with(Feature::Version1)
                                        .with(Feature::RingPacked)
                                        .with(Feature::RingReset);

// Which I/O APIC pin an INTx line reaches is told by AML only, so all that PCI may use are open:
// 16 and up, and those firmware shares with ISA. The handler asks the device.
constexpr uint32_t kFirstPciPin = 16;
constexpr uint32_t kSharedPins[] = {5, 10, 11};

}  // namespace

BlkDriver* BlkDriver::active_ = nullptr;

BlkDriver::BlkDriver(const pci::Function& function, bool packed)
    : device_(function),
      packed_(packed),
      header_(allocate_array<BlkHeader>(1).data),
      status_(allocate_array<uint8_t>(1).data) {
  find_registers();
}

void BlkDriver::find_registers() {
  device_.find_registers();
  if (device_.function().find_capability(pci::kCapabilityMsix)) {
    msix_.emplace(device_.function());
  }
}

void BlkDriver::start(const Options& options) {
  options_ = options;
  device_.reset();
  offered_ = device_.offered();
  features_ = {offered_.bits & kKnownFeatures.bits};
  if (!options.indirect) {
    features_ = features_.without(Feature::IndirectDescriptors);
  }
  if (!options.event_idx) {
    features_ = features_.without(Feature::EventIndex);
  }
  if (!packed_) {
    features_ = features_.without(Feature::RingPacked);
  }
  expect(features_.has(Feature::Version1), "VIRTIO_F_VERSION_1 is not offered");
  expect(!packed_ || features_.has(Feature::RingPacked), "packed queues are not offered");
  device_.negotiate(features_);
  set_up_interrupt_source();

  const uint16_t offered_queues = features_.has(Feature::BlkMultiQueue)
                                      ? device_.config<uint16_t>(blk_config::kNumQueues)
                                      : uint16_t{1};
  expect(options.queues <= offered_queues && options.queues <= kMaxQueues, "{} queues wanted of {}",
         options.queues, offered_queues);
  for (uint16_t i = 0; i < options.queues; ++i) {
    const uint16_t largest = device_.queue_size(i);
    const uint16_t size = options.queue_size < largest ? options.queue_size : largest;
    const Virtqueue::Options ring_options{
        .event_idx = features_.has(Feature::EventIndex),
        .indirect_entries =
            features_.has(Feature::IndirectDescriptors) ? options.table_entries : uint16_t{0},
        .packed = packed_};
    std::optional<Virtqueue>& ring = queues_[i].ring;
    if (ring && ring->size() == size) {
      ring->reset(ring_options);
    } else {
      ring.emplace(size, ring_options);
    }
    ring->disable_interrupts();
    device_.enable_queue(i, *ring, msix_entry(i));
  }
  device_.driver_ok();
}

// MSI-X entry 0 is left to configuration changes.
uint16_t BlkDriver::msix_entry(uint16_t queue) const {
  return options_.completion == Completion::Msix ? static_cast<uint16_t>(queue + 1) : kNoVector;
}

void BlkDriver::set_up_interrupt_source() {
  active_ = this;
  const pci::Function& function = device_.function();
  if (msix_) {
    msix_->enable(options_.completion == Completion::Msix);
  }
  if (options_.completion == Completion::Intx) {
    function.set_command(0, pci::kCommandInterruptDisable);
    set_handler(kIntxVector, on_intx);
    for (const uint32_t pin : kSharedPins) {
      apic::route_pin(pin, kIntxVector, apic::Trigger::Level);
    }
    for (uint32_t pin = kFirstPciPin; pin < apic::pin_count(); ++pin) {
      apic::route_pin(pin, kIntxVector, apic::Trigger::Level);
    }
    return;
  }
  function.set_command(pci::kCommandInterruptDisable);
  if (options_.completion == Completion::Msix) {
    expect(msix_ && msix_->size() > options_.queues, "too few MSI-X vectors");
    for (uint16_t i = 0; i < options_.queues; ++i) {
      const auto vector = static_cast<uint8_t>(kFirstMsixVector + i);
      set_handler(vector, on_msix);
      msix_->set_entry(msix_entry(i), apic::msi_address(apic::id()), apic::msi_data(vector));
    }
  }
}

void BlkDriver::on_intx(uint8_t) {
  if ((active_->device_.read_isr() & kIsrQueue) != 0) {
    active_->interrupts_.raise();
    for (Queue& queue : active_->queues_) {
      queue.interrupts.raise();
    }
  }
}

void BlkDriver::on_msix(uint8_t vector) {
  active_->interrupts_.raise();
  active_->queues_[vector - kFirstMsixVector].interrupts.raise();
}

uint64_t BlkDriver::capacity_sectors() const {
  // A field of more than 32 bits may change between the two reads (4.1.3.1, 2.5.1).
  for (;;) {
    const auto generation = device_.get(common::kConfigGeneration);
    const uint64_t low = device_.config<uint32_t>(blk_config::kCapacity);
    const uint64_t high = device_.config<uint32_t>(blk_config::kCapacity + 4);
    if (device_.get(common::kConfigGeneration) == generation) {
      return high << 32 | low;
    }
  }
}

uint32_t BlkDriver::max_segments() const {
  return features_.has(Feature::BlkSegMax) ? device_.config<uint32_t>(blk_config::kSegMax) : 1;
}

uint16_t BlkDriver::submit(uint16_t queue, Span<const Segment> segments) {
  const std::optional<uint16_t> head = queues_[queue].ring->add(segments);
  expect(head.has_value(), "queue {} has no room for {} segments", queue, segments.size);
  return *head;
}

void BlkDriver::kick(uint16_t queue) {
  if (queues_[queue].ring->publish()) {
    device_.notify(queue);
  }
}

UsedElement BlkDriver::wait(uint16_t queue) {
  Virtqueue& ring = *queues_[queue].ring;
  const Deadline deadline;
  for (;;) {
    const uint32_t seen = queues_[queue].interrupts.value();
    if (const std::optional<UsedElement> used = ring.take_used()) {
      return *used;
    }
    if (options_.completion == Completion::Poll) {
      expect(!deadline.passed(), "a request is never used");
      cpu_relax();
    } else if (ring.enable_interrupts()) {
      wait_for_interrupt(queues_[queue].interrupts, seen, "virtio-blk interrupt");
      ring.disable_interrupts();
    }
  }
}

BlkStatus BlkDriver::transfer(BlkType type, uint64_t sector, Span<const Segment> data,
                              uint16_t queue) {
  expect(data.size <= kMaxSegments, "{} segments in one request", data.size);
  Segment segments[kMaxSegments + 2];
  *header_ = {.type = type, .reserved = 0, .sector = sector};
  *status_ = static_cast<uint8_t>(BlkStatus::NotWritten);
  size_t count = 0;
  segments[count++] = {address_of(header_), sizeof(BlkHeader), false};
  for (const Segment& segment : data) {
    segments[count++] = segment;
  }
  segments[count++] = {address_of(const_cast<const uint8_t*>(status_)), 1, true};
  const uint16_t head = submit(queue, {segments, count});
  kick(queue);
  const UsedElement used = wait(queue);
  expect(used.head == head, "request {} used instead of {}", used.head, head);
  last_used_length_ = used.length;
  return static_cast<BlkStatus>(*status_);
}

BlkStatus BlkDriver::read(uint64_t sector, Span<uint8_t> bytes) {
  const Segment data[] = {{address_of(bytes.data), static_cast<uint32_t>(bytes.size), true}};
  return transfer(BlkType::In, sector, data);
}

BlkStatus BlkDriver::write(uint64_t sector, Span<const uint8_t> bytes) {
  const Segment data[] = {{address_of(bytes.data), static_cast<uint32_t>(bytes.size), false}};
  return transfer(BlkType::Out, sector, data);
}

BlkStatus BlkDriver::flush() {
  return transfer(BlkType::Flush, 0, {});
}

}  // namespace guest
