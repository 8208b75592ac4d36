// Data tests of the blk guest: what is written in one shape is read back in another.
#include "blk_data.h"

#include "lib/console.h"

namespace guest {

alignas(kPage) uint8_t out_buffer[kBufferBytes];
alignas(kPage) uint8_t in_buffer[kBufferBytes];
uint64_t seed = 1;

namespace {

const char* name(BlkStatus status) {
  switch (status) {
    case BlkStatus::Ok: return "OK";
    case BlkStatus::IoError: return "IOERR";
    case BlkStatus::Unsupported: return "UNSUPP";
    case BlkStatus::NotWritten: return "not written";
  }
  return "unknown";
}

// A page cut into pieces: `count` of `length` bytes, then `count` of the next length, and so on;
// the last piece takes the rest of the page.
struct Shape {
  struct Run {
    uint16_t count;
    uint16_t length;
  } runs[4];
};
constexpr Shape kShapes[] = {
    {},                                          // one piece
    {{{7, 512}}},                                // sectors
    {{{1, 1}, {1, 511}}},                        //
    {{{64, 1}}},                                 // single bytes
    {{{1, 4095}}},                               //
    {{{1, 3}, {1, 5}, {1, 7}, {1, 11}}},         //
    {{{1, 1023}, {1, 2}, {30, 33}, {1, 1000}}},  //
    {{{90, 17}}},                                //
};

size_t cut(const Shape& shape, uint64_t address, bool writable, Segment* segments) {
  size_t count = 0;
  uint32_t left = kPage;
  for (const Shape::Run& run : shape.runs) {
    for (uint16_t i = 0; i < run.count; ++i) {
      segments[count++] = {address, run.length, writable};
      address += run.length;
      left -= run.length;
    }
  }
  segments[count++] = {address, left, writable};
  return count;
}

}  // namespace

void expect_status(BlkStatus got, BlkStatus wanted, const char* what) {
  expect(got == wanted, "{}: status {} instead of {}", what, name(got), name(wanted));
}

void expect_pattern(Span<const uint8_t> bytes, uint64_t wanted_seed, const char* what) {
  const size_t at = pattern_mismatch(bytes, wanted_seed);
  expect(at == bytes.size, "{}: byte {} of {} is wrong", what, at, bytes.size);
}

void test_shapes(BlkDriver& blk) {
  constexpr size_t kShapeCount = sizeof(kShapes) / sizeof(kShapes[0]);
  Segment segments[128];
  for (size_t i = 0; i < kShapeCount; ++i) {
    for (const size_t offset : {size_t{0}, size_t{1}, size_t{510}}) {
      const uint64_t sector = i * kPageSectors;
      fill_pattern({out_buffer + offset, kPage}, ++seed);
      size_t count = cut(kShapes[i], address_of(out_buffer + offset), false, segments);
      expect_status(blk.transfer(BlkType::Out, sector, {segments, count}), BlkStatus::Ok, "write");
      expect(blk.last_used_length() == 1, "write: used length {}", blk.last_used_length());

      memset(in_buffer, 0xee, 2 * kPage);
      const Shape& other = kShapes[(i + 3) % kShapeCount];
      count = cut(other, address_of(in_buffer + 511 - offset), true, segments);
      expect_status(blk.transfer(BlkType::In, sector, {segments, count}), BlkStatus::Ok, "read");
      expect(blk.last_used_length() == kPage + 1, "read: used length {}", blk.last_used_length());
      expect_pattern({in_buffer + 511 - offset, kPage}, seed, "shape");
      expect(in_buffer[510 - offset] == 0xee && in_buffer[511 - offset + kPage] == 0xee,
             "bytes beside the buffer were written");
    }
  }
}

void test_framing(BlkDriver& blk) {
  struct Request {
    BlkHeader header;
    uint8_t data[kPage];
    uint8_t status;
  };
  static Request request;
  const uint64_t header = address_of(&request.header);
  const uint64_t data = address_of(request.data);
  const uint64_t status = address_of(&request.status);
  const Segment writes[][6] = {
      {{header, 8, false}, {header + 8, 8, false}, {data, kPage, false}, {status, 1, true}},
      {{header, 16 + kPage, false}, {status, 1, true}},
      {{header, 1, false},
       {header + 1, 14, false},
       {header + 15, 100, false},
       {header + 115, kPage - 99, false},
       {status, 1, true}},
  };
  const Segment reads[][6] = {
      {{header, 4, false}, {header + 4, 12, false}, {data, kPage, true}, {status, 1, true}},
      {{header, 16, false}, {data, kPage + 1, true}},
      {{header, 15, false},
       {header + 15, 1, false},
       {data, 1, true},
       {data + 1, 4000, true},
       {data + 4001, kPage - 4000, true}},
  };
  constexpr size_t kFramings = sizeof(writes) / sizeof(writes[0]);
  for (size_t i = 0; i < 2 * kFramings; ++i) {
    const bool write = i % 2 == 0;
    const Segment* segments = write ? writes[i / 2] : reads[i / 2];
    size_t count = 0;
    while (count < 6 && segments[count].length != 0) {
      ++count;
    }
    request.header = {write ? BlkType::Out : BlkType::In, 0, 100 + i / 2 * kPageSectors};
    request.status = static_cast<uint8_t>(BlkStatus::NotWritten);
    if (write) {
      fill_pattern(request.data, ++seed);
    } else {
      memset(request.data, 0xee, kPage);
    }
    const uint16_t head = blk.submit(0, {segments, count});
    blk.kick(0);
    expect(blk.wait(0).head == head, "framing {}: another request is used", i);
    expect_status(static_cast<BlkStatus>(request.status), BlkStatus::Ok, "framing");
    expect_pattern(request.data, seed, "framing");
  }
}

void test_many_segments(BlkDriver& blk) {
  Segment segments[kManySegments];
  const size_t count = blk.max_segments() < kManySegments ? blk.max_segments() : kManySegments;
  // Pages in reverse, so that neighbours on disk are not neighbours in memory.
  for (size_t i = 0; i < count; ++i) {
    uint8_t* page = out_buffer + (count - 1 - i) * kPage;
    fill_pattern({page, kPage}, seed + i);
    segments[i] = {address_of(page), kPage, false};
  }
  expect_status(blk.transfer(BlkType::Out, 200, {segments, count}), BlkStatus::Ok, "write");
  memset(in_buffer, 0xee, count * kPage);
  expect_status(blk.read(200, {in_buffer, count * kPage}), BlkStatus::Ok, "read");
  for (size_t i = 0; i < count; ++i) {
    expect_pattern({in_buffer + i * kPage, kPage}, seed + i, "long request");
  }
  seed += count;
}

// A request with a header, a page and a status of its own, for many at once.
struct Slot {
  BlkHeader header;
  uint8_t status;
  uint16_t head;
};

void read_in_batches(BlkDriver& blk, uint16_t queue, size_t batch, size_t rounds) {
  static Slot slots[64];
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < batch; ++i) {
      Slot& slot = slots[i];
      slot.header = {BlkType::In, 0, i};
      slot.status = static_cast<uint8_t>(BlkStatus::NotWritten);
      const Segment segments[] = {{address_of(&slot.header), sizeof(BlkHeader), false},
                                  {address_of(in_buffer + i * kSectorBytes), kSectorBytes, true},
                                  {address_of(&slot.status), 1, true}};
      slot.head = blk.submit(queue, segments);
    }
    blk.kick(queue);
    for (size_t i = 0; i < batch; ++i) {
      const UsedElement used = blk.wait(queue);
      size_t match = 0;
      while (match < batch && slots[match].head != used.head) {
        ++match;
      }
      expect(match < batch, "request {} was not submitted", used.head);
      expect_status(static_cast<BlkStatus>(slots[match].status), BlkStatus::Ok, "batch");
      slots[match].status = static_cast<uint8_t>(BlkStatus::NotWritten);
    }
  }
}

void test_batches(BlkDriver& blk) {
  const size_t bytes = 64 * kSectorBytes;
  fill_pattern({out_buffer, bytes}, ++seed);
  expect_status(blk.write(0, {out_buffer, bytes}), BlkStatus::Ok, "write");
  memset(in_buffer, 0xee, bytes);
  read_in_batches(blk, 0, 64, 3);
  expect_pattern({in_buffer, bytes}, seed, "batch");
}

}  // namespace guest
