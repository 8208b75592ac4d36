// What a disk may hold: for each sector the contents that no acknowledgement has ruled out yet.
#include "tests/sim/disk_model.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace ringlet {
namespace {

using SectorBytes = std::array<std::byte, DiskModel::kSectorBytes>;

SectorBytes contents(uint64_t sector, DiskModel::Tag tag) {
  SectorBytes bytes;
  DiskModel::fill(bytes, sector, tag);
  return bytes;
}

bool same(std::span<const std::byte> bytes, const SectorBytes& expected) {
  return std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0;
}

}  // namespace

DiskModel::DiskModel(uint64_t sectors)
    : writes_{{.range = {.sector = 0, .sectors = sectors, .tag = kInitialTag},
               .begun = 0,
               .ended = 0,
               .succeeded = true,
               .durable = true}},
      history_(sectors, History{Version{}}) {}

void DiskModel::fill(std::span<std::byte> sector_bytes, uint64_t sector, Tag tag) {
  assert(sector_bytes.size() == kSectorBytes);
  uint64_t word = (tag * 0x9e3779b97f4a7c15) ^ (sector * 0xbf58476d1ce4e5b9);
  const uint64_t step = tag == 0 ? 0 : 0x94d049bb133111eb;
  if (tag == 0) word = 0;
  for (size_t at = 0; at < kSectorBytes; at += sizeof word, word += step) {
    std::memcpy(sector_bytes.data() + at, &word, sizeof word);
  }
}

size_t DiskModel::begin_write(const Range& range, Time now) {
  assert(range.sector <= sectors() && range.sectors <= sectors() - range.sector);
  writes_.push_back({.range = range, .begun = now});
  for (uint64_t i = 0; i < range.sectors; ++i) {
    history_[range.sector + i].push_back({.write = writes_.size() - 1});
  }
  return writes_.size() - 1;
}

// What had ended before `begun` was there before, and is not any more.
void DiskModel::overwrite(History& history, Time begun, Time now) {
  for (Version& version : history) {
    if (writes_[version.write].ended < begun) version.gone = std::min(version.gone, now);
  }
}

void DiskModel::end_write(size_t number, bool succeeded, bool durable, Time now) {
  Write& write = writes_[number];
  assert(write.ended == kNever);
  write.ended = now;
  write.succeeded = succeeded && write.range.certain;
  if (!write.succeeded) return;
  for (uint64_t i = 0; i < write.range.sectors; ++i) {
    overwrite(history_[write.range.sector + i], write.begun, now);
  }
  if (durable) make_durable(write);
}

void DiskModel::make_durable(Write& write) {
  write.durable = true;
  for (uint64_t i = 0; i < write.range.sectors; ++i) {
    for (Version& version : history_[write.range.sector + i]) {
      if (writes_[version.write].ended < write.begun) version.gone_stable = true;
    }
  }
}

void DiskModel::flushed(Time begun) {
  const auto settled = [](const Write& write) {
    return write.durable || (write.ended != kNever && !write.succeeded);
  };
  for (size_t i = first_volatile_; i < writes_.size(); ++i) {
    Write& write = writes_[i];
    if (!settled(write) && write.succeeded && write.ended < begun) make_durable(write);
  }
  while (first_volatile_ < writes_.size() && settled(writes_[first_volatile_])) ++first_volatile_;
}

template <typename Possible>
bool DiskModel::matches(uint64_t sector, std::span<const std::byte> bytes, const History& history,
                        Possible&& possible) const {
  // Writes at the same time, or ended half-way, may leave a sector of several: each byte is then
  // one of theirs.
  std::array<bool, kSectorBytes> found{};
  for (const Version& version : history) {
    if (!possible(version)) continue;
    const SectorBytes expected = contents(sector, writes_[version.write].range.tag);
    if (same(bytes, expected)) return true;
    for (size_t i = 0; i < bytes.size(); ++i) found[i] = found[i] || bytes[i] == expected[i];
  }
  return std::all_of(found.begin(), found.begin() + static_cast<ptrdiff_t>(bytes.size()),
                     [](bool byte) { return byte; });
}

bool DiskModel::check_read(uint64_t sector, std::span<const std::byte> bytes, Time begun,
                           Time now) {
  History& history = history_[sector];
  if (bytes.size() == kSectorBytes) {
    for (auto version = history.rbegin(); version != history.rend(); ++version) {
      if (version->gone <= begun) continue;
      const Write& write = writes_[version->write];
      if (!same(bytes, contents(sector, write.range.tag))) continue;
      // Several writes of zeroes cannot be told apart; the oldest rules out the least.
      const auto ambiguous = [&](const Version& other) {
        return other.write != version->write && writes_[other.write].range.tag == write.range.tag;
      };
      if (std::ranges::none_of(history, ambiguous)) overwrite(history, write.begun, now);
      return true;
    }
  }
  return matches(sector, bytes, history,
                 [begun](const Version& version) { return version.gone > begun; });
}

bool DiskModel::check_file(uint64_t sector, std::span<const std::byte> bytes) const {
  return matches(sector, bytes, history_[sector],
                 [](const Version& version) { return version.gone == kNever; });
}

bool DiskModel::check_stable(uint64_t sector, std::span<const std::byte> bytes) const {
  return matches(sector, bytes, history_[sector],
                 [](const Version& version) { return !version.gone_stable; });
}

}  // namespace ringlet
