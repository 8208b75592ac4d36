// virtio-blk: a disk on a host file or block device (virtio 1.3, 5.2).
#include "virtio/blk.h"

#include <linux/falloc.h>
#include <linux/virtio_blk.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>


#include "virtio/blk_layout.h"
#include "virtio/queue.h"

namespace ringlet {
namespace {

constexpr uint32_t kMaxRangeSectors = 1U << 22;  // 2 GiB: what one DISCARD or WRITE_ZEROES covers
constexpr uint32_t kMaxRanges = 16;

uint64_t total(std::span<const iovec> parts) {
  uint64_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  return bytes;
}

/// For hosts whose file system cannot zero a range: written over it piece by piece.
constexpr size_t kZeroBytes = 4096;
constexpr size_t kZeroParts = 64;
alignas(4096) constexpr std::array<std::byte, kZeroBytes> kZeroes{};

}  // namespace

/// One request under way. Stays where it is, since operations point to it.
class Blk::Request final : public Completion {
 public:
  void completed(int32_t result, bool) noexcept override { owner->operation_done(*this, result); }

  enum class Step : uint8_t { Idle, Transfer, Flush, Range, Zeroes, FinalFlush };

  Blk* owner = nullptr;
  std::optional<Chain> chain;
  Step step = Step::Idle;
  bool cancelled = false;
  uint32_t type = 0;
  std::span<iovec> parts;    // Transfer: what is left
  uint64_t data_bytes = 0;   // Transfer: what was asked for
  uint64_t offset = 0;       // bytes: where the next operation starts
  uint64_t left = 0;         // Range and Zeroes: bytes left of this range
  int mode = 0;              // Range: fallocate's
  uint64_t transferred = 0;  // Transfer: bytes done
  std::array<iovec, kZeroParts> zeroes{};
};

Blk::Blk(const BlkSettings& settings, const BlkBacking& backing)
    : settings_(settings),
      backing_(backing),
      traits_(make_traits()),
      writeback_(settings.writeback),
      requests_(settings.queues) {
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
  for (Requests& requests : requests_) {
    if (!requests) requests.reset(new Request[settings_.queue_size]);
  }
  // 5.2.5.2: who can set the cache mode but cannot flush starts with a write-through cache.
  if (features.has(BlkFeature::ConfigWce) && !features.has(BlkFeature::Flush)) {
    set_writeback(false);
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
  writeback_ = config[offsetof(BlkConfigLayout, writeback)] != std::byte{0};
}

bool Blk::write_through() const noexcept {
  // 5.2.6.2: a write is volatile only for a driver that can flush it.
  return !features_.has(BlkFeature::Flush) || !writeback_;
}

void Blk::cancel(QueueIndex queue) noexcept {
  const Requests& requests = requests_[queue.value()];
  for (uint16_t slot = 0; slot < settings_.queue_size; ++slot) {
    Request& request = requests[slot];
    if (!request.chain) continue;
    request.cancelled = true;
    host_->loop().cancel(request);
  }
}

// Requests ------------------------------------------------------------------------------------

Blk::Request& Blk::request_of(const Chain& chain) noexcept {
  return requests_[chain.queue().index().value()][chain.slot()];
}

void Blk::handle(Chain chain) noexcept {
  Request& request = request_of(chain);
  assert(!request.chain);
  request.owner = this;
  request.chain.emplace(std::move(chain));
  request.step = Request::Step::Idle;
  request.cancelled = false;
  request.transferred = 0;
  request.data_bytes = 0;
  start(request);
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
  switch (request.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT: start_transfer(request, header.sector); return;
    case VIRTIO_BLK_T_FLUSH:
      counters_.flushes.fetch_add(1, std::memory_order_relaxed);
      request.step = Request::Step::Flush;
      host_->loop().flush(file_, request);
      return;
    case VIRTIO_BLK_T_GET_ID: start_identify(request); return;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES: {
      const uint64_t bytes = chain.readable_bytes();
      const bool offered = traits_.features.has(BlkFeature::Discard);
      if (!offered) return finish(request, VIRTIO_BLK_S_UNSUPP);
      if (bytes == 0 || bytes % sizeof(BlkRangeLayout) != 0 ||
          bytes / sizeof(BlkRangeLayout) > kMaxRanges) {
        return finish(request, VIRTIO_BLK_S_IOERR);
      }
      counters_.discards.fetch_add(1, std::memory_order_relaxed);
      start_range(request);
      return;
    }
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

void Blk::start_transfer(Request& request, uint64_t sector) noexcept {
  const bool in = request.type == VIRTIO_BLK_T_IN;
  request.parts = in ? request.chain->writable() : request.chain->readable();
  const uint64_t bytes = total(request.parts);
  if (bytes % kSector != 0 || !in_range(sector, bytes / kSector) || (!in && settings_.readonly)) {
    finish(request, VIRTIO_BLK_S_IOERR);
    return;
  }
  auto& count = in ? counters_.reads : counters_.writes;
  auto& volume = in ? counters_.read_bytes : counters_.written_bytes;
  count.fetch_add(1, std::memory_order_relaxed);
  volume.fetch_add(bytes, std::memory_order_relaxed);
  request.offset = sector * kSector;
  request.data_bytes = bytes;
  request.step = Request::Step::Transfer;
  if (bytes == 0) {
    finish(request, VIRTIO_BLK_S_OK);
  } else {
    submit_transfer(request);
  }
}

bool Blk::fits_direct(std::span<const iovec> parts, uint64_t offset) const noexcept {
  if (offset % backing_.offset_alignment != 0) return false;
  uint64_t bytes = 0;
  for (const iovec& part : parts) {
    const auto address = reinterpret_cast<uintptr_t>(part.iov_base);
    if (address % backing_.memory_alignment != 0) return false;
    if (part.iov_len % backing_.memory_alignment != 0) return false;
    bytes += part.iov_len;
  }
  return bytes % backing_.offset_alignment == 0;
}

void Blk::submit_transfer(Request& request) noexcept {
  // The kernel keeps direct and buffered accesses to a file coherent, so what O_DIRECT would
  // refuse simply takes the other way.
  const bool direct = backing_.buffered_fd < 0 || fits_direct(request.parts, request.offset);
  const IoFile file = direct ? file_ : buffered_file_;
  if (request.type == VIRTIO_BLK_T_IN) {
    host_->loop().readv(file, request.parts, request.offset, request);
  } else {
    host_->loop().writev(file, request.parts, request.offset, write_through(), request);
  }
}

void Blk::start_range(Request& request) noexcept {
  BlkRangeLayout range;
  if (!request.chain->read(std::as_writable_bytes(std::span(&range, 1)))) {
    finish(request, VIRTIO_BLK_S_OK);  // that was the last one
    return;
  }
  const bool discard = request.type == VIRTIO_BLK_T_DISCARD;
  const uint32_t flags = range.flags;
  const uint32_t known = discard ? 0U : uint32_t{VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
  if ((flags & ~known) != 0) return finish(request, VIRTIO_BLK_S_UNSUPP);  // 5.2.6.2
  if (range.sectors > kMaxRangeSectors || !in_range(range.sector, range.sectors)) {
    return finish(request, VIRTIO_BLK_S_IOERR);
  }
  request.step = Request::Step::Range;
  request.offset = range.sector * kSector;
  request.left = range.sectors * kSector;
  if (request.left == 0) return range_done(request, 0);
  const bool free_blocks = discard || (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
  request.mode = (free_blocks ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
  submit_range(request);
}

void Blk::submit_range(Request& request) noexcept {
  host_->loop().allocate(file_, request.mode, request.offset, request.left, request);
}

void Blk::submit_zeroes(Request& request) noexcept {
  uint64_t bytes = std::min<uint64_t>(request.left, kZeroBytes * kZeroParts);
  size_t count = 0;
  for (; bytes > 0; ++count) {
    const size_t length = std::min<uint64_t>(bytes, kZeroBytes);
    // The kernel only reads from it.
    request.zeroes[count] = {.iov_base = const_cast<std::byte*>(kZeroes.data()), .iov_len = length};
    bytes -= length;
  }
  const auto parts = std::span<const iovec>(request.zeroes).first(count);
  const bool direct = backing_.buffered_fd < 0 || fits_direct(parts, request.offset);
  host_->loop().writev(direct ? file_ : buffered_file_, parts, request.offset, write_through(),
                       request);
}

// Completions ---------------------------------------------------------------------------------

void Blk::operation_done(Request& request, int32_t result) noexcept {
  if (request.cancelled) return finish(request, VIRTIO_BLK_S_IOERR);
  using enum Request::Step;
  switch (request.step) {
    case Transfer: transfer_done(request, result); break;
    case Range:
    case Zeroes: range_done(request, result); break;
    case Flush:
    case FinalFlush:
      if (result < 0) return host_error(request, result);
      finish(request, VIRTIO_BLK_S_OK);
      break;
    case Idle: assert(false && "a completion without an operation"); break;
  }
}

void Blk::transfer_done(Request& request, int32_t result) noexcept {
  if (result == -EINTR || result == -EAGAIN) return submit_transfer(request);
  // Nothing read where there should be data: the file was truncated under us.
  if (result <= 0) return host_error(request, result == 0 ? -EIO : result);
  advance(request, static_cast<size_t>(result));
  if (request.parts.empty()) {
    finish(request, VIRTIO_BLK_S_OK);
  } else {
    submit_transfer(request);
  }
}

void Blk::advance(Request& request, size_t bytes) noexcept {
  request.transferred += bytes;
  request.offset += bytes;
  while (!request.parts.empty() && bytes >= request.parts.front().iov_len) {
    bytes -= request.parts.front().iov_len;
    request.parts = request.parts.subspan(1);
  }
  if (bytes == 0) return;
  iovec& part = request.parts.front();
  auto* const base = static_cast<std::byte*>(part.iov_base);
  // The part shrinks, so the chain's completion will not see these bytes any more.
  if (request.type == VIRTIO_BLK_T_IN) host_->memory().mark_dirty({base, bytes});
  part = {.iov_base = base + bytes, .iov_len = part.iov_len - bytes};
}

void Blk::range_done(Request& request, int32_t result) noexcept {
  const bool zeroing = request.step == Request::Step::Zeroes;
  if (result == -EINTR || result == -EAGAIN) {
    return zeroing ? submit_zeroes(request) : submit_range(request);
  }
  if (result == -EOPNOTSUPP && !zeroing) {
    if (request.type == VIRTIO_BLK_T_WRITE_ZEROES) {
      request.step = Request::Step::Zeroes;
      return submit_zeroes(request);
    }
    result = 0;  // DISCARD is a hint (5.2.6.2)
  }
  if (result < 0 || (zeroing && result == 0)) {
    return host_error(request, result == 0 ? -EIO : result);
  }
  if (zeroing) {
    request.offset += static_cast<uint32_t>(result);
    request.left -= static_cast<uint32_t>(result);
    if (request.left > 0) return submit_zeroes(request);
  }
  if (request.chain->readable_bytes() > 0) return start_range(request);
  if (request.type == VIRTIO_BLK_T_WRITE_ZEROES && write_through()) {
    request.step = Request::Step::FinalFlush;
    host_->loop().flush(file_, request);
    return;
  }
  finish(request, VIRTIO_BLK_S_OK);
}

void Blk::host_error(Request& request, int32_t result) noexcept {
  counters_.host_errors.fetch_add(1, std::memory_order_relaxed);
  if (log_limit_.allow()) {
    log_error("{}: request type {} at byte {}: {}", settings_.name, request.type, request.offset,
              std::strerror(-result));
  }
  finish(request, VIRTIO_BLK_S_IOERR);
}

void Blk::finish(Request& request, uint8_t status) noexcept {
  Chain chain = std::move(*request.chain);
  request.chain.reset();
  // 2.7.8.2: `written` counts from the start of the writable part. The status is its last byte,
  // so it counts only when all bytes before it were written.
  const bool complete = request.type == VIRTIO_BLK_T_IN ? request.transferred == request.data_bytes
                                                        : chain.writable_bytes() == 0;
  const uint64_t data = request.type == VIRTIO_BLK_T_OUT ? 0 : request.transferred;
  if (!request.cancelled) chain.put_status(status);
  host_->complete(std::move(chain), static_cast<uint32_t>(data + (complete ? 1 : 0)));
}

}  // namespace ringlet
