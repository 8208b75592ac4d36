// Guest: measures a virtio-blk disk, or what single accesses to a device cost, in any number of
// runs.
//
// Each run prints "ready" and sleeps; a host may stop the machine now, and ready the disk. It warms
// up, prints "begin", measures, prints "end" and then a line of JSON with the results. The machine
// sleeps before and after "begin" and "end": a host that reads counters then reads them at rest.
//   runs=N                    how many (1). Options of one run may end with its number: depth2=32
//   what=read|write|randread|randwrite   the load (randread); writes destroy the region
//   what=config-read|port-read|kick      the cost of an access by MMIO, by port, of a notification
//   block=N depth=N queues=N queue-size=N  bytes (4096), requests in flight over all queues (1),
//   queues wait=poll|interrupt|hlt   how completions are seen (poll) intx, direct, no-event-index
//   instead of MSI-X, indirect descriptors, EVENT_IDX batch=N                   completions to take
//   before new requests are submitted (1) ms=N warm-up-ms=N         how long to measure (1000), and
//   to run before that (200) requests=N                how many at most start=N size=N the region
//   of the disk in bytes (all) seed=N index=N            of the random offsets; which virtio-blk
//   device (0) sleep-ms=N                how long each sleep lasts (50) tsc-khz=N the TSC's rate,
//   for machines without KVM's clock
#include <new>

#include "bench_clock.h"
#include "bench_load.h"
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr uint64_t kMaxRuns = 16;  // the heap gives nothing back
constexpr uint64_t kMaxRequests = ~uint64_t{0} >> 1;
constexpr uint16_t kRequestSegments = 3;  // header, data, status
constexpr uint16_t kConfigAddressPort = 0xcf8;

struct Limits {
  uint64_t ms;
  uint64_t warm_up_ms;
  uint64_t requests;
  uint32_t sleep_ms;
};

// The options of one run: "depth2" if it is given, or else "depth".
class RunOptions {
 public:
  explicit RunOptions(uint64_t run) : run_(run) {}

  bool given(Text key) const { return option_given(own(key)) || option_given(key); }
  Text text(Text key, Text otherwise) const {
    return option_text(own(key), option_text(key, otherwise));
  }
  uint64_t number(Text key, uint64_t otherwise) const {
    return option_number(own(key), option_number(key, otherwise));
  }
  uint64_t number_in(Text key, uint64_t otherwise, uint64_t min, uint64_t max) const;

 private:
  static constexpr size_t kMaxKey = 32;

  // Valid until the next call.
  Text own(Text key) const;

  uint64_t run_;
  mutable char key_[kMaxKey];
};

Text RunOptions::own(Text key) const {
  expect(key.size + 2 <= kMaxKey, "the option {} is too long", key);
  memcpy(key_, key.data, key.size);
  size_t size = key.size;
  if (run_ >= 10) {
    key_[size++] = static_cast<char>('0' + run_ / 10);
  }
  key_[size++] = static_cast<char>('0' + run_ % 10);
  return {key_, size};
}

uint64_t RunOptions::number_in(Text key, uint64_t otherwise, uint64_t min, uint64_t max) const {
  const uint64_t value = number(key, otherwise);
  expect(value >= min && value <= max, "{} is {}, expected {} to {}", key, value, min, max);
  return value;
}

