// What one lifetime is like: drawn from its seed, so that rare combinations come up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/fake/simulated_loop.h"
#include "tests/sim/disk_request.h"
#include "tests/sim/random.h"

namespace ringlet {

enum class SimAction : uint8_t {
  Submit,      ///< requests onto one queue, and a kick if it is wanted
  Turn,        ///< the loop turns a few times
  Interrupts,  ///< the driver takes the interrupts that arrived
  Look,        ///< the driver looks at used rings without one
  Wish,        ///< the driver changes its mind about interrupts
  Start,       ///< brings up a disk that is down
  Reset,
  QueueReset,
  QueueStart,
  Pause,
  Resume,
  MoveBar,
  Mask,
  BusMaster,
  CacheMode,
  Hold,  ///< operations of one kind wait
  Release,
  Fault,     ///< one operation of the host fails in a peculiar way
  Hostile,   ///< the driver breaks the rules
  Poke,      ///< the driver writes registers that must not change
  Kick,      ///< a kick without reason, maybe through the configuration space
  PowerCut,  ///< what would be left on stable storage?
  Move,      ///< the machine is saved, and another one carries on
  Settle,    ///< everything comes to rest: is something missing?
};
inline constexpr size_t kSimActions = 24;

enum class InterruptStyle : uint8_t { PerQueue, Shared, Intx };

struct DiskPlan {
  uint64_t sectors = 0;
  uint16_t queues = 1;
  uint16_t queue_size = 16;
  uint16_t parts = 1;  // that the queues are dealt out to
  bool readonly = false;
  bool discard = true;
  bool writeback = true;
  uint32_t direct_alignment = 0;
  uint64_t declined = 0;  // features that the driver does not want
  InterruptStyle interrupts = InterruptStyle::PerQueue;
  unsigned msi_left = UINT32_MAX;
  bool refuse_doorbells = false;
  RequestStyle style;
};

struct SimPlan {
  SimPlan(uint64_t seed, SimRandom& random);

  SimulatedLoop::Options loop;
  std::vector<DiskPlan> disks;
  unsigned steps = 0;
  std::array<unsigned, kSimActions> weights{};
  unsigned meanwhile_percent = 0;  // of chains handled, at which the driver does something
  unsigned batch = 1;              // requests at a time
  unsigned turns = 1;              // of the loop at a time
};

}  // namespace ringlet
