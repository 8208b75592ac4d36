// The benchmark guest's load: keeps a number of requests in flight, as a good driver does.
#include "bench_load.h"

#include "lib/apic.h"
#include "lib/console.h"

namespace guest {
namespace {

// The watchdog's half minute begins anew this often while requests come home.
constexpr uint64_t kWatchdogMs = 2000;

}  // namespace

Load::Load(BlkDriver& blk, const LoadOptions& options, Span<uint8_t> buffers)
    : blk_(blk),
      options_(options),
      buffers_(buffers),
      slots_(allocate_array<Slot>(options.depth, alignof(Slot))),
      random_(options.seed * 0x9e3779b97f4a7c15 + 1) {
  for (uint16_t i = options.depth; i > 0; --i) {
    idle_[idle_count_++] = static_cast<uint16_t>(i - 1);
    slots_[i - 1].queue = static_cast<uint16_t>((i - 1) % blk.queue_count());
  }
}

// xorshift64*; its upper half picks the block.
uint64_t Load::next_sector() {
  uint64_t block = cursor_;
  if (options_.random) {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    block = ((random_ * 0x2545f4914f6cdd1d) >> 32) * options_.blocks >> 32;
  } else if (++cursor_ == options_.blocks) {
    cursor_ = 0;
  }
  return (options_.start_block + block) * (options_.block_bytes / kSectorBytes);
}

void Load::submit(uint16_t index, uint64_t now) {
  Slot& slot = slots_[index];
  slot.header = {options_.type, 0, next_sector()};
  slot.status = static_cast<uint8_t>(BlkStatus::NotWritten);
  slot.added_at = now;
  const uint64_t data = address_of(buffers_.data + size_t{index} * options_.block_bytes);
  const Segment segments[] = {{address_of(&slot.header), sizeof(BlkHeader), false},
                              {data, options_.block_bytes, options_.type == BlkType::In},
                              {address_of(const_cast<const uint8_t*>(&slot.status)), 1, true}};
  slot_of_head_[slot.queue][blk_.submit(slot.queue, segments)] = index;
  unpublished_[slot.queue] = true;
}

void Load::submit_idle(uint64_t now) {
  while (idle_count_ > 0 && submitted_ < request_limit_) {
    submit(idle_[--idle_count_], now);
    ++submitted_;
  }
}

void Load::publish() {
  for (uint16_t queue = 0; queue < blk_.queue_count(); ++queue) {
    if (!unpublished_[queue]) {
      continue;
    }
    unpublished_[queue] = false;
    ++result_.publications;
    if (blk_.queue(queue).publish()) {
      ++result_.kicks;
      blk_.device().notify(queue);
    }
  }
}

void Load::finish(uint16_t queue, uint16_t head, uint64_t now) {
  const uint16_t index = slot_of_head_[queue][head];
  const Slot& slot = slots_[index];
  expect(slot.status == static_cast<uint8_t>(BlkStatus::Ok), "status {} at sector {}",
         uint8_t{slot.status}, slot.header.sector);
  latencies_.add(now - slot.added_at);
  idle_[idle_count_++] = index;
}

// Takes all that is used at this moment; returns how many.
uint32_t Load::reap() {
  uint32_t count = 0;
  uint64_t now = 0;
  for (uint16_t queue = 0; queue < blk_.queue_count(); ++queue) {
    while (const std::optional<UsedElement> used = blk_.queue(queue).take_used()) {
      if (now == 0) {
        now = read_tsc();
      }
      finish(queue, used->head, now);
      ++count;
    }
  }
  result_.requests += count;
  return count;
}

// False when something is used already.
bool Load::enable_interrupts() {
  for (uint16_t queue = 0; queue < blk_.queue_count(); ++queue) {
    if (!blk_.queue(queue).enable_interrupts()) {
      return false;
    }
  }
  return true;
}

void Load::disable_interrupts() {
  for (uint16_t queue = 0; queue < blk_.queue_count(); ++queue) {
    blk_.queue(queue).disable_interrupts();
  }
}

// Until something may be used.
void Load::wait() {
  if (options_.wait == Wait::Poll) {
    return cpu_relax();
  }
  const uint32_t seen = blk_.interrupts().value();
  if (enable_interrupts()) {
    ++result_.waits;
    if (options_.wait == Wait::Halt) {
      halt_until_raised(blk_.interrupts(), seen);
    } else {
      while (blk_.interrupts().value() == seen) {
        cpu_relax();
      }
    }
  }
  disable_interrupts();
}

LoadResult Load::run(const TscClock& clock, Until until) {
  result_ = {};
  latencies_.clear();
  submitted_ = 0;
  request_limit_ = until.requests;
  const uint32_t interrupts_before = blk_.interrupts().value();
  const uint64_t start = read_tsc();
  uint64_t now = start;
  uint64_t watchdog_at = start;
  apic::start_watchdog("end of a request");
  submit_idle(now);
  publish();
  uint32_t taken = 0;
  while (result_.requests < submitted_) {
    const uint32_t count = reap();
    taken += count;
    now = read_tsc();
    if (count == 0) {
      wait();
      continue;
    }
    if (now - start >= until.ticks) {
      request_limit_ = submitted_;
    }
    const bool due = taken >= options_.batch || result_.requests == submitted_;
    if (due && request_limit_ > submitted_) {
      taken = 0;
      submit_idle(now);
      publish();
    }
    if (now - watchdog_at > clock.to_ticks(kWatchdogMs)) {
      apic::start_watchdog("end of a request");
      watchdog_at = now;
    }
  }
  result_.ticks = now - start;
  apic::stop_watchdog();
  result_.interrupts = blk_.interrupts().value() - interrupts_before;
  return result_;
}

}  // namespace guest