Limits limits(const RunOptions& run) {
  return {.ms = run.number_in("ms", 1000, 0, 600'000),
          .warm_up_ms = run.number_in("warm-up-ms", 200, 0, 600'000),
          .requests = run.number_in("requests", kMaxRequests, 1, kMaxRequests),
          .sleep_ms = static_cast<uint32_t>(run.number_in("sleep-ms", 50, 0, 4000))};
}

// Says where the measurement begins or ends, while nothing runs.
void mark(const char* line, uint32_t sleep) {
  if (sleep > 0) {
    sleep_ms(sleep);
  }
  print(line);
  if (sleep > 0) {
    sleep_ms(sleep);
  }
}

Wait wait_option(const RunOptions& run) {
  const Text text = run.text("wait", "poll");
  if (text == "interrupt") {
    return Wait::Interrupt;
  }
  if (text == "hlt") {
    return Wait::Halt;
  }
  expect(text == "poll", "wait={}, expected poll, interrupt or hlt", text);
  return Wait::Poll;
}

LoadOptions load_options(const RunOptions& run, Text what, const BlkDriver& blk) {
  LoadOptions options;
  options.random = what.starts_with("rand");
  const Text type = options.random ? what.drop(4) : what;
  expect(type == "read" || type == "write", "what={}: there is no such load", what);
  options.type = type == "read" ? BlkType::In : BlkType::Out;
  options.block_bytes = static_cast<uint32_t>(run.number_in("block", 4096, kSectorBytes, 4 << 20));
  expect(options.block_bytes % kSectorBytes == 0, "block={} is not whole sectors",
         options.block_bytes);
  options.depth = static_cast<uint16_t>(run.number_in("depth", 1, 1, Load::kMaxDepth));
  options.batch = static_cast<uint16_t>(run.number_in("batch", 1, 1, options.depth));
  options.wait = wait_option(run);
  options.seed = run.number("seed", 1);
  const uint64_t disk_bytes = blk.capacity_sectors() * kSectorBytes;
  const uint64_t start = run.number_in("start", 0, 0, disk_bytes);
  const uint64_t bytes =
      run.number_in("size", disk_bytes - start, options.block_bytes, disk_bytes - start);
  expect(start % options.block_bytes == 0, "start={} is not whole blocks", start);
  options.start_block = start / options.block_bytes;
  options.blocks = bytes / options.block_bytes;
  return options;
}

BlkDriver::Options driver_options(const RunOptions& run, Wait wait) {
  const bool intx = run.given("intx");
  const Completion interrupt = intx ? Completion::Intx : Completion::Msix;
  return {.completion = wait == Wait::Poll ? Completion::Poll : interrupt,
          .indirect = !run.given("direct"),
          .event_idx = !run.given("no-event-index"),
          .queue_size = static_cast<uint16_t>(run.number_in("queue-size", 256, 4, 1024)),
          .queues = static_cast<uint16_t>(run.number_in("queues", 1, 1, BlkDriver::kMaxQueues)),
          .table_entries = kRequestSegments};
}

// RAM behind the image, which nobody uses once the start info is copied.
Span<uint8_t> buffer_memory(size_t bytes) {
  constexpr uint64_t kPage = 4096;
  const uint64_t start = (image_end_address() + kPage - 1) & ~(kPage - 1);
  for (const MemoryRange& range : start_info().memory) {
    if (range.type == MemoryType::Ram && start >= range.start && start - range.start < range.size &&
        bytes <= range.size - (start - range.start)) {
      return {reinterpret_cast<uint8_t*>(start), bytes};
    }
  }
  fail("no {} bytes of RAM for buffers; give the machine more memory", bytes);
}

void print_load(const TscClock& clock, Text what, const LoadOptions& options, BlkDriver& blk,
                const LoadResult& result, const Histogram& latencies) {
  const uint64_t ns = clock.to_ns(result.ticks);
  const uint64_t us = ns / 1000 > 0 ? ns / 1000 : 1;
  print("{\"what\":\"{}\",\"block\":{},\"depth\":{},\"queues\":{},", what, options.block_bytes,
        options.depth, blk.queue_count());
  print("\"queue_size\":{},\"indirect\":{},\"event_index\":{},\"tsc_khz\":{},", blk.queue(0).size(),
        blk.features().has(Feature::IndirectDescriptors) ? "true" : "false",
        blk.features().has(Feature::EventIndex) ? "true" : "false", clock.khz());
  print("\"requests\":{},\"ns\":{},\"iops\":{},", result.requests, ns,
        result.requests * 1'000'000 / us);
  print("\"latency_p50_ns\":{},\"latency_p99_ns\":{},", clock.to_ns(latencies.quantile(500)),
        clock.to_ns(latencies.quantile(990)));
  print("\"publications\":{},\"kicks\":{},\"waits\":{},\"interrupts\":{}}\n", result.publications,
        result.kicks, result.waits, result.interrupts);
}

void measure_load(const TscClock& clock, const RunOptions& run, Text what, BlkDriver& blk) {
  const Limits limit = limits(run);
  blk.start(driver_options(run, wait_option(run)));
  const LoadOptions options = load_options(run, what, blk);
  expect(options.depth <= blk.queue(0).size() / (run.given("direct") ? kRequestSegments : 1),
         "depth={} in a queue of {}", options.depth, blk.queue(0).size());
  const Span<uint8_t> buffers = buffer_memory(size_t{options.depth} * options.block_bytes);
  for (size_t at = 0; at < buffers.size; at += 4096) {
    buffers[at] = static_cast<uint8_t>(at >> 12 | 1);  // backed by the host from now on
  }
  auto* const load = new (allocate(sizeof(Load), alignof(Load))) Load(blk, options, buffers);
  mark("ready\n", limit.sleep_ms);
  if (limit.warm_up_ms > 0) {
    load->run(clock, {clock.to_ticks(limit.warm_up_ms), limit.requests});
  }
  mark("begin\n", limit.sleep_ms);
  const LoadResult result = load->run(clock, {clock.to_ticks(limit.ms), limit.requests});
  mark("end\n", limit.sleep_ms);
  print_load(clock, what, options, blk, result, load->latencies());
}

// Repeats one access until the time is over, then prints what each took.
template <typename Access>
void measure_access(const TscClock& clock, const RunOptions& run, Text what, Access&& access) {
  static Histogram times;
  const Limits limit = limits(run);
  uint64_t count = 0;
  uint64_t start = read_tsc();
  uint64_t end = start;
  const auto repeat = [&](uint64_t ms) {
    times.clear();
    count = 0;
    start = end = read_tsc();
    while (count < limit.requests && end - start < clock.to_ticks(ms)) {
      const uint64_t before = end;
      access();
      end = read_tsc();
      times.add(end - before);
      ++count;
    }
  };
  mark("ready\n", limit.sleep_ms);
  repeat(limit.warm_up_ms);
  mark("begin\n", limit.sleep_ms);
  repeat(limit.ms);
  mark("end\n", limit.sleep_ms);
  print("{\"what\":\"{}\",\"tsc_khz\":{},\"requests\":{},\"ns\":{},", what, clock.khz(), count,
        clock.to_ns(end - start));
  print("\"latency_p50_ns\":{},\"latency_p99_ns\":{}}\n", clock.to_ns(times.quantile(500)),
        clock.to_ns(times.quantile(990)));
}

void measure(const TscClock& clock, const RunOptions& run, BlkDriver& blk) {
  const Text what = run.text("what", "randread");
  if (what == "config-read") {
    measure_access(clock, run, what, [&] { blk.device().config<uint32_t>(blk_config::kCapacity); });
  } else if (what == "port-read") {
    measure_access(clock, run, what, [] { port_in<uint32_t>(kConfigAddressPort); });
  } else if (what == "kick") {
    blk.start(driver_options(run, Wait::Poll));
    measure_access(clock, run, what, [&] { blk.device().notify(0); });
  } else {
    measure_load(clock, run, what, blk);
  }
}

}  // namespace

void guest_main() {
  const TscClock clock;
  const auto index = static_cast<uint32_t>(option_number("index", 0));
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType), index);
  expect(function.has_value(), "virtio-blk device {} is not there", index);
  auto* const blk = new (allocate(sizeof(BlkDriver), alignof(BlkDriver))) BlkDriver(*function);
  const uint64_t runs = option_number("runs", 1);
  expect(runs <= kMaxRuns, "runs={}, expected at most {}", runs, kMaxRuns);
  for (uint64_t run = 1; run <= runs; ++run) {
    measure(clock, RunOptions(run), *blk);
  }
}

}  // namespace guest
