// Guest: puts a virtio-blk disk through every request and framing that the specification allows.
// It prints nothing that two devices may legally do differently, so its output can be compared.
// The first 4 MiB of the disk are overwritten, unless it is read-only.
//   index=N      which virtio-blk device (0)
//   queues=N     how many queues to use (1)
//   packed=1     all of it with packed queues (0)
//   requests=N   how many requests the wrap-around test makes (66000)
#include "blk_data.h"
#include "lib/guest.h"
#include "lib/pci.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr uint64_t kTestSectors = (4 << 20) / kSectorBytes;

void test_errors(BlkDriver& blk) {
  const uint64_t end = blk.capacity_sectors();
  memset(in_buffer, 0xee, kPage);
  expect_status(blk.read(end, {in_buffer, 512}), BlkStatus::IoError, "read at the end");
  expect_status(blk.read(end - 1, {in_buffer, 1024}), BlkStatus::IoError, "read over the end");
  expect_status(blk.read(~uint64_t{0}, {in_buffer, 512}), BlkStatus::IoError, "read at the top");
  expect_status(blk.read(uint64_t{1} << 55, {in_buffer, 512}), BlkStatus::IoError, "read at 2^64");
  expect_status(blk.write(end, {out_buffer, 512}), BlkStatus::IoError, "write at the end");
  expect_status(blk.write(end - 1, {out_buffer, 1024}), BlkStatus::IoError, "write over the end");
  expect_status(blk.read(end - 1, {in_buffer, 512}), BlkStatus::Ok, "read of the last sector");
  expect_status(blk.transfer(static_cast<BlkType>(0x7777), 0, {}), BlkStatus::Unsupported,
                "unknown type");
}

void run_all(BlkDriver& blk, const char* label, const BlkDriver::Options& options) {
  blk.start(options);
  print("{}:", label);
  test_shapes(blk);
  print(" shapes");
  test_framing(blk);
  print(" framing");
  test_many_segments(blk);
  print(" segments");
  test_batches(blk);
  print(" batches");
  test_errors(blk);
  print(" errors\n");
}

void print_serial(BlkDriver& blk) {
  constexpr uint32_t kIdBytes = 20;
  memset(in_buffer, 0xee, 32);
  const Segment data[] = {{address_of(in_buffer), 3, true},
                          {address_of(in_buffer + 3), kIdBytes - 3, true}};
  expect_status(blk.transfer(BlkType::GetId, 0, data), BlkStatus::Ok, "GET_ID");
  Text serial{reinterpret_cast<const char*>(in_buffer), 0};
  while (serial.size < kIdBytes && serial.data[serial.size] != '\0') {
    ++serial.size;
  }
  print("serial number: {}\n", serial);
}

uint32_t disk_crc(BlkDriver& blk, uint64_t sectors) {
  uint32_t crc = 0;
  for (uint64_t at = 0; at < sectors; at += 64) {
    const Span<uint8_t> piece{in_buffer, 64 * kSectorBytes};
    expect_status(blk.read(at, piece), BlkStatus::Ok, "read");
    crc = crc32({piece.data, piece.size}, crc);
  }
  return crc;
}

// One DISCARD or WRITE_ZEROES of 8 sectors at each of 4 places, in as few requests as allowed.
void range_requests(BlkDriver& blk, BlkType type, uint64_t first, uint32_t flags,
                    uint32_t max_ranges) {
  BlkRange ranges[4];
  const uint32_t step = max_ranges < 4 ? max_ranges : 4;
  for (uint32_t i = 0; i < 4; ++i) {
    ranges[i] = {first + 16 * i, 8, flags};
  }
  for (uint32_t i = 0; i < 4; i += step) {
    const uint32_t count = step < 4 - i ? step : 4 - i;
    const Segment data[] = {
        {address_of(ranges + i), static_cast<uint32_t>(count * sizeof(BlkRange)), false}};
    expect_status(blk.transfer(type, 0, data), BlkStatus::Ok, "ranges");
  }
}

