// Guest: writes generations of records to a virtio-blk disk for ever, and prints each one's number
// once a FLUSH has followed it. Whoever kills the machine finds all that was printed on the disk.
//   first=N   the number of the first generation (1)
// A generation is kRecords records of 4 KiB at the start of the disk; each consists of copies of
// the generation's number (64-bit, little-endian).
#include "lib/guest.h"
#include "lib/virtio.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr size_t kRecords = 16;
constexpr size_t kRecordBytes = 4096;
constexpr size_t kWords = kRecordBytes / sizeof(uint64_t);

alignas(4096) uint64_t records[kRecords][kWords];
BlkHeader headers[kRecords];
uint8_t statuses[kRecords];  // read after wait(), which is a barrier

void write_generation(BlkDriver& disk, uint64_t generation) {
  for (size_t i = 0; i < kRecords; ++i) {
    for (uint64_t& word : records[i]) {
      word = generation;
    }
    headers[i] = {BlkType::Out, 0, i * (kRecordBytes / kSectorBytes)};
    statuses[i] = static_cast<uint8_t>(BlkStatus::NotWritten);
    const Segment segments[] = {{address_of(&headers[i]), sizeof(BlkHeader), false},
                                {address_of(&records[i]), kRecordBytes, false},
                                {address_of(&statuses[i]), 1, true}};
    disk.submit(0, segments);
    disk.kick(0);  // one by one: of a batch the host may well make a single write
  }
  for (size_t i = 0; i < kRecords; ++i) {
    disk.wait(0);
  }
  for (const uint8_t status : statuses) {
    expect(status == static_cast<uint8_t>(BlkStatus::Ok), "write: status {}", status);
  }
}

}  // namespace

void guest_main() {
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType), 0);
  expect(function.has_value(), "there is no virtio-blk device");
  BlkDriver disk(*function);
  disk.start({});
  for (uint64_t generation = option_number("first", 1);; ++generation) {
    write_generation(disk, generation);
    expect(disk.flush() == BlkStatus::Ok, "the flush fails");
    print("{}\n", generation);
  }
}

}  // namespace guest
