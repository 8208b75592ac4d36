// virtio-blk's requests on the host's file: transfers, discards, zeroes (virtio 1.3, 5.2.6).
#include <linux/falloc.h>
#include <linux/virtio_blk.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "virtio/blk.h"
#include "virtio/blk_layout.h"
#include "virtio/blk_request.h"
#include "virtio/queue.h"

namespace ringlet {
namespace {

/// For hosts whose file system cannot zero a range: written over it piece by piece.
constexpr size_t kZeroBytes = 4096;
alignas(kZeroBytes) constexpr std::array<std::byte, kZeroBytes> kZeroes{};
constexpr std::array<iovec, 64> kZeroParts = [] {
  std::array<iovec, 64> parts{};
  // Written from, never to.
  parts.fill({.iov_base = const_cast<std::byte*>(kZeroes.data()), .iov_len = kZeroBytes});
  return parts;
}();

}  // namespace

void Blk::start_transfer(Request& request, uint64_t sector) noexcept {
  const bool in = request.type == VIRTIO_BLK_T_IN;
  request.parts = in ? request.chain->writable() : request.chain->readable();
  const uint64_t bytes = in ? request.writable_bytes : request.chain->readable_bytes();
  if (bytes % kSector != 0 || !in_range(sector, bytes / kSector) || (!in && settings_.readonly)) {
    finish(request, VIRTIO_BLK_S_IOERR);
    return;
  }
  auto& count = in ? counters_.reads : counters_.writes;
  auto& volume = in ? counters_.read_bytes : counters_.written_bytes;
  count.fetch_add(1, std::memory_order_relaxed);
  volume.fetch_add(bytes, std::memory_order_relaxed);
  request.offset = sector * kSector;
  request.left = bytes;
  if (bytes == 0) {
    finish(request, VIRTIO_BLK_S_OK);
  } else {
    collect(request);
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

// The kernel keeps direct and buffered accesses to a file coherent, so what O_DIRECT would refuse
// simply takes the other way.
IoFile Blk::file_for(std::span<const iovec> parts, uint64_t offset) const noexcept {
  return backing_.buffered_fd < 0 || fits_direct(parts, offset) ? file_ : buffered_file_;
}

void Blk::submit_transfer(Request& request) noexcept {
  submit(request, request.parts, file_for(request.parts, request.offset));
}

void Blk::submit(Request& request, std::span<const iovec> parts, IoFile file) noexcept {
  request.step = Request::Step::Transfer;
  if (request.type == VIRTIO_BLK_T_IN) {
    host_->loop().readv(file, parts, request.offset, request);
  } else {
    host_->loop().writev(file, parts, request.offset, write_through(), request);
  }
}

void Blk::start_ranges(Request& request, BlkFeature needed) noexcept {
  if (!features_.has(needed)) return finish(request, VIRTIO_BLK_S_UNSUPP);
  const uint64_t bytes = request.chain->readable_bytes();
  if (bytes == 0 || bytes % sizeof(BlkRangeLayout) != 0 ||
      bytes / sizeof(BlkRangeLayout) > kMaxRanges) {
    return finish(request, VIRTIO_BLK_S_IOERR);
  }
  if (const uint8_t fault = read_ranges(request); fault != VIRTIO_BLK_S_OK) {
    return finish(request, fault);
  }
  counters_.discards.fetch_add(1, std::memory_order_relaxed);
  start_range(request);
}

/// All of a request is judged before any of it is done.
uint8_t Blk::read_ranges(Request& request) noexcept {
  const Chain& chain = *request.chain;
  request.ranges = {&lane_of(chain).ranges[kMaxRanges * chain.slot()],
                    static_cast<size_t>(chain.readable_bytes() / sizeof(BlkRangeLayout))};
  const bool discard = request.type == VIRTIO_BLK_T_DISCARD;
  const uint32_t known = discard ? 0U : uint32_t{VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
  uint32_t flags = 0;
  bool on_disk = true;
  for (BlkRange& range : request.ranges) {
    BlkRangeLayout layout;
    const bool read = request.chain->read(std::as_writable_bytes(std::span(&layout, 1)));
    assert(read);
    range = {.sector = layout.sector, .sectors = layout.sectors, .flags = layout.flags};
    flags |= range.flags;
    on_disk = on_disk && range.sectors <= kMaxRangeSectors && in_range(range.sector, range.sectors);
  }
  if ((flags & ~known) != 0) return VIRTIO_BLK_S_UNSUPP;  // 5.2.6.2, whatever else is wrong
  return on_disk ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

void Blk::start_range(Request& request) noexcept {
  if (request.ranges.empty()) {
    finish(request, VIRTIO_BLK_S_OK);
    return;
  }
  const BlkRange& range = request.ranges.front();
  request.ranges = request.ranges.subspan(1);
  request.step = Request::Step::Range;
  request.offset = range.sector * kSector;
  request.left = range.sectors * kSector;
  if (request.left == 0) return range_done(request, 0);
  const bool free_blocks = request.type == VIRTIO_BLK_T_DISCARD ||
                           (range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
  request.mode = (free_blocks ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
  submit_range(request);
}

void Blk::submit_range(Request& request) noexcept {
  host_->loop().allocate(file_, request.mode, request.offset, request.left, request);
}

void Blk::submit_zeroes(Request& request) noexcept {
  std::span<const iovec> parts = kZeroParts;
  if (request.left < kZeroBytes) {
    request.last_zeroes = {.iov_base = kZeroParts[0].iov_base, .iov_len = request.left};
    parts = {&request.last_zeroes, 1};
  } else {
    parts = parts.first(std::min<uint64_t>(request.left / kZeroBytes, parts.size()));
  }
  host_->loop().writev(file_for(parts, request.offset), parts, request.offset, write_through(),
                       request);
}

void Blk::start_flush(Request& request) noexcept {
  request.step = Request::Step::Flush;
  if (flush_failed_) return finish(request, VIRTIO_BLK_S_IOERR);
  host_->loop().flush(file_, request);
}

// Completions ---------------------------------------------------------------------------------

void Blk::operation_done(Request& request, int32_t result) noexcept {
  if (request.step == Request::Step::Flush) note_flush(result);
  if (request.next != nullptr) return joined_done(request, result);
  if (request.cancelled) return finish(request, VIRTIO_BLK_S_IOERR);
  using enum Request::Step;
  switch (request.step) {
    case Transfer: transfer_done(request, result); break;
    case Range:
    case Zeroes: range_done(request, result); break;
    case Flush: flush_done(request, result); break;
    case Idle:
    case Joined: assert(false && "a completion without an operation"); break;
  }
}

void Blk::transfer_done(Request& request, int32_t result) noexcept {
  if (result == -EINTR || result == -EAGAIN) return submit_transfer(request);
  // Nothing read where there should be data: the file was truncated under us.
  if (result <= 0) return host_error(request, result == 0 ? -EIO : result);
  advance(request, static_cast<size_t>(result));
  if (request.left == 0) {
    finish(request, VIRTIO_BLK_S_OK);
  } else {
    submit_transfer(request);
  }
}

void Blk::advance(Request& request, size_t bytes) noexcept {
  request.transferred += bytes;
  request.offset += bytes;
  request.left -= bytes;
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
  // Not by this file system, or not by a block device whose blocks are larger than the guest's.
  if ((result == -EOPNOTSUPP || result == -EINVAL) && !zeroing) {
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
  if (!request.ranges.empty()) return start_range(request);
  if (request.type == VIRTIO_BLK_T_WRITE_ZEROES && write_through()) {
    return start_flush(request);
  }
  finish(request, VIRTIO_BLK_S_OK);
}

void Blk::note_flush(int32_t result) noexcept {
  // Linux may have dropped the pages that it could not write, and reports that once, maybe to a
  // request that nobody waits for any more: a later success would tell the driver that they are
  // stable.
  const bool undecided = result == -EINTR || result == -EAGAIN || result == -ECANCELED;
  if (result < 0 && !undecided) flush_failed_ = true;
}

void Blk::flush_done(Request& request, int32_t result) noexcept {
  if (result == -EINTR || result == -EAGAIN) return start_flush(request);
  if (result < 0) return host_error(request, result);
  finish(request, flush_failed_ ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

void Blk::host_error(Request& request, int32_t result) noexcept {
  counters_.host_errors.fetch_add(1, std::memory_order_relaxed);
  if (log_limit_.allow()) {
    log_error("{}: request type {} at byte {}: {}", settings_.name, request.type, request.offset,
              std::strerror(-result));
  }
  finish(request, VIRTIO_BLK_S_IOERR);
}

}  // namespace ringlet
