// What came back for a request of the simulated driver: length, status, data.
#include <linux/virtio_blk.h>

#include <algorithm>
#include <cstring>

#include "tests/sim/disk_request.h"
#include "tests/sim/trace.h"
#include "virtio/blk_layout.h"

namespace ringlet {
namespace {

std::vector<std::byte> gather(const std::vector<GuestBuffer>& buffers) {
  std::vector<std::byte> bytes;
  for (const GuestBuffer& buffer : buffers) {
    bytes.insert(bytes.end(), buffer.bytes.begin(), buffer.bytes.end());
  }
  return bytes;
}

bool untouched(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == GuestArena::kCanary; });
}

void judge_data(const DiskRequest& request, std::span<const std::byte> data, DiskModel& model,
                DiskModel::Time now) {
  for (uint64_t sector = request.sector; !data.empty(); ++sector) {
    const auto part = data.first(std::min<size_t>(data.size(), kSector));
    expect(model.check_read(sector, part, request.begun, now),
           "a read of sector {} ({} bytes of it) returned what the disk cannot hold", sector,
           part.size());
    data = data.subspan(part.size());
  }
}

void judge_identity(std::span<const std::byte> data, std::string_view serial) {
  std::array<char, kSerialBytes> expected{};
  std::ranges::copy(serial, expected.begin());
  const size_t length = std::min(data.size(), expected.size());
  expect(std::memcmp(data.data(), expected.data(), length) == 0, "a wrong serial number");
  expect(untouched(data.subspan(length)), "more than 20 bytes of serial number");
}

}  // namespace

uint8_t status_of_request(const DiskRequest& request) {
  // An empty buffer may come last.
  for (auto buffer = request.placed.writable.rbegin(); buffer != request.placed.writable.rend();
       ++buffer) {
    if (!buffer->bytes.empty()) return static_cast<uint8_t>(buffer->bytes.back());
  }
  return UINT8_MAX;
}

bool judge_request(const DiskRequest& request, uint32_t used_length, const DiskFacts& facts,
                   DiskModel& model, DiskModel::Time now) {
  expect(std::ranges::equal(gather(request.placed.readable), request.sent),
         "the device wrote to the readable part of a request of type {}", request.type);
  const uint8_t status = status_of_request(request);
  const bool host_failed = status == VIRTIO_BLK_S_IOERR && request.status != status;
  expect(status == request.status || (host_failed && request.host_may_fail),
         "a request of type {} ended with status {}, expected {}", request.type, status,
         request.status);

  const std::vector<std::byte> writable = gather(request.placed.writable);
  const size_t room = writable.size() - 1;
  const auto data = std::span(writable).first(room);
  size_t length = 0;  // of data
  if (request.type == VIRTIO_BLK_T_IN && status == VIRTIO_BLK_S_OK) length = room;
  if (request.type == VIRTIO_BLK_T_GET_ID) length = std::min(room, kSerialBytes);
  if (request.type == VIRTIO_BLK_T_IN && host_failed) {
    // It may have read some of it, which then has to be there.
    expect(used_length < room, "a failed read of {} bytes has a used length of {}", room,
           used_length);
    length = used_length;
  } else {
    const size_t expected = length == room ? room + 1 : length;
    expect(used_length == expected, "type {}, status {}: used length {}, expected {}", request.type,
           status, used_length, expected);
    expect(untouched(data.subspan(length)), "type {}, status {}: data behind the {} bytes used",
           request.type, status, length);
  }
  if (request.type == VIRTIO_BLK_T_IN) judge_data(request, data.first(length), model, now);
  if (request.type == VIRTIO_BLK_T_GET_ID) judge_identity(data, facts.serial);
  return host_failed;
}

}  // namespace ringlet
