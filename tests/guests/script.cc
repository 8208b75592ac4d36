// Guest: makes the requests of a script on a virtio-blk disk and prints what each is answered, for
// disks that fail under it.
//   do=WORD,WORD,...
//   wN, rN   write or read page N: every byte of it is 'A' + N % 26
//   f        flush
//   ...!     again and again until it fails
//   ...+     again and again until it succeeds
// Prints "WORD: STATUS" for each, with the first byte behind what was read.
#include "lib/guest.h"
#include "lib/virtio.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr size_t kPageBytes = 4096;

alignas(kPageBytes) uint8_t page[kPageBytes];

struct Step {
  char what = 0;
  uint64_t number = 0;
  char until = 0;
};

Step parse(Text word) {
  Step step{.what = word.data[0]};
  for (size_t i = 1; i < word.size; ++i) {
    const char c = word.data[i];
    if (c >= '0' && c <= '9') {
      step.number = step.number * 10 + static_cast<uint64_t>(c - '0');
    } else {
      step.until = c;
    }
  }
  return step;
}

BlkStatus request(BlkDriver& disk, const Step& step) {
  const uint64_t sector = step.number * (kPageBytes / kSectorBytes);
  switch (step.what) {
    case 'w':
      memset(page, static_cast<int>('A' + step.number % 26), kPageBytes);
      return disk.write(sector, {page, kPageBytes});
    case 'r': memset(page, '?', kPageBytes); return disk.read(sector, {page, kPageBytes});
    case 'f': return disk.flush();
    default: fail("no such step: {}", step.what);
  }
}

void run(BlkDriver& disk, Text word) {
  const Step step = parse(word);
  BlkStatus status = request(disk, step);
  while ((step.until == '!' && status == BlkStatus::Ok) ||
         (step.until == '+' && status != BlkStatus::Ok)) {
    status = request(disk, step);
  }
  print("{}: {}", word, static_cast<uint8_t>(status));
  if (step.what == 'r' && status == BlkStatus::Ok) {
    print(" {}", static_cast<char>(page[0]));
  }
  print("\n");
}

}  // namespace

void guest_main() {
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType), 0);
  expect(function.has_value(), "there is no virtio-blk device");
  BlkDriver disk(*function);
  disk.start({});
  Text words = option_text("do", "");
  while (words.size > 0) {
    size_t length = 0;
    while (length < words.size && words.data[length] != ',') {
      ++length;
    }
    run(disk, {words.data, length});
    words = words.drop(length < words.size ? length + 1 : length);
  }
}

}  // namespace guest
