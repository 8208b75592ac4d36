// The simulated driver's life: bringing a disk up, resetting it and its queues, pauses.
#include <linux/virtio_blk.h>

#include <algorithm>
#include <bit>

#include "tests/sim/disk_driver.h"
#include "tests/sim/trace.h"

namespace ringlet {

DiskDriver::DiskDriver(SimulatedDisk& disk, GuestArena& arena, SimRandom& random, uint64_t& clock)
    : disk_(&disk),
      arena_(arena),
      random_(random),
      clock_(clock),
      facts_{.sectors = disk.plan().sectors,
             .readonly = disk.plan().readonly,
             .serial = disk.serial()},
      lanes_(disk.plan().queues) {
  find_device();
  home_ = pci_->bar_base();
  pci_->config_write(kConfigCommand, 2, kCommand);
  for (uint16_t i = 0; i < lanes_.size(); ++i) lanes_[i].number = i;
}

void DiskDriver::find_device() {
  pci_.emplace(GuestBus{.buses = disk_->board().buses,
                        .ecam = GuestAddr(SimulatedBoard::kLayout.ecam.base),
                        .interrupts = no_interrupts_,
                        .doorbells = no_doorbells_},
               disk_->bdf());
  pci_->find_capabilities();
}

void DiskDriver::move_to(SimulatedDisk& disk, const PciTransportState& state) {
  disk_ = &disk;
  find_device();
  facts_.serial = disk.serial();
  // The vectors in the order in which a restore asks for them.
  std::vector<uint16_t> wanted{state.config_vector};
  for (const QueueState& queue : state.queues) wanted.push_back(queue.vector);
  for (uint16_t i = 0; i < state.msix.vectors.size(); ++i) {
    if (!state.msix.vectors[i].pending) continue;
    wanted.push_back(i);
    resumed_.push_back(i);
  }
  vectors_.clear();
  for (const uint16_t vector : wanted) {
    const bool known = std::ranges::find(vectors_, vector) != vectors_.end();
    if (vector != PciDriver::kNoVector && !known) vectors_.push_back(vector);
  }
  quiet_.asked = quiet_.reached = quiet_.checked = false;
  failures_seen_ = chains_seen_ = 0;
  reset_turn_ = UINT64_MAX;
  takes_chains_ = could_take_ = true;
}

DiskDriver::Lane* DiskDriver::pick_lane(Life life) {
  const size_t start = random_.below(lanes_.size());
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[(start + i) % lanes_.size()];
    if (lane.life == life) return &lane;
  }
  return nullptr;
}

uint16_t DiskDriver::vector_for(const Lane& lane) {
  if (!uses_msix() || random_.percent(5)) return PciDriver::kNoVector;
  return disk_->plan().interrupts == InterruptStyle::Shared
             ? uint16_t{0}
             : static_cast<uint16_t>(lane.number + 1);
}

bool DiskDriver::is_polled(const Lane& lane) const {
  return uses_msix() && lane.vector == PciDriver::kNoVector;
}

// The host makes a vector when it is first asked for.
void DiskDriver::note_vector(uint16_t vector) {
  if (disk_->interrupts().msi.size() > vectors_.size()) vectors_.push_back(vector);
}

// A driver without VERSION_1 would be a legacy one, with which the device cannot work (6.1).
bool DiskDriver::refused_features() {
  const bool accepted = pci_->negotiate(pci_->offered().without(Feature::Version1));
  expect(!accepted, "disk {}: features without VERSION_1 were accepted", disk_->number());
  pci_->start_reset();
  expect(pci_->status() == 0, "disk {}: a reset before DRIVER_OK is not done", disk_->number());
  return true;
}

void DiskDriver::start() {
  if (life_ != Life::Down || !disk_->reachable()) return;
  // The turn's notifications are those of the life before.
  if (reset_turn_ == disk_->board().loop.turns()) return;
  if (random_.percent(2)) refused_features();
  const Features offered = pci_->offered();
  const Features declined(random_.percent(80) ? disk_->plan().declined : random_.next());
  facts_.features = offered.without(declined) | Feature::Version1;
  expect(pci_->negotiate(facts_.features), "disk {}: the features it offers are refused",
         disk_->number());
  if (uses_msix() && !msix_enabled_) pci_->enable_msix();
  msix_enabled_ = uses_msix();
  config_vector_ = PciDriver::kNoVector;
  if (uses_msix() && !random_.percent(10) && pci_->set_config_vector(0)) config_vector_ = 0;
  note_vector(0);
  writeback_ = disk_->plan().writeback;
  if (facts_.features.has(BlkFeature::ConfigWce) && !facts_.features.has(BlkFeature::Flush)) {
    writeback_ = false;
  }
  ++cache_modes_;
  tainted_ = must_fail_ = false;
  note("disk {}: starts with features {:#x}", disk_->number(), facts_.features.bits());
  for (Lane& lane : lanes_) {
    if (!random_.percent(5)) start_lane(lane);
  }
  // What is available already needs no kick (3.1.1 forbids one before DRIVER_OK).
  life_ = Life::Up;
  for (Lane& lane : lanes_) {
    if (lane.life != Life::Up || !random_.percent(20)) continue;
    while (random_.percent(60) && add_request(lane)) {
    }
    [[maybe_unused]] const bool wants_kick = lane.ring->publish();
  }
  pci_->driver_ok();
}

