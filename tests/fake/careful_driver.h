// A driver that knows what a disk has promised about power cuts, and a host that makes it hard.
#pragma once

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "tests/fake/blk_machine.h"

namespace ringlet {

/// A driver that writes each sector once, flushes now and then, and notes what it was promised.
class CarefulDriver {
 public:
  explicit CarefulDriver(uint64_t seed) : random_(seed) {}

  /// A few requests on one of the queues.
  void submit(BlkMachine& machine) {
    const auto queue = static_cast<uint16_t>(random_() % machine.queues.size());
    if (machine.queues[queue]->free_descriptors() < 4) return;
    if (random_() % 4 == 0) {
      machine.submit({.type = VIRTIO_BLK_T_FLUSH, .queue = queue});
      notes_.push_back({.covered = acknowledged_.size()});
      return;
    }
    const auto data = pattern(1024, static_cast<uint8_t>(random_() | 1));
    machine.submit({.type = VIRTIO_BLK_T_OUT, .sector = sector_, .data = data, .queue = queue});
    notes_.push_back({.offset = sector_ * kSector, .data = data});
    sector_ += 2;
  }
  /// Looks at the used rings, as an interrupt would make it do.
  void collect(BlkMachine& machine) {
    machine.collect();
    for (size_t i = 0; i < notes_.size(); ++i) {
      if (!machine.requests[i].used || std::exchange(notes_[i].seen, true)) continue;
      if (machine.requests[i].type == VIRTIO_BLK_T_OUT) acknowledged_.push_back(i);
      if (machine.requests[i].type == VIRTIO_BLK_T_FLUSH) {
        promised_ = std::max(promised_, notes_[i].covered);
        ++flushes_;
      }
    }
  }
  /// Whether a power cut now would leave all that flushes have promised since the last call. As no
  /// sector is written twice, what is stable stays so.
  bool flushed_is_stable(BlkMachine& machine) { return are_stable(machine, promised_); }
  /// And all that was acknowledged at all.
  bool acknowledged_is_stable(BlkMachine& machine) {
    return are_stable(machine, acknowledged_.size());
  }
  size_t flushes() const { return flushes_; }
  size_t promised() const { return promised_; }
  size_t acknowledged() const { return acknowledged_.size(); }

 private:
  struct Note {
    uint64_t offset = 0;
    std::vector<std::byte> data{};
    size_t covered = 0;  // of a flush: how many writes were acknowledged when it was offered
    bool seen = false;
  };

  bool are_stable(BlkMachine& machine, size_t count) {
    const std::vector<std::byte>& stable = machine.disk().stable;
    const auto is_stable = [&](size_t write) {
      const Note& note = notes_[write];
      return stable.size() >= note.offset + note.data.size() &&
             std::ranges::equal(note.data, std::span(stable).subspan(note.offset, 1024));
    };
    while (checked_ < count && is_stable(acknowledged_[checked_])) ++checked_;
    return checked_ >= count;
  }

  std::mt19937_64 random_;
  uint64_t sector_ = 0;
  std::vector<Note> notes_;
  std::vector<size_t> acknowledged_;
  size_t promised_ = 0;  // of those, in their order
  size_t checked_ = 0;
  size_t flushes_ = 0;
};

inline BlkMachineOptions adversarial(int seed) {
  return {.settings = {.name = "disk", .queues = 2},
          .loop = {.seed = static_cast<uint64_t>(seed), .adversarial = true, .short_percent = 20}};
}

}  // namespace ringlet
