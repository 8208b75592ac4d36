// One simulated machine, from power-on to its end.
#include "tests/sim/lifetime.h"

#include <algorithm>
#include <cerrno>
#include <numeric>

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
      weight_sum_(std::accumulate(plan_.weights.begin(), plan_.weights.end(), 0U)),
      board_(plan_.loop, arena.memory()) {
  for (const DiskPlan& disk : plan_.disks) {
    disks_.push_back(
        std::make_unique<SimulatedDisk>(board_, disk, static_cast<int>(disks_.size())));
    disks_.back()->meddler().meanwhile = [this] { act_meanwhile(); };
    board_.doorbells.refuse |= disk.refuse_doorbells;
  }
  in_kick_gap() = [this] { act_meanwhile(); };
  board_.loop.before_submission = [this] { poll_meanwhile(); };
  board_.bridge.assign_bars();
  for (const auto& disk : disks_) {
    drivers_.push_back(std::make_unique<DiskDriver>(*disk, arena_, random_, clock_));
  }
}

Lifetime::~Lifetime() {
  in_kick_gap() = nullptr;
  board_.loop.drain();
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
    case Release:
      for (size_t op = 0; op < kSimOps; ++op) board_.loop.release(static_cast<SimOp>(op));
      break;
    case Fault: inject_fault(); break;
    case Hostile: driver.be_hostile(); break;
    case Poke: driver.poke(); break;
    case Kick: driver.kick_without_reason(); break;
    case PowerCut:
      for (const auto& disk : disks_) disk->check_stable();
      break;
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

void Lifetime::hold() {
  constexpr std::array<SimOp, 5> kOps{SimOp::Read, SimOp::Write, SimOp::Flush, SimOp::Allocate,
                                      SimOp::Poll};
  const SimOp op = random_.pick(kOps);
  note("operations of kind {} wait", static_cast<unsigned>(op));
  board_.loop.hold(op);
}

void Lifetime::inject_fault() {
  constexpr std::array<int32_t, 4> kAnyErrors{-EIO, -EINTR, -EAGAIN, -ENOSPC};
  constexpr std::array<int32_t, 4> kAllocateErrors{-EOPNOTSUPP, -EINVAL, -EIO, -EINTR};
  constexpr std::array<SimOp, 2> kTransfers{SimOp::Read, SimOp::Write};
  const unsigned choice = random_.below(4U);
  note("a fault of kind {}", choice);
  switch (choice) {
    case 0: board_.loop.fail_next(random_.pick(kTransfers), random_.pick(kAnyErrors)); break;
    case 1: board_.loop.fail_next(SimOp::Allocate, random_.pick(kAllocateErrors)); break;
    case 2: board_.loop.fail_next(SimOp::Flush, -EIO); break;
    default: board_.loop.shorten_next(random_.pick(kTransfers), random_.below(700U)); break;
  }
}

// What must hold -------------------------------------------------------------------------------

void Lifetime::turn() {
  Trace::current().set_turn(board_.loop.turns() + 1);
  board_.loop.step();
  for (const SimRecord& record : board_.loop.history()) {
    const auto owner =
        std::ranges::find_if(disks_, [&](const auto& disk) { return disk->owns(record.file); });
    if (owner != disks_.end()) (*owner)->asked_for(record);
  }
  board_.loop.clear_history();
  for (const auto& driver : drivers_) driver->check_turn();
}

void Lifetime::settle() {
  note("all comes to rest");
  settling_ = true;
  for (const auto& driver : drivers_) driver->clear_the_way();
  for (size_t op = 0; op < kSimOps; ++op) board_.loop.release(static_cast<SimOp>(op));
  unsigned rounds = 0;
  for (bool busy = true; busy; ++rounds) {
    expect(rounds < kMaxRounds, "the machine does not come to rest");
    turn();
    busy = !board_.loop.at_rest();
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
  const size_t polls = board_.loop.in_flight(SimOp::Poll);
  expect(board_.loop.in_flight() == polls, "{} operations are under way at the end",
         board_.loop.in_flight() - polls);
  size_t files = 0;
  for (const DiskPlan& disk : plan_.disks) files += 1 + 2UL * disk.queues + 1 + 2;
  expect(board_.loop.files() <= files, "the loop has {} files, expected {} at most",
         board_.loop.files(), files);
}

uint64_t Lifetime::requests() const {
  uint64_t sum = 0;
  for (const auto& disk : disks_) sum += disk->transport().runner().counters().chains;
  return sum;
}

}  // namespace ringlet