// Runs a range request over a region with a pattern. What lies between the ranges must stay; the
// ranges must read as zeroes if `zeroes` says so (discarded sectors may read as anything).
void test_ranges(BlkDriver& blk, BlkType type, uint32_t flags, uint32_t max_ranges, bool zeroes) {
  constexpr uint64_t kFirst = 2048;
  for (size_t i = 0; i < 8; ++i) {
    fill_pattern({out_buffer + i * kPage, kPage}, seed + i);
  }
  expect_status(blk.write(kFirst, {out_buffer, 8 * kPage}), BlkStatus::Ok, "write");
  range_requests(blk, type, kFirst, flags, max_ranges);
  expect_status(blk.read(kFirst, {in_buffer, 8 * kPage}), BlkStatus::Ok, "read");
  for (size_t i = 0; i < 8; ++i) {
    if (i % 2 == 1) {
      expect_pattern({in_buffer + i * kPage, kPage}, seed + i, "sectors beside the ranges");
    } else if (zeroes) {
      for (size_t j = 0; j < kPage; ++j) {
        expect(in_buffer[i * kPage + j] == 0, "byte {} of page {} is not zero", j, i);
      }
    }
  }
  seed += 8;
}

BlkStatus one_range(BlkDriver& blk, BlkType type, const BlkRange& range) {
  const Segment data[] = {{address_of(&range), sizeof(range), false}};
  return blk.transfer(type, 0, data);
}

void test_discard(BlkDriver& blk) {
  if (!blk.features().has(Feature::BlkDiscard)) {
    return print("DISCARD: not offered\n");
  }
  const auto max_ranges = blk.device().config<uint32_t>(blk_config::kMaxDiscardSegments);
  test_ranges(blk, BlkType::Discard, 0, max_ranges, false);
  expect_status(one_range(blk, BlkType::Discard, {blk.capacity_sectors(), 8, 0}),
                BlkStatus::IoError, "DISCARD at the end");
  expect_status(one_range(blk, BlkType::Discard, {2048, 8, kBlkUnmap}), BlkStatus::Unsupported,
                "DISCARD with the unmap flag");
  print("DISCARD: ok\n");
}

void test_write_zeroes(BlkDriver& blk) {
  if (!blk.features().has(Feature::BlkWriteZeroes)) {
    return print("WRITE_ZEROES: not offered\n");
  }
  const auto max_ranges = blk.device().config<uint32_t>(blk_config::kMaxWriteZeroesSegments);
  test_ranges(blk, BlkType::WriteZeroes, 0, max_ranges, true);
  if (blk.device().config<uint8_t>(blk_config::kWriteZeroesMayUnmap) != 0) {
    test_ranges(blk, BlkType::WriteZeroes, kBlkUnmap, max_ranges, true);
  }
  expect_status(one_range(blk, BlkType::WriteZeroes, {blk.capacity_sectors() - 4, 8, 0}),
                BlkStatus::IoError, "WRITE_ZEROES over the end");
  expect_status(one_range(blk, BlkType::WriteZeroes, {2048, 8, 0x80}), BlkStatus::Unsupported,
                "WRITE_ZEROES with an unknown flag");
  print("WRITE_ZEROES: ok\n");
}

void test_flush(BlkDriver& blk) {
  if (!blk.features().has(Feature::BlkFlush)) {
    return print("FLUSH: not offered\n");
  }
  expect_status(blk.flush(), BlkStatus::Ok, "FLUSH");
  print("FLUSH: ok\n");
}

// The cache mode can be switched, and the switch reads back (5.2.5, 5.2.6.2).
void test_config_wce(BlkDriver& blk) {
  if (!blk.features().has(Feature::BlkConfigWce)) {
    return print("CONFIG_WCE: not offered\n");
  }
  for (const uint8_t mode : {uint8_t{0}, uint8_t{1}}) {
    blk.device().set_config<uint8_t>(blk_config::kWriteback, mode);
    const auto got = blk.device().config<uint8_t>(blk_config::kWriteback);
    expect(got == mode, "writeback reads {} after writing {}", got, mode);
    expect_status(blk.write(0, {out_buffer, kPage}), BlkStatus::Ok, "write");
  }
  print("CONFIG_WCE: ok\n");
}

