// Requests of the simulated driver, right and wrong ones, and where they lie in memory.
#include "tests/sim/disk_request.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

#include "virtio/blk.h"
#include "virtio/blk_layout.h"

namespace ringlet {
namespace {

constexpr uint8_t kOk = VIRTIO_BLK_S_OK;
constexpr uint8_t kIoError = VIRTIO_BLK_S_IOERR;
constexpr uint8_t kUnsupported = VIRTIO_BLK_S_UNSUPP;
constexpr uint32_t kMaxRangeCount = 16;

struct Span {
  uint64_t sector;
  uint64_t sectors;
};

Span pick_span(const DiskFacts& facts, const RequestStyle& style, SimRandom& random) {
  const uint64_t longest = random.percent(style.long_percent) ? 12 : 3;
  const uint64_t sectors =
      random.percent(3) ? 0 : random.between<uint64_t>(1, std::min(longest, facts.sectors));
  if (random.percent(10)) return {facts.sectors - sectors, sectors};  // up to the very end
  const uint64_t room = facts.sectors - sectors;
  const bool hot = style.hot_sectors > 0 && random.percent(80);
  return {random.below(1 + (hot ? std::min(room, style.hot_sectors) : room)), sectors};
}

// One that is not on the disk as a whole.
Span pick_bad_span(const DiskFacts& facts, SimRandom& random) {
  const auto sectors = random.between<uint64_t>(1, 3);
  switch (random.below(4)) {
    case 0: return {facts.sectors - sectors + 1, sectors};
    case 1: return {facts.sectors, sectors};
    case 2: return {UINT64_MAX - random.below<uint64_t>(4), sectors};
    default: return {(UINT64_MAX >> 9) - random.below<uint64_t>(4), sectors};
  }
}

void append(std::vector<std::byte>& bytes, std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

void set_header(DiskRequest& request, uint32_t type, uint64_t sector) {
  request.type = type;
  request.sector = sector;
  BlkRequestHeader header;
  header.type = type;
  header.reserved = 0;
  header.sector = sector;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  request.sent.assign(bytes.begin(), bytes.end());
}

void add_data(DiskRequest& request, const Span& span, uint64_t tag) {
  const size_t start = request.sent.size();
  request.sent.resize(start + span.sectors * kSector);
  for (uint64_t i = 0; i < span.sectors; ++i) {
    DiskModel::fill(std::span(request.sent).subspan(start + i * kSector, kSector), span.sector + i,
                    tag);
  }
}

void invent_read(DiskRequest& request, const Span& span) {
  set_header(request, VIRTIO_BLK_T_IN, span.sector);
  request.writable_bytes = static_cast<uint32_t>(span.sectors * kSector + 1);
  request.host_may_fail = span.sectors > 0;
}

void invent_write(DiskRequest& request, const Span& span, const DiskFacts& facts, uint64_t tag) {
  set_header(request, VIRTIO_BLK_T_OUT, span.sector);
  add_data(request, span, tag);
  request.status = facts.readonly ? kIoError : kOk;
  if (facts.readonly || span.sectors == 0) return;
  request.host_may_fail = true;
  request.ranges.push_back({.sector = span.sector, .sectors = span.sectors, .tag = tag});
}

// `type`: DISCARD or WRITE_ZEROES; `bad`: the last of its ranges, or the request itself, is wrong.
void invent_ranges(DiskRequest& request, uint32_t type, bool bad, const DiskFacts& facts,
                   const RequestStyle& style, SimRandom& random) {
  set_header(request, type, 0);
  const bool discard = type == VIRTIO_BLK_T_DISCARD;
  const bool offered = facts.features.has(discard ? BlkFeature::Discard : BlkFeature::WriteZeroes);
  const unsigned fault = bad ? random.below(5U) : 5U;
  uint32_t count = random.between(1U, random.percent(10) ? kMaxRangeCount : 3U);
  if (fault == 0) count = kMaxRangeCount + 1;
  if (fault == 1) count = 0;
  if (fault < 3) request.status = kIoError;
  const uint32_t wrong_at = fault >= 3 && bad ? random.below(count) : UINT32_MAX;
  for (uint32_t i = 0; i < count; ++i) {
    const bool wrong = i == wrong_at;
    const Span span =
        wrong && fault == 3 ? pick_bad_span(facts, random) : pick_span(facts, style, random);
    uint32_t flags = !discard && random.percent(50) ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0U;
    if (wrong && fault == 4) flags |= discard ? 1U << random.below(32) : 2U << random.below(31);
    if (wrong) request.status = fault == 3 ? kIoError : kUnsupported;
    BlkRangeLayout range;
    range.sector = span.sector;
    range.sectors = static_cast<uint32_t>(span.sectors);
    range.flags = flags;
    append(request.sent, std::as_bytes(std::span(&range, 1)));
    request.ranges.push_back(
        {.sector = span.sector, .sectors = span.sectors, .tag = 0, .certain = !discard});
  }
  if (fault == 2) request.sent.resize(request.sent.size() - 1 - random.below(15U));
  if (!offered) request.status = kUnsupported;
  if (!offered || bad) request.ranges.clear();  // all of it is judged before any of it is done
  request.host_may_fail = !request.ranges.empty();
}

void invent_bad(DiskRequest& request, const DiskFacts& facts, const RequestStyle& style,
                uint64_t tag, SimRandom& random) {
  request.status = kIoError;
  switch (random.below(7)) {
    case 0:
      invent_read(request, pick_bad_span(facts, random));
      request.host_may_fail = false;
      break;
    case 1: {
      const Span span = pick_bad_span(facts, random);
      set_header(request, VIRTIO_BLK_T_OUT, span.sector);
      add_data(request, span, tag);
      break;
    }
    case 2:  // not a number of sectors
      set_header(request, VIRTIO_BLK_T_IN, random.below(facts.sectors));
      request.writable_bytes = 1 + random.between(1U, 511U);
      break;
    case 3:
      set_header(request, VIRTIO_BLK_T_OUT, random.below(facts.sectors));
      request.sent.resize(request.sent.size() + random.between(1U, 511U));
      break;
    case 4:
      set_header(request, random.between(16U, UINT32_MAX), random.next());
      request.status = kUnsupported;
      break;
    case 5: invent_ranges(request, VIRTIO_BLK_T_DISCARD, true, facts, style, random); break;
    default: invent_ranges(request, VIRTIO_BLK_T_WRITE_ZEROES, true, facts, style, random);
  }
}

}  // namespace

DiskRequest invent_request(const DiskFacts& facts, const RequestStyle& style, DiskStream& stream,
                           uint64_t& next_tag, SimRandom& random) {
  using Kind = DiskRequest::Kind;
  const unsigned sum = std::accumulate(style.weights.begin(), style.weights.end(), 0U);
  unsigned draw = random.below(sum);
  size_t kind = 0;
  while (draw >= style.weights[kind]) draw -= style.weights[kind++];

  DiskRequest request;
  request.kind = static_cast<Kind>(kind);
  request.writable_bytes = 1;
  const uint64_t tag = ++next_tag;
  Span span = pick_span(facts, style, random);
  if (stream.sector < facts.sectors && random.percent(style.sequential_percent)) {
    request.kind = stream.kind;
    span = {stream.sector, std::clamp<uint64_t>(span.sectors, 1, facts.sectors - stream.sector)};
  }
  if (request.kind == Kind::Read || request.kind == Kind::Write) {
    stream = {.kind = request.kind, .sector = span.sector + span.sectors};
  }
  switch (request.kind) {
    case Kind::Read: invent_read(request, span); break;
    case Kind::Write: invent_write(request, span, facts, tag); break;
    case Kind::Flush:
      set_header(request, VIRTIO_BLK_T_FLUSH, 0);
      request.host_may_fail = true;
      break;
    case Kind::Identify:
      set_header(request, VIRTIO_BLK_T_GET_ID, 0);
      request.writable_bytes = 1 + (random.percent(70) ? 20 : random.below(30U));
      break;
    case Kind::Discard:
      invent_ranges(request, VIRTIO_BLK_T_DISCARD, false, facts, style, random);
      break;
    case Kind::WriteZeroes:
      invent_ranges(request, VIRTIO_BLK_T_WRITE_ZEROES, false, facts, style, random);
      break;
    case Kind::Bad: invent_bad(request, facts, style, tag, random); break;
  }
  // Room to write to that the request has no use for: it must not be counted as written.
  const bool reads = request.type == VIRTIO_BLK_T_IN || request.type == VIRTIO_BLK_T_GET_ID;
  if (!reads && random.percent(3)) request.writable_bytes += random.between(1U, 40U);
  return request;
}

// Where it lies in memory -----------------------------------------------------------------------

namespace {

// Lengths of the pieces that `bytes` are cut into, at most `most`; `fixed` are cut off first.
std::vector<uint32_t> cut(uint32_t bytes, size_t most, uint32_t head, uint32_t tail, bool anywhere,
                          SimRandom& random) {
  std::vector<uint32_t> ends{bytes};
  if (!anywhere) {
    if (head > 0 && head < bytes) ends.push_back(head);
    if (tail > 0 && tail < bytes) ends.push_back(bytes - tail);
  }
  const unsigned more = anywhere || random.percent(20) ? random.below(4U) : 0;
  for (unsigned i = 0; i < more && bytes > 0; ++i) ends.push_back(random.below(bytes));
  std::ranges::sort(ends);
  while (ends.size() > most) ends.erase(ends.begin());
  std::vector<uint32_t> lengths;
  uint32_t start = 0;
  for (const uint32_t end : ends) {
    // An empty descriptor now and then, as two cuts at one place make it, is nothing special.
    lengths.push_back(end - start);
    start = end;
  }
  return lengths;
}

bool borrow(std::vector<GuestBuffer>& buffers, std::span<const uint32_t> lengths,
            bool device_writes, std::vector<ChainLink>& chain, GuestArena& arena,
            SimRandom& random) {
  for (const uint32_t length : lengths) {
    const auto buffer = arena.take(length, 1, random);
    if (!buffer) return false;
    buffers.push_back(*buffer);
    chain.push_back({.at = buffer->at, .length = length, .device_writes = device_writes});
  }
  return true;
}

}  // namespace

std::vector<ChainLink> place_request(DiskRequest& request, const RequestStyle& style,
                                     size_t max_links, GuestArena& arena, SimRandom& random) {
  assert(max_links >= 2);
  const auto sent = static_cast<uint32_t>(request.sent.size());
  const size_t left = max_links - 1;
  const auto readable = cut(sent, left, sizeof(BlkRequestHeader), 0, style.any_layout, random);
  const auto writable =
      cut(request.writable_bytes, max_links - readable.size(), 0, 1, style.any_layout, random);
  std::vector<ChainLink> chain;
  if (!borrow(request.placed.readable, readable, false, chain, arena, random) ||
      !borrow(request.placed.writable, writable, true, chain, arena, random)) {
    return {};
  }
  size_t at = 0;
  for (const GuestBuffer& buffer : request.placed.readable) {
    std::copy_n(request.sent.begin() + static_cast<ptrdiff_t>(at), buffer.bytes.size(),
                buffer.bytes.begin());
    at += buffer.bytes.size();
  }
  return chain;
}

void give_back_request(const DiskRequest& request, GuestArena& arena) {
  for (const GuestBuffer& buffer : request.placed.readable) arena.give_back(buffer);
  for (const GuestBuffer& buffer : request.placed.writable) arena.give_back(buffer);
}

}  // namespace ringlet