bool DiskDriver::start_lane(Lane& lane) {
  const auto bits = static_cast<unsigned>(std::bit_width(disk_->plan().queue_size)) - 1;
  const unsigned shrink = random_.percent(60) ? 0 : random_.below(bits);
  auto size = static_cast<uint16_t>(disk_->plan().queue_size >> shrink);
  // 2.8.10.1: packed queues have any size.
  const bool packed = facts_.features.has(Feature::RingPacked);
  if (packed && random_.percent(40)) size = random_.between<uint16_t>(2, size);
  lane.ring = GuestRing::make(arena_, size, facts_.features, random_);
  if (!lane.ring) return false;
  lane.requests.clear();
  lane.requests.resize(size);
  lane.used_seen = 0;
  lane.kick_owed = false;
  lane.life = Life::Up;
  lane.vector = vector_for(lane);
  QueueConfig config = lane.ring->config();
  const bool wrong = disk_->plan().style.weights[static_cast<size_t>(DiskRequest::Kind::Bad)] > 4 &&
                     random_.percent(2);
  if (wrong) {
    // The device must notice: a ring outside of memory.
    GuestAddr& part = packed ? config.descriptors : config.device_area;
    part = GuestAddr(random_.pick(arena_.bad_addresses()).value() & ~uint64_t{packed ? 15U : 3U});
    taint();
    note("disk {}, queue {}: a ring of it is at {:#x}", disk_->number(), lane.number, part.value());
  }
  if (!pci_->enable_queue(QueueIndex(lane.number), config, lane.vector)) {
    lane.vector = PciDriver::kNoVector;
  }
  note_vector(lane.vector);
  note("disk {}, queue {}: starts with size {}, vector {}", disk_->number(), lane.number, size,
       lane.vector);
  return true;
}

void DiskDriver::start_queue() {
  Lane* const lane = up() ? pick_lane(Life::Down) : nullptr;
  // After DRIVER_OK only a queue that was reset may be enabled; 2.6.1.
  if (lane != nullptr && facts_.features.has(Feature::RingReset)) start_lane(*lane);
}

void DiskDriver::reset() {
  if (!up()) return;
  note("disk {}: reset", disk_->number());
  life_ = Life::Resetting;
  pci_->start_reset();
}

void DiskDriver::reset_queue() {
  Lane* const lane = up() ? pick_lane(Life::Up) : nullptr;
  if (lane == nullptr || !facts_.features.has(Feature::RingReset)) return;
  note("disk {}, queue {}: reset", disk_->number(), lane->number);
  lane->life = Life::Resetting;
  must_fail_ = false;  // the device may never see what was wrong
  pci_->start_queue_reset(QueueIndex(lane->number));
}

void DiskDriver::poll_resets() {
  if (!disk_->reachable()) return;
  if (life_ == Life::Resetting) {
    if (pci_->status() == 0) finish_reset();
    return;
  }
  for (Lane& lane : lanes_) {
    if (lane.life != Life::Resetting || !pci_->queue_reset_done(QueueIndex(lane.number))) continue;
    note("disk {}, queue {}: the reset is done", disk_->number(), lane.number);
    drop_lane(lane);
  }
}

void DiskDriver::finish_reset() {
  note("disk {}: the reset is done", disk_->number());
  expect(disk_->in_flight() == 0, "disk {}: {} operations are under way after a reset",
         disk_->number(), disk_->in_flight());
  expect(pci_->read_isr() == 0, "disk {}: an interrupt is pending after a reset", disk_->number());
  for (SimulatedMsi* const vector : disk_->interrupts().msi) {
    expect(!vector->pending(), "disk {}: a masked vector is pending after a reset",
           disk_->number());
    vector->take_messages();
  }
  for (Lane& lane : lanes_) {
    if (lane.life != Life::Down) drop_lane(lane);
  }
  life_ = Life::Down;
  tainted_ = must_fail_ = failed_ = false;
  takes_chains_ = could_take_ = true;
  reset_turn_ = disk_->board().loop.turns();
}

// What is out was abandoned. Nothing may touch its memory from now on.
void DiskDriver::drop_lane(Lane& lane) {
  for (auto& request : lane.requests) {
    if (!request) continue;
    check_untouched(*request);
    end_writes(*request, false);
    give_back_request(*request, arena_);
    request.reset();
  }
  lane.ring->release();
  lane.ring.reset();
  lane.life = Life::Down;
  lane.kick_owed = false;
}

void DiskDriver::pause() {
  if (quiet_.asked) return;
  note("disk {}: pause", disk_->number());
  quiet_.asked = true;
  disk_->transport().quiesce(quiet_);
}

void DiskDriver::resume() {
  if (!quiet_.reached) return;
  note("disk {}: resume", disk_->number());
  quiet_.asked = quiet_.reached = quiet_.checked = false;
  takes_chains_ = could_take_ = true;
  disk_->transport().resume();
}

}  // namespace ringlet
