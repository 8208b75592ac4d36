// A disk, its transport, the simulated loop and a driver for it: a machine in a test.
#include "tests/fake/blk_machine.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cassert>

#include "virtio/blk_layout.h"

namespace ringlet {
namespace {

constexpr AddrRange kMemory{0, 16 << 20};
constexpr AddrRange kHeap{1 << 20, 15 << 20};
constexpr PciLayout kLayout{.ecam = {0xc0100000, 1 << 20},
                            .window32 = {0xd0000000, 1 << 28},
                            .window64 = {1ULL << 32, 1ULL << 32}};
// Not real descriptors: the loop has simulated files in their places.
constexpr int kDiskFd = 1'000'000;
constexpr int kBufferedFd = 1'000'001;

std::shared_ptr<GuestMemory> make_memory() {
  return std::make_shared<GuestMemory>(std::span(&kMemory, 1), MemoryBacking{});
}

BlkBacking backing_of(const BlkMachineOptions& options) {
  BlkBacking backing{.fd = kDiskFd, .size = options.disk_bytes};
  if (options.direct_alignment > 0) {
    backing.buffered_fd = kBufferedFd;
    backing.memory_alignment = options.direct_alignment;
    backing.offset_alignment = options.direct_alignment;
  }
  return backing;
}

}  // namespace

BlkMachine::BlkMachine(const BlkMachineOptions& options)
    : memory(options.memory ? options.memory : make_memory()),
      heap(*memory, kHeap),
      loop(options.loop),
      disk_file(loop.add_bytes(options.disk_bytes)),
      buffered_file(loop.add_same(disk_file)),
      blk(options.settings, backing_of(options)),
      bridge(buses, kLayout),
      transport(blk, {.interrupts = interrupts,
                      .doorbells = doorbells,
                      .loop = loop,
                      .memory = *memory,
                      .pin = IntxPin::A,
                      .intx_gsi = Gsi(10)}),
      bdf(bridge.add(transport)),
      driver({.buses = buses,
              .ecam = GuestAddr(kLayout.ecam.base),
              .interrupts = interrupts,
              .doorbells = doorbells},
             bdf) {
  loop.stand_in(kDiskFd, disk_file);
  loop.stand_in(kBufferedFd, buffered_file);
  bridge.assign_bars();
}

BlkMachine::~BlkMachine() {
  loop.drain();
}

Features BlkMachine::all_features() {
  using enum BlkFeature;
  return Features(SegMax) | BlkSize | Flush | Topology | ConfigWce | Discard | WriteZeroes |
         Feature::Version1 | Feature::IndirectDesc | Feature::EventIdx | Feature::RingReset;
}

void BlkMachine::start(Features without, uint16_t queue_size) {
  negotiated = (driver.offered() & (all_features() | BlkFeature::MultiQueue)).without(without);
  driver.enable_msix();
  const bool accepted = driver.negotiate(negotiated) && driver.set_config_vector(0);
  assert(accepted);
  queues.clear();
  for (uint16_t i = 0; i < driver.queue_count(); ++i) {
    queues.push_back(std::make_unique<DriverQueue>(heap, queue_size, negotiated));
    const bool enabled =
        driver.enable_queue(QueueIndex(i), queues.back()->config(), static_cast<uint16_t>(i + 1));
    assert(enabled);
  }
  driver.driver_ok();
}

BlkRequest& BlkMachine::add(const BlkShape& shape) {
  std::vector<uint32_t> parts = shape.parts;
  if (parts.empty() && !shape.data.empty()) parts = {static_cast<uint32_t>(shape.data.size())};
  BlkRequest& request = requests.emplace_back();
  request.type = shape.type;
  request.queue = shape.queue;
  for (const uint32_t part : parts) request.data_bytes += part;
  BlkRequestHeader header;
  header.type = shape.type;
  header.sector = shape.sector;
  request.header = heap.take(sizeof(header));
  request.data = heap.take(request.data_bytes, 512);
  request.status = heap.take_filled(1, std::byte{kNoStatus});
  const bool written =
      memory->write_value(request.header, header) && memory->write(request.data, shape.data);
  assert(written);

  const bool in = shape.type == VIRTIO_BLK_T_IN || shape.type == VIRTIO_BLK_T_GET_ID;
  std::vector<Segment> chain{{request.header, sizeof(header), false}};
  GuestAddr at = request.data;
  for (const uint32_t part : parts) {
    chain.push_back({at, part, in});
    at = at.plus(part).value();
  }
  chain.push_back({request.status, 1, true});
  DriverQueue& ring = *queues[shape.queue];
  const bool indirect = negotiated.has(Feature::IndirectDesc);
  request.head = (indirect ? ring.add_indirect(chain) : ring.add(chain)).value();
  return request;
}

void BlkMachine::kick(uint16_t queue) {
  if (queues[queue]->publish()) driver.kick(QueueIndex(queue));
}

BlkRequest& BlkMachine::submit(const BlkShape& shape) {
  BlkRequest& request = add(shape);
  kick(shape.queue);
  return request;
}

void BlkMachine::collect() {
  for (uint16_t queue = 0; queue < queues.size(); ++queue) {
    while (const auto entry = queues[queue]->take_used()) {
      const auto found = std::ranges::find_if(requests, [&](const BlkRequest& request) {
        return request.queue == queue && request.head == entry->head && !request.used;
      });
      assert(found != requests.end());
      found->used = entry->length;
    }
  }
}

void BlkMachine::run() {
  loop.run_until_idle();
  collect();
}

uint8_t BlkMachine::status_of(const BlkRequest& request) const {
  return memory->read<uint8_t>(request.status).value();
}

std::vector<std::byte> BlkMachine::data_of(const BlkRequest& request) const {
  std::vector<std::byte> data(request.data_bytes);
  const bool read = memory->read(request.data, data);
  assert(read);
  return data;
}

}  // namespace ringlet
