// One simulated machine, from power-on to its end.
#include "tests/sim/lifetime.h"

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

#include "tests/sim/kick_gap.h"
#include "tests/sim/trace.h"

namespace ringlet {
namespace {

GuestArena& cleared(GuestArena& arena) {
  arena.clear();
  return arena;
}

}  // namespace

Lifetime::Lifetime(uint64_t seed, GuestArena& arena)
    : arena_(cleared(arena)),
      random_(seed),
      plan_(seed, random_),
      weight_sum_(std::accumulate(plan_.weights.begin(), plan_.weights.end(), 0U)) {
  in_kick_gap() = [this] { act_meanwhile(); };
  power_on();
  for (const auto& disk : disks_) {
    drivers_.push_back(std::make_unique<DiskDriver>(*disk, arena_, random_, clock_));
  }
}

void Lifetime::power_on() {
  SimulatedLoop::Options options = plan_.loop;
  options.seed += moves_;
  board_ = std::make_unique<SimulatedBoard>(options, arena_.memory());
  board_->loop.before_submission = [this] { poll_meanwhile(); };
  for (const DiskPlan& disk : plan_.disks) {
    disks_.push_back(
        std::make_unique<SimulatedDisk>(*board_, disk, static_cast<int>(disks_.size())));
    disks_.back()->set_meanwhile([this] { act_meanwhile(); });
    board_->doorbells.refuse |= disk.refuse_doorbells;
  }
  board_->bridge.assign_bars();
}

Lifetime::~Lifetime() {
  in_kick_gap() = nullptr;
  board_->loop.drain();
}

void Lifetime::run() {
  for (unsigned step = 0; step < plan_.steps; ++step) act();
  settle();
  shut_down();
}

// What happens ---------------------------------------------------------------------------------

void Lifetime::act() {
  unsigned draw = random_.below(weight_sum_);
  size_t action = 0;
  while (draw >= plan_.weights[action]) draw -= plan_.weights[action++];
  act_on(*random_.pick(drivers_), static_cast<SimAction>(action));
  for (const auto& driver : drivers_) {
    if (random_.percent(30)) driver->poll_resets();
  }
}

void Lifetime::act_on(DiskDriver& driver, SimAction action) {
  switch (action) {
    using enum SimAction;
    case Submit: driver.submit(plan_.batch); break;
    case Turn:
      for (unsigned left = random_.between(1U, plan_.turns); left > 0; --left) turn();
      break;
    case Interrupts: driver.take_interrupts(); break;
    case Look: driver.look(); break;
    case Wish: driver.change_wish(); break;
    case Start: driver.start(); break;
    case Reset: driver.reset(); break;
    case QueueReset: driver.reset_queue(); break;
    case QueueStart: driver.start_queue(); break;
    case Pause: driver.pause(); break;
    case Resume: driver.resume(); break;
    case MoveBar: driver.move_bar(); break;
    case Mask: driver.change_masks(); break;
    case BusMaster: driver.change_bus_master(); break;
    case CacheMode: driver.change_cache_mode(); break;
    case Hold: hold(); break;
    case Release: release_all(); break;
    case Fault: inject_fault(); break;
    case Hostile: driver.be_hostile(); break;
    case Poke: driver.poke(); break;
    case Kick: driver.kick_without_reason(); break;
    case PowerCut:
      for (const auto& disk : disks_) disk->check_stable();
      break;
    case Move: move(); break;
    case Settle: settle(); break;
  }
}

// A vCPU while the loop is in the midst of a turn. Pauses are the loop's own business.
void Lifetime::act_meanwhile() {
  if (settling_ || !random_.percent(plan_.meanwhile_percent)) return;
  using enum SimAction;
  constexpr std::array<SimAction, 16> kActions{
      Submit, Submit,     Submit, Submit,     Interrupts, Look,      Wish,    Wish,
      Reset,  QueueReset, Start,  QueueStart, Mask,       CacheMode, MoveBar, Kick};
  const SimAction action = random_.pick(kActions);
  const bool wanted = action == Submit || plan_.weights[static_cast<size_t>(action)] > 0;
  if (!wanted) return;
  note("meanwhile:");
  DiskDriver& driver = *random_.pick(drivers_);
  act_on(driver, action);
  // A cache mode counts at once for what is made available behind it.
  if (action == CacheMode) act_on(driver, Submit);
  driver.poll_resets();
}

void Lifetime::poll_meanwhile() {
  for (const auto& driver : drivers_) {
    if (!settling_ && random_.percent(plan_.meanwhile_percent)) driver->poll_resets();
  }
}

void Lifetime::release_all() {
  for (size_t op = 0; op < kSimOps; ++op) board_->loop.release(static_cast<SimOp>(op));
}

void Lifetime::hold() {
  constexpr std::array<SimOp, 5> kOps{SimOp::Read, SimOp::Write, SimOp::Flush, SimOp::Allocate,
                                      SimOp::Poll};
  const SimOp op = random_.pick(kOps);
  note("operations of kind {} wait", static_cast<unsigned>(op));
  board_->loop.hold(op);
}

void Lifetime::inject_fault() {
  constexpr std::array<int32_t, 4> kAnyErrors{-EIO, -EINTR, -EAGAIN, -ENOSPC};
  constexpr std::array<int32_t, 4> kAllocateErrors{-EOPNOTSUPP, -EINVAL, -EIO, -EINTR};
  constexpr std::array<SimOp, 2> kTransfers{SimOp::Read, SimOp::Write};
  const unsigned choice = random_.below(4U);
  note("a fault of kind {}", choice);
  switch (choice) {
    case 0: board_->loop.fail_next(random_.pick(kTransfers), random_.pick(kAnyErrors)); break;
    case 1: board_->loop.fail_next(SimOp::Allocate, random_.pick(kAllocateErrors)); break;
    case 2: board_->loop.fail_next(SimOp::Flush, -EIO); break;
    default: board_->loop.shorten_next(random_.pick(kTransfers), random_.below(700U)); break;
  }
}

// Saving and restoring -------------------------------------------------------------------------

// The vCPUs go on for a while; then they are stopped, and the devices come to rest.
void Lifetime::come_to_a_pause() {
  for (const auto& driver : drivers_) driver->pause();
  for (unsigned left = random_.below(8U); left > 0; --left) {
    turn();
    random_.pick(drivers_)->submit(plan_.batch);
  }
  release_all();
  settling_ = true;
  const auto quiet = [](const auto& driver) { return driver->is_quiet(); };
  unsigned rounds = 0;
  do {
    expect(rounds++ < kMaxRounds, "a pause that is never reached");
    turn();
  } while (!board_->loop.at_rest() || !std::ranges::all_of(drivers_, quiet));
  for (const auto& driver : drivers_) driver->take_interrupts();
}

void Lifetime::move() {
  // That a flush failed once is not part of the state: the new host opens the file anew.
  if (std::ranges::any_of(disks_, [](const auto& disk) { return disk->flush_failed(); })) return;
  come_to_a_pause();
  if (std::ranges::any_of(disks_, [](const auto& disk) { return disk->flush_failed(); })) {
    settling_ = false;
    return;
  }
  note("the machine moves");
  std::vector<PciTransportState> states;
  for (const auto& disk : disks_) states.push_back(disk->transport().save());
  const HostBridgeState bridge = board_->bridge.save();
  turns_before_ = turns();
  requests_before_ = requests();
  merged_before_ = merged();
  ++moves_;
  board_->loop.drain();
  const std::unique_ptr<SimulatedBoard> old_board = std::move(board_);
  const auto old_disks = std::exchange(disks_, {});
  power_on();
  for (size_t i = 0; i < disks_.size(); ++i) {
    disks_[i]->take_over(*old_disks[i]);
    disks_[i]->transport().restore(states[i]);
    drivers_[i]->move_to(*disks_[i], states[i]);
  }
  board_->bridge.restore(bridge);
  settling_ = false;
}

// What must hold -------------------------------------------------------------------------------

void Lifetime::turn() {
  Trace::current().set_turn(turns() + 1);
  board_->loop.step();
  for (const SimRecord& record : board_->loop.history()) {
    const auto owner =
        std::ranges::find_if(disks_, [&](const auto& disk) { return disk->owns(record.file); });
    if (owner != disks_.end()) (*owner)->asked_for(record);
  }
  board_->loop.clear_history();
  for (const auto& driver : drivers_) driver->check_turn();
}

void Lifetime::settle() {
  note("all comes to rest");
  settling_ = true;
  for (const auto& driver : drivers_) driver->clear_the_way();
  release_all();
  unsigned rounds = 0;
  for (bool busy = true; busy; ++rounds) {
    expect(rounds < kMaxRounds, "the machine does not come to rest");
    turn();
    busy = !board_->loop.at_rest();
    for (const auto& driver : drivers_) busy |= driver->carry_on();
  }
  for (const auto& driver : drivers_) driver->check_settled();
  settling_ = false;
}

void Lifetime::shut_down() {
  for (const auto& disk : disks_) {
    disk->check_file();
    disk->check_stable();
  }
  note("shutdown");
  for (const auto& driver : drivers_) driver->reset();
  settle();
  for (const auto& driver : drivers_) expect(driver->is_down(), "a disk is not down");
  for (const auto& disk : disks_) disk->check_file();
  expect(arena_.all_free(), "guest memory is still borrowed");
  arena_.check_free();
  const size_t polls = board_->loop.in_flight(SimOp::Poll);
  expect(board_->loop.in_flight() == polls, "{} operations are under way at the end",
         board_->loop.in_flight() - polls);
  size_t files = 0;
  // Of each part the disk's two files, the vector for configuration changes, INTx and its
  // acknowledgement; of each queue its doorbell and its vector.
  for (const DiskPlan& disk : plan_.disks) files += 5UL * disk.parts + 2UL * disk.queues;
  expect(board_->loop.files() <= files, "the loop has {} files, expected {} at most",
         board_->loop.files(), files);
}

uint64_t Lifetime::requests() const {
  uint64_t sum = requests_before_;
  for (const auto& disk : disks_) sum += disk->transport().counts().chains;
  return sum;
}

uint64_t Lifetime::merged() const {
  uint64_t sum = merged_before_;
  for (const auto& disk : disks_) sum += disk->merged();
  return sum;
}

}  // namespace ringlet
