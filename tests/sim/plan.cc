// What one lifetime is like: drawn from its seed, so that rare combinations come up.
#include "tests/sim/plan.h"

namespace ringlet {
namespace {

// Mostly none or few, sometimes many: averages hide bugs.
unsigned draw_percent(SimRandom& random) {
  constexpr std::array<unsigned, 8> kChoices{0, 0, 0, 2, 5, 10, 25, 60};
  return random.pick(kChoices);
}

DiskPlan draw_disk(SimRandom& random) {
  constexpr std::array<uint16_t, 9> kQueueSizes{4, 4, 8, 8, 16, 16, 32, 64, 128};
  constexpr std::array<uint16_t, 6> kQueues{1, 1, 1, 2, 2, 4};
  constexpr std::array<uint64_t, 4> kSectors{8, 24, 64, 160};
  constexpr std::array<uint32_t, 4> kAlignments{0, 0, 512, 4096};
  DiskPlan disk;
  disk.sectors = random.pick(kSectors);
  disk.queues = random.pick(kQueues);
  disk.queue_size = random.pick(kQueueSizes);
  disk.parts = random.percent(50) ? 1 : random.between<uint16_t>(1, disk.queues);
  disk.readonly = random.percent(10);
  disk.discard = random.percent(85);
  disk.writeback = random.percent(70);
  disk.direct_alignment = random.pick(kAlignments);
  for (unsigned bit = 0; bit < 64; ++bit) {
    const unsigned chance = bit == static_cast<unsigned>(Feature::RingPacked) ? 50 : 25;
    if (bit != static_cast<unsigned>(Feature::Version1) && random.percent(chance)) {
      disk.declined |= uint64_t{1} << bit;
    }
  }
  constexpr std::array<InterruptStyle, 4> kStyles{InterruptStyle::PerQueue,
                                                  InterruptStyle::PerQueue, InterruptStyle::Shared,
                                                  InterruptStyle::Intx};
  disk.interrupts = random.pick(kStyles);
  if (random.percent(5)) disk.msi_left = random.below(4U);
  disk.refuse_doorbells = random.percent(10);
  constexpr std::array<unsigned, 5> kWeights{0, 1, 2, 4, 8};
  for (unsigned& weight : disk.style.weights) weight = random.pick(kWeights);
  disk.style.weights[static_cast<size_t>(DiskRequest::Kind::Read)] += 1;
  disk.style.any_layout = random.percent(40);
  disk.style.indirect_percent = random.percent(30) ? 0 : random.below(101U);
  disk.style.long_percent = random.percent(60) ? 0 : random.below(50U);
  disk.style.sequential_percent = random.percent(50) ? 0 : random.between(20U, 95U);
  disk.style.hot_sectors = random.percent(50) ? 0 : random.between<uint64_t>(1, 8);
  return disk;
}

}  // namespace

SimPlan::SimPlan(uint64_t seed, SimRandom& random) {
  loop.seed = seed;
  loop.adversarial = random.percent(90);
  loop.short_percent = draw_percent(random);
  loop.fail_percent = draw_percent(random) / 3;
  loop.fail_flushes = random.percent(30);
  loop.end_poll_percent = draw_percent(random);
  loop.host_events_on_request = true;

  const unsigned count = random.percent(60) ? 1 : random.between(2U, 3U);
  for (unsigned i = 0; i < count; ++i) disks.push_back(draw_disk(random));
  steps = random.between(200U, 900U);
  constexpr std::array<unsigned, 6> kWeights{0, 0, 1, 2, 4, 8};
  for (unsigned& weight : weights) weight = random.pick(kWeights);
  const auto weigh = [this](SimAction action, unsigned weight) {
    weights[static_cast<size_t>(action)] = weight;
  };
  // Without these nothing happens.
  weigh(SimAction::Submit, random.between(20U, 60U));
  weigh(SimAction::Turn, random.between(20U, 80U));
  weigh(SimAction::Interrupts, random.between(10U, 30U));
  weigh(SimAction::Start, random.between(5U, 20U));
  // These take long, or spoil much.
  weigh(SimAction::BusMaster, random.percent(70) ? 0 : 2);
  weigh(SimAction::Move, random.percent(70) ? 0 : 1);
  weigh(SimAction::Settle, random.below(3U));
  weigh(SimAction::Hostile, random.percent(60) ? 0 : random.between(1U, 4U));
  meanwhile_percent = draw_percent(random);
  batch = random.between(1U, random.percent(50) ? 3U : 12U);
  turns = random.between(1U, 6U);
}

}  // namespace ringlet
