// The simulated driver's requests: out through the rings, back through interrupts.
#include <linux/virtio_blk.h>

#include <algorithm>

#include "tests/sim/disk_driver.h"
#include "tests/sim/trace.h"

namespace ringlet {

// Out -------------------------------------------------------------------------------------------

bool DiskDriver::add_request(Lane& lane) {
  GuestRing& ring = *lane.ring;
  const RequestStyle& style = disk_->plan().style;
  const bool indirect =
      facts_.features.has(Feature::IndirectDesc) && random_.percent(style.indirect_percent);
  const uint16_t links = indirect ? std::min<uint16_t>(ring.size(), 8)
                                  : std::min<uint16_t>(ring.free_descriptors(), 8);
  if (links < 2 || ring.free_descriptors() == 0 || ring.is_full()) return false;
  DiskRequest request = invent_request(facts_, style, lane.stream, next_tag_, random_);
  const auto chain = place_request(request, style, links, arena_, random_);
  std::optional<uint16_t> head;
  if (!chain.empty()) head = indirect ? ring.add_indirect(chain, random_) : ring.add(chain);
  if (!head) {
    give_back_request(request, arena_);
    return false;
  }
  request.begun = ++clock_;
  request.write_through = write_through();
  request.cache_modes = cache_modes_;
  for (const DiskModel::Range& range : request.ranges) {
    request.writes.push_back(disk_->model().begin_write(range, request.begun));
  }
  note("disk {}, queue {}: head {}, type {}, sector {:#x}, {} bytes", disk_->number(), lane.number,
       *head, request.type, request.sector, request.sent.size() + request.writable_bytes);
  lane.requests[*head] = std::move(request);
  return true;
}

void DiskDriver::submit(unsigned most) {
  Lane* const lane = life_ == Life::Up ? pick_lane(Life::Up) : nullptr;
  if (lane == nullptr) return;
  for (unsigned count = random_.between(1U, most); count > 0 && add_request(*lane); --count) {
  }
  if (!random_.percent(15)) publish(*lane);
}

void DiskDriver::publish(Lane& lane) {
  if (!lane.ring->publish()) return;
  lane.kick_owed = true;
  kick(lane);
}

void DiskDriver::kick(Lane& lane) {
  if (random_.percent(5)) {
    kick_through_window(lane.number);
  } else if (disk_->reachable()) {
    const uint64_t offset = pci_->notify_structure().offset + 4UL * lane.number;
    if (!disk_->board().doorbells.ring(GuestAddr(pci_->bar_base() + offset))) {
      pci_->bar_write(offset, 2, lane.number);
      disk_->board().loop.look_at_host_events();
    }
  } else {
    return;
  }
  note("disk {}, queue {}: kick", disk_->number(), lane.number);
  lane.kick_owed = false;
}

// 4.1.4.9: for those who can reach nothing but configuration space.
void DiskDriver::kick_through_window(uint16_t queue) {
  const uint16_t at = pci_->window_capability();
  pci_->config_write(static_cast<uint16_t>(at + 4), 1, 0);
  pci_->config_write(static_cast<uint16_t>(at + 8), 4,
                     pci_->notify_structure().offset + 4U * queue);
  pci_->config_write(static_cast<uint16_t>(at + 12), 4, 2);
  pci_->config_write(static_cast<uint16_t>(at + 16), 2, queue);
  disk_->board().loop.look_at_host_events();
}

// Back ------------------------------------------------------------------------------------------

size_t DiskDriver::collect(Lane& lane) {
  GuestRing& ring = *lane.ring;
  size_t count = 0;
  for (; ring.used_waiting() > 0; ++count) {
    expect(ring.used_waiting() <= ring.out(), "disk {}, queue {}: {} chains came back of {}",
           disk_->number(), lane.number, ring.used_waiting(), ring.out());
    const GuestRing::Used used = ring.take_used();
    expect(ring.is_out(used.head), "disk {}, queue {}: head {:#x} came back, which is not out",
           disk_->number(), lane.number, used.head);
    finish_request(lane, static_cast<uint16_t>(used.head), used.length);
  }
  return count;
}

void DiskDriver::check_untouched(const DiskRequest& request) const {
  for (const auto* const buffers : {&request.placed.readable, &request.placed.writable}) {
    for (const GuestBuffer& buffer : *buffers) {
      expect(!disk_->board().loop.touches(buffer.bytes),
             "disk {}: a request of type {} is over, but the host still has its buffer at {:#x}",
             disk_->number(), request.type, buffer.at.value());
    }
  }
}

void DiskDriver::end_writes(const DiskRequest& request, bool succeeded) {
  const bool durable = request.write_through && request.cache_modes == cache_modes_;
  const DiskModel::Time now = ++clock_;
  for (size_t i = 0; i < request.writes.size(); ++i) {
    disk_->model().end_write(request.writes[i], succeeded, durable, now);
    const DiskModel::Range& range = request.ranges[i];
    if (succeeded && durable) disk_->check_stable(range.sector, range.sectors);
  }
}

void DiskDriver::finish_request(Lane& lane, uint16_t head, uint32_t length) {
  std::optional<DiskRequest>& request = lane.requests[head];
  expect(request.has_value(), "disk {}, queue {}: head {} came back, which is no request",
         disk_->number(), lane.number, head);
  check_untouched(*request);
  if (!request->hostile) {
    const uint8_t status = status_of_request(*request);
    note("disk {}, queue {}: head {} is back, status {}, length {}", disk_->number(), lane.number,
         head, status, length);
    const bool flushes =
        request->type == VIRTIO_BLK_T_FLUSH || request->type == VIRTIO_BLK_T_WRITE_ZEROES;
    const bool host_failed = judge_request(*request, length, facts_, disk_->model(), clock_ + 1);
    if (host_failed && !(flushes && disk_->flush_failed())) ++host_errors_;
    expect(host_errors_ <= disk_->host_failures(), "disk {}: {} errors for {} failures of the host",
           disk_->number(), host_errors_, disk_->host_failures());
    end_writes(*request, status == VIRTIO_BLK_S_OK);
    if (request->type == VIRTIO_BLK_T_FLUSH && status == VIRTIO_BLK_S_OK) {
      disk_->model().flushed(request->begun);
      disk_->check_stable();
    }
  }
  give_back_request(*request, arena_);
  request.reset();
  lane.ring->free_chain(head);
}

// Interrupts ------------------------------------------------------------------------------------

size_t DiskDriver::handle_interrupt(Lane& lane) {
  if (lane.life != Life::Up) return 0;
  if (lane.ring->wish() != GuestRing::Wish::Always || random_.percent(50)) return collect(lane);
  // As Linux's NAPI: off, drain, on, and look again.
  lane.ring->wish_never();
  size_t count = collect(lane);
  while (!lane.ring->wish_always()) count += collect(lane);
  return count;
}

size_t DiskDriver::take_msix() {
  size_t count = 0;
  for (SimulatedMsi* const vector : disk_->interrupts().msi) {
    for (const uint32_t data : vector->take_messages()) {
      const uint32_t number = data - 0x4000;
      expect(number <= lanes_.size(), "disk {}: a message {:#x} that was never programmed",
             disk_->number(), data);
      ++count;
      if (life_ != Life::Up) continue;
      for (Lane& lane : lanes_) {
        if (lane.vector == number) count += handle_interrupt(lane);
      }
    }
  }
  return count;
}

size_t DiskDriver::take_intx(bool at_once) {
  SimulatedLevel& line = *disk_->interrupts().level;
  if (std::exchange(in_service_, false)) {
    line.end_of_interrupt();
    return 1;
  }
  if (!line.raised() || !disk_->reachable()) return 0;
  const uint8_t isr = pci_->read_isr();
  note("disk {}: INTx, ISR {}", disk_->number(), isr);
  if ((isr & 1) != 0 && life_ == Life::Up) {
    for (Lane& lane : lanes_) handle_interrupt(lane);
  }
  // What comes before the end of interrupt is told again after it.
  in_service_ = true;
  return at_once ? take_intx(true) : 1;
}

void DiskDriver::take_interrupts() {
  uses_msix() ? take_msix() : take_intx(random_.percent(50));
}

void DiskDriver::look() {
  Lane* const lane = life_ == Life::Up ? pick_lane(Life::Up) : nullptr;
  if (lane != nullptr) collect(*lane);
}

void DiskDriver::change_wish() {
  Lane* const lane = life_ == Life::Up ? pick_lane(Life::Up) : nullptr;
  if (lane == nullptr) return;
  const unsigned choice = random_.below(3U);
  note("disk {}, queue {}: wish {} for interrupts", disk_->number(), lane->number, choice);
  if (choice == 0) {
    lane->ring->wish_never();
  } else if (choice == 1 && facts_.features.has(Feature::EventIdx)) {
    lane->ring->wish_later(random_.between<uint16_t>(1, lane->ring->size()));
  } else {
    while (!lane->ring->wish_always()) collect(*lane);
  }
}

}  // namespace ringlet
