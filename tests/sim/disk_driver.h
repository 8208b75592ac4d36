// The simulated guest's driver of one disk: obeys the specification, except when told not to.
//
//   down ── start() ──► up ── reset() ──► resetting ── status reads 0 ──► down
//
// A queue of its own goes the same way. Every action may be asked for at any moment, also while the
// loop is in the midst of a turn, and does nothing when it makes no sense.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tests/fake/driver.h"
#include "tests/sim/disk_request.h"
#include "tests/sim/guest_arena.h"
#include "tests/sim/guest_ring.h"
#include "tests/sim/simulated_disk.h"
#include "virtio/pci_transport_state.h"

namespace ringlet {

class DiskDriver {
 public:
  DiskDriver(SimulatedDisk& disk, GuestArena& arena, SimRandom& random, uint64_t& clock);

  // Life.
  void start();
  void reset();
  void reset_queue();
  void start_queue();
  /// Looks whether what is being reset is done.
  void poll_resets();
  void pause();
  void resume();
  bool is_quiet() const { return quiet_.reached; }
  /// The guest goes on in another machine, where `disk` is what was saved as `state`.
  void move_to(SimulatedDisk& disk, const PciTransportState& state);

  // Requests and interrupts.
  void submit(unsigned most);
  void take_interrupts();
  void look();
  void change_wish();

  // Circumstances.
  void change_cache_mode();
  void change_masks();
  void change_bus_master();
  void move_bar();
  void poke();
  void kick_without_reason();
  /// Breaks the rules; the device has to notice, and no other.
  void be_hostile();

  // The checker.
  /// After each turn of the loop: used rings, interrupts, failures.
  void check_turn();
  /// Ends what circumstances stand in the way of requests.
  void clear_the_way();
  /// One round of what a driver does by itself; true when it did something.
  bool carry_on();
  /// Nothing moves any more: nothing may be missing.
  void check_settled();
  /// Down, with all memory given back.
  bool is_down() const { return life_ == Life::Down; }

 private:
  enum class Life : uint8_t { Down, Up, Resetting };
  struct Lane {
    Life life = Life::Down;
    uint16_t number = 0;
    uint16_t vector = 0;
    std::unique_ptr<GuestRing> ring;
    std::vector<std::optional<DiskRequest>> requests;  // by head
    DiskStream stream;
    uint16_t used_seen = 0;  // the used index after the last turn
    bool kick_owed = false;  // its doorbell could not be reached
  };
  struct Quiet final : Task {
    void run() noexcept override { reached = true; }
    bool asked = false;
    bool reached = false;
    bool checked = false;  // a turn has ended since
  };

  /// The Command register while nothing stands in the way.
  static constexpr uint16_t kCommand = PciCommand::kMemory | PciCommand::kBusMaster;

  bool up() const { return life_ == Life::Up && disk_->reachable(); }
  Lane* pick_lane(Life life);
  bool uses_msix() const { return disk_->plan().interrupts != InterruptStyle::Intx; }
  uint16_t vector_for(const Lane& lane);
  bool is_polled(const Lane& lane) const;
  void note_vector(uint16_t vector);
  void find_device();
  bool write_through() const { return !facts_.features.has(BlkFeature::Flush) || !writeback_; }

  bool refused_features();
  bool start_lane(Lane& lane);
  void drop_lane(Lane& lane);
  void taint() { tainted_ = must_fail_ = was_tainted_ = true; }
  void finish_reset();

  bool add_request(Lane& lane);
  void publish(Lane& lane);
  void kick(Lane& lane);
  void kick_through_window(uint16_t queue);
  size_t collect(Lane& lane);
  size_t handle_interrupt(Lane& lane);
  size_t take_intx(bool at_once);
  size_t take_msix();
  void finish_request(Lane& lane, uint16_t head, uint32_t length);
  void end_writes(const DiskRequest& request, bool succeeded);
  void check_untouched(const DiskRequest& request) const;

  // Hostile acts, each on a queue with some descriptors free; false when it could not.
  bool break_split(Lane& lane, unsigned act);
  bool offer_bad_head(SplitGuestRing& ring);
  bool offer_bad_descriptor(Lane& lane, SplitGuestRing& ring);
  bool offer_bad_table(Lane& lane, SplitGuestRing& ring);
  bool offer_loop(Lane& lane, SplitGuestRing& ring);
  bool offer_twice(Lane& lane, SplitGuestRing& ring);
  bool offer_torso(Lane& lane, SplitGuestRing& ring);
  bool break_packed(Lane& lane, unsigned act);
  bool offer_packed_table(Lane& lane, PackedGuestRing& ring);
  bool offer_packed_twice(Lane& lane, PackedGuestRing& ring);
  std::optional<GuestBuffer> hostile_buffer(size_t bytes);
  void add_hostile(Lane& lane, uint16_t head, const GuestBuffer& buffer);

  /// How many signals a vector has to get in a turn.
  struct Signals {
    uint64_t least = 0;
    uint64_t most = 0;
  };
  size_t check_used_rings(std::vector<Signals>& expected);
  void check_interrupts(std::vector<Signals>& expected, uint64_t failures);
  void check_chains();

  SimulatedDisk* disk_;  // another one after a move
  GuestArena& arena_;
  SimRandom& random_;
  uint64_t& clock_;
  FakeInterrupts no_interrupts_;  // the driver below is used for registers only
  FakeDoorbells no_doorbells_;
  std::optional<PciDriver> pci_;
  DiskFacts facts_;
  Life life_ = Life::Down;
  std::vector<Lane> lanes_;
  uint16_t config_vector_ = PciDriver::kNoVector;
  bool msix_enabled_ = false;
  std::vector<uint16_t> vectors_;  // that the host made, in that order
  uint64_t home_ = 0;              // where its BAR belongs
  Quiet quiet_;

  bool writeback_ = false;
  uint64_t cache_modes_ = 0;  // times it was changed
  uint64_t next_tag_ = DiskModel::kInitialTag;
  uint64_t host_errors_ = 0;  // requests that failed for the host's sake
  uint64_t failures_seen_ = 0;
  bool tainted_ = false;      // the rules were broken: DEVICE_NEEDS_RESET is right
  bool must_fail_ = false;    // and due
  bool was_tainted_ = false;  // at some time in this turn
  uint64_t reset_turn_ = UINT64_MAX;
  bool failed_ = false;            // and this is known
  bool could_take_ = true;         // chains, going by the end of the turn before that
  bool takes_chains_ = true;       // false: it was at rest at the end of the last turn
  uint64_t chains_seen_ = 0;       // that it had taken by then
  std::vector<uint16_t> resumed_;  // vectors that were pending at a move: signalled anew
  bool in_service_ = false;        // INTx: the handler has run, its end is not yet signalled
};

}  // namespace ringlet
