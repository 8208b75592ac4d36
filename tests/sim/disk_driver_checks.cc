// What must hold of a simulated disk: after each turn of the loop, and when all is at rest.
#include <linux/virtio_pci.h>

#include <algorithm>

#include "tests/sim/disk_driver.h"
#include "tests/sim/trace.h"
#include "virtio/blk_layout.h"

namespace ringlet {

// Adds up which notifications the steps of the used rings call for, by vector.
size_t DiskDriver::check_used_rings(std::vector<Signals>& expected) {
  size_t moved = 0;
  for (Lane& lane : lanes_) {
    if (lane.life == Life::Down) continue;
    const uint16_t now = lane.ring->used_index();
    const uint16_t before = std::exchange(lane.used_seen, now);
    if (now == before) continue;
    ++moved;
    expect(static_cast<uint16_t>(now - before) <= lane.ring->size(),
           "disk {}, queue {}: the used index went from {} to {}", disk_->number(), lane.number,
           before, now);
    if (lane.vector >= expected.size() || !lane.ring->interrupts(before, now)) continue;
    ++expected[lane.vector].most;
    // A reset takes the vector away at once.
    if (life_ == Life::Up && lane.life == Life::Up) ++expected[lane.vector].least;
  }
  return moved;
}

// One interrupt for each batch that calls for one, and none without (2.7.7.2).
void DiskDriver::check_interrupts(std::vector<Signals>& expected, uint64_t failures) {
  if (config_vector_ < expected.size()) {
    Signals& signals = expected[config_vector_];
    if (life_ == Life::Up) signals.least += failures;
    signals.most += failures;
  }
  for (const uint16_t vector : std::exchange(resumed_, {})) {
    ++expected[vector].least;
    ++expected[vector].most;
  }
  // 2.4.1: none follows the end of a reset, also if the driver has seen that in this turn.
  if (reset_turn_ == disk_->board().loop.turns()) std::ranges::fill(expected, Signals{});
  expect(disk_->interrupts().level->take_signals() == 0 || life_ != Life::Down,
         "disk {}: INTx is raised after the end of a reset", disk_->number());
  for (size_t i = 0; i < vectors_.size(); ++i) {
    const uint64_t signals = disk_->interrupts().msi[i]->take_signals();
    const auto [least, most] = expected[vectors_[i]];
    expect(signals >= least && signals <= most,
           "disk {}: vector {} was signalled {} times in this turn, expected {} to {}",
           disk_->number(), vectors_[i], signals, least, most);
  }
}

// A device that failed, is paused or is no bus master takes no chains.
void DiskDriver::check_chains() {
  const uint64_t chains = disk_->transport().counts().chains;
  const uint64_t before = std::exchange(chains_seen_, chains);
  expect(chains == before || takes_chains_, "disk {}: it took chains while it was to rest",
         disk_->number());
  const bool master = (pci_->config_read(kConfigCommand, 2) & PciCommand::kBusMaster) != 0;
  const bool may_take = master && !failed_ && !quiet_.asked;
  // Parts on other loops hear of a failure or a pause a turn later.
  const bool could_take = std::exchange(could_take_, may_take);
  takes_chains_ = may_take || (could_take && disk_->plan().parts > 1);
}

void DiskDriver::check_turn() {
  std::vector<Signals> expected(lanes_.size() + 1);
  const size_t moved = check_used_rings(expected);
  const uint64_t total = disk_->transport().counts().failures;
  const uint64_t failures = total - std::exchange(failures_seen_, total);
  expect(failures == 0 || was_tainted_, "disk {}: it failed, and nobody broke the rules",
         disk_->number());
  if (failures > 0) note("disk {}: it has failed", disk_->number());
  failed_ = (failed_ || failures > 0) && life_ != Life::Down;
  check_interrupts(expected, failures);
  was_tainted_ = tainted_;
  check_chains();
  if (!quiet_.reached) return;
  expect(moved == 0 || !quiet_.checked, "disk {}: it moves while it is paused", disk_->number());
  expect(disk_->in_flight() == 0, "disk {}: {} operations are under way while it is paused",
         disk_->number(), disk_->in_flight());
  quiet_.checked = true;
}

// At rest ---------------------------------------------------------------------------------------

void DiskDriver::clear_the_way() {
  pci_->config_write(kConfigCommand, 2, kCommand);
  pci_->move_bar(home_);
  takes_chains_ = could_take_ = true;
}

bool DiskDriver::carry_on() {
  expect(disk_->reachable(), "disk {}: its BAR is at home and not decoded", disk_->number());
  size_t count = 0;
  if (quiet_.reached) {
    resume();
    ++count;
  }
  if (msix_enabled_) {
    pci_->mask_function(false);
    for (uint16_t vector = 0; vector <= lanes_.size(); ++vector) pci_->mask_vector(vector, false);
  }
  poll_resets();
  count += uses_msix() ? take_msix() : take_intx(true);
  if (life_ != Life::Up) return count > 0;
  for (Lane& lane : lanes_) {
    if (lane.life != Life::Up) continue;
    if (lane.ring->has_unpublished()) {
      publish(lane);
      ++count;
    }
    if (lane.kick_owed) {
      kick(lane);
      ++count;
    }
    if (is_polled(lane)) count += collect(lane);
    // Who waits for an interrupt that never comes is found out.
    if (lane.ring->wish() == GuestRing::Wish::Always) continue;
    while (!lane.ring->wish_always()) count += collect(lane);
  }
  return count > 0;
}

void DiskDriver::check_settled() {
  expect(life_ != Life::Resetting, "disk {}: a reset that is never done", disk_->number());
  expect(!quiet_.asked, "disk {}: a pause that is never reached", disk_->number());
  expect(disk_->in_flight() == 0, "disk {}: operations of the host that never end",
         disk_->number());
  if (life_ != Life::Up) {
    expect(pci_->status() == 0, "disk {}: status {} after a reset", disk_->number(),
           pci_->status());
    return;
  }
  const bool failed = (pci_->status() & status::kNeedsReset) != 0;
  expect(failed || !must_fail_, "disk {}: a hostile act went unnoticed", disk_->number());
  expect(!failed || tainted_, "disk {}: it needs a reset, and nobody broke the rules",
         disk_->number());
  const bool writeback = pci_->device_config(offsetof(BlkConfigLayout, writeback), 1) != 0;
  expect(writeback == writeback_, "disk {}: its cache mode is {}", disk_->number(), writeback);
  for (const Lane& lane : lanes_) {
    expect(lane.life != Life::Resetting, "disk {}, queue {}: a reset that is never done",
           disk_->number(), lane.number);
    if (failed || lane.life != Life::Up) continue;
    expect(lane.ring->out() == 0, "disk {}, queue {}: waits for {} chains for ever",
           disk_->number(), lane.number, lane.ring->out());
  }
}

}  // namespace ringlet
