// One disk of the simulated machine, as the host has it: the device, its transport, its file.
#include "tests/sim/simulated_disk.h"

#include <cerrno>

#include "tests/sim/trace.h"
#include "virtio/blk_layout.h"

namespace ringlet {
namespace {

// Not real descriptors: the loop has simulated files in their places.
constexpr int kFirstFd = 1'000'000;
constexpr int kFdsPerDisk = 1000;

std::vector<std::byte> initial_contents(uint64_t sectors) {
  std::vector<std::byte> bytes(sectors * kSector);
  for (uint64_t sector = 0; sector < sectors; ++sector) {
    DiskModel::fill(std::span(bytes).subspan(sector * kSector, kSector), sector,
                    DiskModel::kInitialTag);
  }
  return bytes;
}

// Whether a device must get along with it without an error for the guest.
bool is_excused(const SimRecord& record) {
  if (record.fate == -EINTR || record.fate == -EAGAIN) return true;
  return record.op == SimOp::Allocate && (record.fate == -EOPNOTSUPP || record.fate == -EINVAL);
}

}  // namespace

BlkSettings SimulatedDisk::settings_of(const DiskPlan& plan, const std::string& serial) {
  return {.name = "disk",
          .queues = plan.queues,
          .queue_size = plan.queue_size,
          .readonly = plan.readonly,
          .discard = plan.discard,
          .writeback = plan.writeback,
          .serial = serial};
}

BlkBacking SimulatedDisk::backing_of(const DiskPlan& plan) const {
  BlkBacking backing{.fd = kFirstFd + number_ * kFdsPerDisk, .size = plan.sectors * kSector};
  if (plan.direct_alignment > 0) {
    backing.buffered_fd = backing.fd + 1;
    backing.memory_alignment = plan.direct_alignment;
    backing.offset_alignment = plan.direct_alignment;
  }
  return backing;
}

SimulatedDisk::SimulatedDisk(SimulatedBoard& board, const DiskPlan& plan, int number)
    : board_(board),
      plan_(plan),
      number_(number),
      serial_("serial-" + std::to_string(number)),
      file_(board.loop.add_bytes(initial_contents(plan.sectors))),
      buffered_(board.loop.add_same(file_)),
      blks_(make_blks()),
      meddlers_(make_meddlers()),
      interrupts_(board.loop, kFirstFd + number * kFdsPerDisk + 2),
      transport_(*meddlers_.front(),
                 {.interrupts = interrupts_,
                  .doorbells = board.doorbells,
                  .loop = board.loop,
                  .memory = board.memory,
                  .pin = IntxPin::A,
                  .intx_gsi = Gsi(10)},
                 other_parts()),
      bdf_(board.bridge.add(transport_)),
      model_(plan.sectors) {
  board.loop.stand_in(kFirstFd + number * kFdsPerDisk, file_);
  board.loop.stand_in(kFirstFd + number * kFdsPerDisk + 1, buffered_);
  interrupts_.msi_left = plan.msi_left;
}

std::vector<std::unique_ptr<Blk>> SimulatedDisk::make_blks() const {
  std::vector<std::unique_ptr<Blk>> blks;
  for (uint16_t i = 0; i < plan_.parts; ++i) {
    Blk* const first = blks.empty() ? nullptr : blks.front().get();
    blks.push_back(std::make_unique<Blk>(settings_of(plan_, serial_), backing_of(plan_), first));
  }
  return blks;
}

std::vector<std::unique_ptr<Meddler>> SimulatedDisk::make_meddlers() const {
  std::vector<std::unique_ptr<Meddler>> meddlers;
  for (const auto& blk : blks_) meddlers.push_back(std::make_unique<Meddler>(*blk));
  return meddlers;
}

/// All on the one loop: between two of its turns, and within them, they still come in any order.
std::vector<DevicePart> SimulatedDisk::other_parts() const {
  std::vector<DevicePart> parts;
  for (size_t i = 1; i < meddlers_.size(); ++i) {
    parts.push_back({.device = *meddlers_[i], .loop = board_.loop});
  }
  return parts;
}

void SimulatedDisk::set_meanwhile(const std::function<void()>& act) {
  for (const auto& meddler : meddlers_) meddler->meanwhile = act;
}

uint64_t SimulatedDisk::merged() const {
  uint64_t sum = 0;
  for (const auto& blk : blks_) sum += blk->counters().merged;
  return sum;
}

void SimulatedDisk::take_over(SimulatedDisk& other) {
  contents().bytes = std::move(other.contents().bytes);
  contents().stable = std::move(other.contents().stable);
  contents().unstable = std::move(other.contents().unstable);
  for (SimFile::Unstable& range : contents().unstable) range.sequence = 0;  // before all to come
  model_ = std::move(other.model_);
  host_failures_ = other.host_failures_;
  flush_failed_ = other.flush_failed_;
  interrupts_.msi_left = UINT32_MAX;
}

size_t SimulatedDisk::in_flight() const {
  return board_.loop.in_flight(file_) + board_.loop.in_flight(buffered_);
}

void SimulatedDisk::asked_for(const SimRecord& record) {
  if (record.fate < 0 && !is_excused(record)) ++host_failures_;
  if (record.op == SimOp::Flush) {
    flush_failed_ = flush_failed_ || (record.fate < 0 && !is_excused(record));
    return;
  }
  const uint64_t size = plan_.sectors * kSector;
  expect(record.offset <= size && record.length <= size - record.offset,
         "disk {}: an operation on {} bytes at {} of a file of {}", number_, record.length,
         record.offset, size);
  if (record.op != SimOp::Read)
    expect(!plan_.readonly, "disk {}: a read-only one is written", number_);
  if (record.op == SimOp::Allocate || record.file != file_ || plan_.direct_alignment == 0) return;
  expect(record.offset % plan_.direct_alignment == 0 && record.length % plan_.direct_alignment == 0,
         "disk {}: {} bytes at {} are not aligned for direct I/O", number_, record.length,
         record.offset);
}

void SimulatedDisk::check_file() const {
  const SimFile& file = contents();
  expect(file.bytes.size() == plan_.sectors * kSector, "disk {}: its file has {} bytes", number_,
         file.bytes.size());
  for (uint64_t sector = 0; sector < plan_.sectors; ++sector) {
    expect(model_.check_file(sector, std::span(file.bytes).subspan(sector * kSector, kSector)),
           "disk {}: sector {} holds what was never written there, or was overwritten", number_,
           sector);
  }
}

void SimulatedDisk::check_stable(uint64_t first, uint64_t sectors) const {
  const SimFile& file = contents();
  for (uint64_t sector = first; sector < first + sectors; ++sector) {
    expect(model_.check_stable(sector, std::span(file.stable).subspan(sector * kSector, kSector)),
           "disk {}: a power cut now would lose an acknowledged and flushed write to sector {}",
           number_, sector);
  }
}

}  // namespace ringlet