void test_queue_sizes(BlkDriver& blk) {
  // Those of packed queues need not be powers of two (2.8.10.1).
  constexpr uint16_t kSizes[2][3] = {{4, 16, 128}, {4, 15, 100}};
  for (const uint16_t size : kSizes[blk.features().has(Feature::RingPacked) ? 1 : 0]) {
    blk.start({.indirect = false, .queue_size = size});
    read_in_batches(blk, 0, size / 4u, 40);
  }
  print("queue sizes: ok\n");
}

void test_queues(BlkDriver& blk, uint16_t queues) {
  blk.start({.completion = Completion::Msix, .queue_size = 64, .queues = queues});
  for (uint16_t queue = 0; queue < queues; ++queue) {
    read_in_batches(blk, queue, 32, 2);
  }
  print("{} queues: ok\n", queues);
}

void test_read_only(BlkDriver& blk) {
  const uint32_t before = disk_crc(blk, kTestSectors);
  for (const Completion completion : {Completion::Poll, Completion::Msix, Completion::Intx}) {
    blk.start({.completion = completion});
    expect_status(blk.write(0, {out_buffer, kPage}), BlkStatus::IoError, "write");
    read_in_batches(blk, 0, 64, 1);
  }
  expect(disk_crc(blk, kTestSectors) == before, "a read-only disk has changed");
  print("writes are refused\n");
}

void test_read_write(BlkDriver& blk) {
  run_all(blk, "polled, direct", {.indirect = false, .event_idx = false});
  run_all(blk, "polled, direct, event index", {.indirect = false});
  run_all(blk, "polled, indirect", {.event_idx = false});
  run_all(blk, "polled, indirect, event index", {});
  run_all(blk, "MSI-X, direct",
          {.completion = Completion::Msix, .indirect = false, .event_idx = false});
  run_all(blk, "MSI-X, indirect, event index", {.completion = Completion::Msix});
  run_all(blk, "INTx, direct",
          {.completion = Completion::Intx, .indirect = false, .event_idx = false});
  run_all(blk, "INTx, indirect, event index", {.completion = Completion::Intx});
  blk.start({});
  test_flush(blk);
  test_discard(blk);
  test_write_zeroes(blk);
  test_config_wce(blk);
}

// More requests than a 16-bit ring index counts.
void test_wrap_around(BlkDriver& blk, uint64_t requests) {
  blk.start({.queue_size = 64});
  read_in_batches(blk, 0, 64, (requests + 63) / 64);
  print("{} requests: ok\n", requests);
}

}  // namespace

void guest_main() {
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType),
                static_cast<uint32_t>(option_number("index", 0)));
  expect(function.has_value(), "no such virtio-blk device");
  BlkDriver blk(*function, option_number("packed", 0) != 0);
  blk.start({});
  const bool read_only = blk.features().has(Feature::BlkReadOnly);
  print("capacity: {} sectors{}\n", blk.capacity_sectors(), read_only ? ", read-only" : "");
  print("indirect descriptors: {}, event index: {}\n",
        blk.offered().has(Feature::IndirectDescriptors) ? "yes" : "no",
        blk.offered().has(Feature::EventIndex) ? "yes" : "no");
  expect(blk.capacity_sectors() >= kTestSectors, "the disk has less than 4 MiB");
  print_serial(blk);
  print("first 64 KiB: crc32 {}\n", hex(disk_crc(blk, 128), 8));
  read_only ? test_read_only(blk) : test_read_write(blk);
  test_queue_sizes(blk);
  test_queues(blk, static_cast<uint16_t>(option_number("queues", 1)));
  test_wrap_around(blk, option_number("requests", 66000));
  print("first 4 MiB: crc32 {}\n", hex(disk_crc(blk, kTestSectors), 8));
}

}  // namespace guest
