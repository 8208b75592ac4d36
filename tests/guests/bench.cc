// Guest: measures a virtio-blk disk, or what single accesses to a device cost.
// A run without measurement comes first. Then it prints "begin", measures, and prints "end"; after
// each of these lines, and before the first, the machine sleeps, so that a host that reads counters
// then reads them at rest. A line of JSON with the results follows.
//   what=read|write|randread|randwrite   the load; reads are the default, writes destroy the region
//   what=config-read|port-read|kick      the cost of an access by MMIO, by port, of a notification
//   block=N depth=N queues=N queue-size=N  bytes, requests in flight over all queues, queues
//   wait=poll|interrupt|hlt   how completions are seen (poll)
//   intx, direct, no-event-index   instead of MSI-X, indirect descriptors, EVENT_IDX
//   batch=N                   completions to take before new requests are submitted (1)
//   ms=N warm-up-ms=N         how long to measure (1000), and to run before that (200)
//   requests=N                how many at most
//   start=N size=N            the region of the disk in bytes (all)
//   seed=N index=N            of the random offsets; which virtio-blk device (0)
//   sleep-ms=N tsc-khz=N      how long the machine sleeps (50); the TSC's rate where KVM's clock
//   lacks
#include <new>

#include "bench_clock.h"
#include "bench_load.h"
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr uint64_t kMaxRequests = ~uint64_t{0} >> 1;
constexpr uint16_t kRequestSegments = 3;  // header, data, status
constexpr uint16_t kConfigAddressPort = 0xcf8;

struct Limits {
  uint64_t ms;
  uint64_t warm_up_ms;
  uint64_t requests;
  uint32_t sleep_ms;
};

uint64_t option_in(Text key, uint64_t otherwise, uint64_t min, uint64_t max) {
  const uint64_t value = option_number(key, otherwise);
  expect(value >= min && value <= max, "{} is {}, expected {} to {}", key, value, min, max);
  return value;
}

Limits limits() {
  return {.ms = option_in("ms", 1000, 0, 600'000),
          .warm_up_ms = option_in("warm-up-ms", 200, 0, 600'000),
          .requests = option_in("requests", kMaxRequests, 1, kMaxRequests),
          .sleep_ms = static_cast<uint32_t>(option_in("sleep-ms", 50, 0, 4000))};
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

Wait wait_option() {
  const Text text = option_text("wait", "poll");
  if (text == "interrupt") {
    return Wait::Interrupt;
  }
  if (text == "hlt") {
    return Wait::Halt;
  }
  expect(text == "poll", "wait={}, expected poll, interrupt or hlt", text);
  return Wait::Poll;
}

LoadOptions load_options(Text what, const BlkDriver& blk) {
  LoadOptions options;
  options.random = what.starts_with("rand");
  const Text type = options.random ? what.drop(4) : what;
  expect(type == "read" || type == "write", "what={}: there is no such load", what);
  options.type = type == "read" ? BlkType::In : BlkType::Out;
  options.block_bytes = static_cast<uint32_t>(option_in("block", 4096, kSectorBytes, 4 << 20));
  expect(options.block_bytes % kSectorBytes == 0, "block={} is not whole sectors",
         options.block_bytes);
  options.depth = static_cast<uint16_t>(option_in("depth", 1, 1, Load::kMaxDepth));
  options.batch = static_cast<uint16_t>(option_in("batch", 1, 1, options.depth));
  options.wait = wait_option();
  options.seed = option_number("seed", 1);
  const uint64_t disk_bytes = blk.capacity_sectors() * kSectorBytes;
  const uint64_t start = option_in("start", 0, 0, disk_bytes);
  const uint64_t bytes =
      option_in("size", disk_bytes - start, options.block_bytes, disk_bytes - start);
  expect(start % options.block_bytes == 0, "start={} is not whole blocks", start);
  options.start_block = start / options.block_bytes;
  options.blocks = bytes / options.block_bytes;
  return options;
}

BlkDriver::Options driver_options(Wait wait) {
  const bool intx = option_given("intx");
  const Completion interrupt = intx ? Completion::Intx : Completion::Msix;
  return {.completion = wait == Wait::Poll ? Completion::Poll : interrupt,
          .indirect = !option_given("direct"),
          .event_idx = !option_given("no-event-index"),
          .queue_size = static_cast<uint16_t>(option_in("queue-size", 256, 4, 1024)),
          .queues = static_cast<uint16_t>(option_in("queues", 1, 1, BlkDriver::kMaxQueues)),
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

void measure_load(const TscClock& clock, Text what, BlkDriver& blk) {
  const Limits limit = limits();
  blk.start(driver_options(wait_option()));
  const LoadOptions options = load_options(what, blk);
  expect(options.depth <= blk.queue(0).size() / (option_given("direct") ? kRequestSegments : 1),
         "depth={} in a queue of {}", options.depth, blk.queue(0).size());
  const Span<uint8_t> buffers = buffer_memory(size_t{options.depth} * options.block_bytes);
  for (size_t at = 0; at < buffers.size; at += 4096) {
    buffers[at] = static_cast<uint8_t>(at >> 12 | 1);  // backed by the host from now on
  }
  static Load* const load = new (allocate(sizeof(Load), alignof(Load))) Load(blk, options, buffers);
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
void measure_access(const TscClock& clock, Text what, Access&& access) {
  static Histogram times;
  const Limits limit = limits();
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
  repeat(limit.warm_up_ms);
  mark("begin\n", limit.sleep_ms);
  repeat(limit.ms);
  mark("end\n", limit.sleep_ms);
  print("{\"what\":\"{}\",\"tsc_khz\":{},\"requests\":{},\"ns\":{},", what, clock.khz(), count,
        clock.to_ns(end - start));
  print("\"latency_p50_ns\":{},\"latency_p99_ns\":{}}\n", clock.to_ns(times.quantile(500)),
        clock.to_ns(times.quantile(990)));
}

}  // namespace

void guest_main() {
  const TscClock clock;
  const auto index = static_cast<uint32_t>(option_number("index", 0));
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType), index);
  expect(function.has_value(), "virtio-blk device {} is not there", index);
  static BlkDriver* const blk =
      new (allocate(sizeof(BlkDriver), alignof(BlkDriver))) BlkDriver(*function);
  const Text what = option_text("what", "randread");
  if (what == "config-read") {
    measure_access(clock, what, [] { blk->device().config<uint32_t>(blk_config::kCapacity); });
  } else if (what == "port-read") {
    measure_access(clock, what, [] { port_in<uint32_t>(kConfigAddressPort); });
  } else if (what == "kick") {
    blk->start(driver_options(Wait::Poll));
    measure_access(clock, what, [] { blk->device().notify(0); });
  } else {
    measure_load(clock, what, *blk);
  }
}

}  // namespace guest
