// virtio-blk: a disk on a host file or block device (virtio 1.3, 5.2).
#include "virtio/blk.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "virtio/blk_layout.h"
#include "virtio/blk_request.h"
#include "virtio/queue.h"

namespace ringlet {

Blk::Blk(const BlkSettings& settings, const BlkBacking& backing, Blk* first)
    : settings_(settings),
      backing_(backing),
      traits_(make_traits()),
      writeback_(settings.writeback),
      flush_failed_(first != nullptr ? first->own_flush_failed_ : own_flush_failed_),
      lanes_(settings.queues) {
  assert(backing.size % kSector == 0 && settings.serial.size() <= kSerialBytes);
}

Blk::~Blk() = default;

DeviceTraits Blk::make_traits() const {
  using enum BlkFeature;
  Features features = Features(SegMax) | BlkSize | Flush | Topology | ConfigWce;
  if (settings_.queues > 1) features = features | MultiQueue;
  if (settings_.readonly) {
    features = features | ReadOnly;
  } else if (settings_.discard) {
    features = features | Discard | WriteZeroes;
  }
  const uint32_t physical = std::max(backing_.physical_block, backing_.logical_block);
  const auto exponent = std::bit_width(physical / backing_.logical_block) - 1;
  BlkConfigLayout layout{};
  layout.capacity = backing_.size / kSector;
  // A chain is as long as its queue at most, and two descriptors are header and status.
  layout.seg_max = settings_.queue_size > 2 ? settings_.queue_size - 2U : 1U;
  layout.blk_size = backing_.logical_block;
  layout.physical_block_exp = static_cast<uint8_t>(exponent);
  layout.min_io_size = static_cast<uint16_t>(physical / backing_.logical_block);
  layout.writeback = settings_.writeback ? 1 : 0;
  layout.num_queues = settings_.queues;
  if (features.has(Discard)) {
    layout.max_discard_sectors = kMaxRangeSectors;
    layout.max_discard_seg = kMaxRanges;
    layout.discard_sector_alignment = backing_.discard_alignment / static_cast<uint32_t>(kSector);
    layout.max_write_zeroes_sectors = kMaxRangeSectors;
    layout.max_write_zeroes_seg = kMaxRanges;
    layout.write_zeroes_may_unmap = 1;
  }
  const auto bytes = std::as_bytes(std::span(&layout, 1));
  DeviceTraits traits{.id = DeviceId::Block,
                      .name = settings_.name,
                      .features = features,
                      .queue_sizes = std::vector<uint16_t>(settings_.queues, settings_.queue_size),
                      .config = {bytes.begin(), bytes.end()},
                      .config_writable = std::vector<std::byte>(sizeof(layout))};
  traits.config_writable[offsetof(BlkConfigLayout, writeback)] = std::byte{1};
  // 5.2.5.2: who can set the cache mode but cannot flush starts with a write-through cache.
  traits.negotiated = {{.accepted = ConfigWce,
                        .declined = Flush,
                        .offset = offsetof(BlkConfigLayout, writeback),
                        .value = std::byte{0}}};
  return traits;
}

// Life ----------------------------------------------------------------------------------------

void Blk::attach(DeviceHost& host) noexcept {
  host_ = &host;
  file_ = host.loop().add_file(backing_.fd);
  if (backing_.buffered_fd >= 0) buffered_file_ = host.loop().add_file(backing_.buffered_fd);
}

void Blk::activate(Features features) noexcept {
  features_ = features;
  if (!file_ || (backing_.buffered_fd >= 0 && !buffered_file_)) {
    host_->fail("the host has no room for the disk's file");
  }
  const size_t slots = settings_.queue_size;
  for (uint16_t queue = 0; queue < settings_.queues; ++queue) {
    Lane& lane = lanes_[queue];
    if (lane.requests || !host_->serves(QueueIndex(queue))) continue;
    lane.requests = std::make_unique<Request[]>(slots);
    // Uninitialised, and so without memory behind them until a request needs it.
    lane.ranges = std::make_unique_for_overwrite<BlkRange[]>(kMaxRanges * slots);
    lane.joined = std::make_unique_for_overwrite<iovec[]>(kMaxRunParts * slots);
  }
}

void Blk::reset() noexcept {
  features_ = {};
  set_writeback(settings_.writeback);
}

void Blk::set_writeback(bool on) noexcept {
  if (writeback_ == on) return;
  writeback_ = on;
  const std::byte value{static_cast<uint8_t>(on ? 1 : 0)};
  host_->change_config(offsetof(BlkConfigLayout, writeback), {&value, 1});
}

void Blk::config_written(std::span<const std::byte> config) noexcept {
  // The mode is that of the requests to come.
  for (Lane& lane : lanes_) submit_run(lane);
  writeback_ = config[offsetof(BlkConfigLayout, writeback)] != std::byte{0};
}

bool Blk::write_through() const noexcept {
  // 5.2.6.2: a write is volatile only for a driver that can flush it.
  return !features_.has(BlkFeature::Flush) || !writeback_;
}

void Blk::cancel(QueueIndex queue) noexcept {
  Lane& lane = lanes_[queue.value()];
  cancel_run(lane);
  for (uint16_t slot = 0; slot < settings_.queue_size; ++slot) {
    Request& request = lane.requests[slot];
    if (!request.chain) continue;
    request.cancelled = true;
    if (request.step != Request::Step::Joined) host_->loop().cancel(request);
  }
}

// Requests ------------------------------------------------------------------------------------

Blk::Lane& Blk::lane_of(const Chain& chain) noexcept {
  return lanes_[chain.queue().index().value()];
}

void Blk::handle(Chain chain) noexcept {
  Request& request = lane_of(chain).requests[chain.slot()];
  assert(!request.chain);
  request.owner = this;
  request.chain.emplace(std::move(chain));
  request.step = Request::Step::Idle;
  request.cancelled = false;
  request.transferred = 0;
  request.writable_bytes = 0;
  start(request);
}

void Blk::batch_end(QueueIndex queue) noexcept {
  submit_run(lanes_[queue.value()]);
}

void Blk::start(Request& request) noexcept {
  Chain& chain = *request.chain;
  BlkRequestHeader header;
  const bool has_header = chain.read(std::as_writable_bytes(std::span(&header, 1)));
  if (!chain.take_status() || !has_header) {
    // There is no byte to put a status into, or nothing to judge: not a request at all.
    counters_.guest_errors.fetch_add(1, std::memory_order_relaxed);
    Chain bad = std::move(*request.chain);
    request.chain.reset();
    host_->complete(std::move(bad), 0);
    host_->fail("a request without a header or a status byte");
    return;
  }
  request.type = header.type;
  request.writable_bytes = chain.writable_bytes();
  if (request.type == VIRTIO_BLK_T_IN || request.type == VIRTIO_BLK_T_OUT) {
    return start_transfer(request, header.sector);
  }
  // Operations begin in the order of their requests.
  submit_run(lane_of(chain));
  switch (request.type) {
    case VIRTIO_BLK_T_FLUSH:
      counters_.flushes.fetch_add(1, std::memory_order_relaxed);
      start_flush(request);
      return;
    case VIRTIO_BLK_T_GET_ID: start_identify(request); return;
    case VIRTIO_BLK_T_DISCARD: start_ranges(request, BlkFeature::Discard); return;
    case VIRTIO_BLK_T_WRITE_ZEROES: start_ranges(request, BlkFeature::WriteZeroes); return;
    default: finish(request, VIRTIO_BLK_S_UNSUPP);
  }
}

bool Blk::in_range(uint64_t sector, uint64_t sectors) const noexcept {
  const uint64_t capacity = backing_.size / kSector;
  return sector <= capacity && sectors <= capacity - sector;
}

void Blk::start_identify(Request& request) noexcept {
  // 5.2.6: 20 bytes, padded with zeroes, not terminated when all are used.
  std::array<std::byte, kSerialBytes> serial{};
  std::memcpy(serial.data(), settings_.serial.data(), settings_.serial.size());
  request.transferred = request.chain->write(serial);
  finish(request, VIRTIO_BLK_S_OK);
}

void Blk::finish(Request& request, uint8_t status) noexcept {
  Chain chain = std::move(*request.chain);
  request.chain.reset();
  // 2.7.8.2: the length counts from the start of the writable part. The status is its last byte,
  // so it counts only when all bytes before it were written.
  const uint64_t data = request.type == VIRTIO_BLK_T_OUT ? 0 : request.transferred;
  const bool all = data == request.writable_bytes;
  if (!request.cancelled) chain.put_status(status);
  host_->complete(std::move(chain), static_cast<uint32_t>(data + (all ? 1 : 0)));
}

}  // namespace ringlet
