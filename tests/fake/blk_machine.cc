// A virtio disk in a test: the device, the machine around it, and requests as a driver makes them.
#include "tests/fake/blk_machine.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cassert>

namespace ringlet {
namespace {

// Not real descriptors: the loop has simulated files in their places.
constexpr int kBufferedFd = 1'000'001;

BlkBacking backing_of(const BlkMachineOptions& options) {
  BlkBacking backing{.fd = BlkMachine::kDiskFd, .size = options.disk_bytes};
  if (options.direct_alignment > 0) {
    backing.buffered_fd = kBufferedFd;
    backing.memory_alignment = options.direct_alignment;
    backing.offset_alignment = options.direct_alignment;
  }
  return backing;
}

}  // namespace

std::vector<std::byte> pattern(size_t bytes, uint8_t seed) {
  std::vector<std::byte> data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 7 + i / 256 + seed);
  return data;
}

BlkHolder::BlkHolder(const BlkMachineOptions& options)
    : blk(options.settings, backing_of(options)),
      wrapped(options.wrap ? options.wrap(blk) : nullptr) {}

BlkMachine::BlkMachine(const BlkMachineOptions& options)
    : BlkHolder(options),
      PciMachine(device(), options.loop, options.memory),
      disk_file(loop.add_bytes(options.disk_bytes)),
      buffered_file(loop.add_same(disk_file)) {
  loop.stand_in(BlkMachine::kDiskFd, disk_file);
  loop.stand_in(kBufferedFd, buffered_file);
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
      memory.write_value(request.header, header) && memory.write(request.data, shape.data);
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

uint8_t BlkMachine::run(const BlkShape& shape) {
  const BlkRequest& request = submit(shape);
  run();
  return status_of(request);
}

std::vector<std::byte> BlkMachine::on_disk(uint64_t offset, size_t bytes) {
  const auto at = disk().bytes.begin() + static_cast<std::ptrdiff_t>(offset);
  return {at, at + static_cast<std::ptrdiff_t>(bytes)};
}

uint8_t BlkMachine::status_of(const BlkRequest& request) const {
  return memory.read<uint8_t>(request.status).value();
}

std::vector<std::byte> BlkMachine::data_of(const BlkRequest& request) const {
  std::vector<std::byte> data(request.data_bytes);
  const bool read = memory.read(request.data, data);
  assert(read);
  return data;
}

}  // namespace ringlet
