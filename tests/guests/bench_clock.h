// Time for the benchmark guest: the TSC and its rate, a wait without work, latencies by histogram.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/io.h"

namespace guest {

// The TSC's ticks as nanoseconds.
class TscClock {
 public:
  // The rate is what the option tsc-khz says, or else what KVM's clock does. Fails the run when
  // there is neither.
  TscClock();

  uint32_t khz() const { return khz_; }
  uint64_t to_ns(uint64_t ticks) const;
  uint64_t to_ticks(uint64_t ms) const { return ms * khz_; }

 private:
  uint32_t khz_;
};

// Halts for this long. Takes the APIC's timer.
void sleep_ms(uint32_t ms);

// Counts values by size, to within 1 %, in constant memory.
class Histogram {
 public:
  void clear();
  void add(uint64_t value);
  // The smallest value that `per_mille` of all do not exceed; 0 when there are none.
  uint64_t quantile(uint32_t per_mille) const;

 private:
  static constexpr uint32_t kBits = 6;  // of a value behind its first one bit
  static constexpr size_t kStep = size_t{1} << kBits;
  static constexpr size_t kSlots = (64 - kBits + 1) * kStep;

  static size_t slot_of(uint64_t value);
  static uint64_t value_of(size_t slot);

  uint64_t total_ = 0;
  uint32_t counts_[kSlots] = {};
};

}  // namespace guest
