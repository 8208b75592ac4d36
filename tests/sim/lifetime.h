// One simulated machine, from power-on to its end.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/sim/disk_driver.h"
#include "tests/sim/guest_arena.h"
#include "tests/sim/plan.h"
#include "tests/sim/simulated_disk.h"

namespace ringlet {

class Lifetime {
 public:
  /// `arena` is cleared first.
  Lifetime(uint64_t seed, GuestArena& arena);
  ~Lifetime();

  /// Ends the process with a report when an invariant breaks.
  void run();
  uint64_t turns() const { return turns_before_ + board_->loop.turns(); }
  uint64_t requests() const;
  /// Of those, reads and writes that the device joined to the one before.
  uint64_t merged() const;

 private:
  static constexpr unsigned kMaxRounds = 20'000;

  void act();
  void act_on(DiskDriver& driver, SimAction action);
  void act_meanwhile();
  void poll_meanwhile();
  void hold();
  void inject_fault();
  void turn();
  void power_on();
  void release_all();
  void move();
  void come_to_a_pause();
  void settle();
  void shut_down();

  GuestArena& arena_;
  SimRandom random_;
  const SimPlan plan_;
  unsigned weight_sum_ = 0;
  std::unique_ptr<SimulatedBoard> board_;
  uint64_t clock_ = 0;
  bool settling_ = false;  // no vCPU acts by itself
  // Of the machines before this one.
  uint64_t moves_ = 0;
  uint64_t turns_before_ = 0;
  uint64_t requests_before_ = 0;
  uint64_t merged_before_ = 0;
  std::vector<std::unique_ptr<SimulatedDisk>> disks_;
  std::vector<std::unique_ptr<DiskDriver>> drivers_;
};

}  // namespace ringlet
