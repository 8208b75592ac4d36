// Tests of what the simulation lets a disk hold.
#include "tests/sim/disk_model.h"

#include <algorithm>
#include <array>

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

using SectorBytes = std::array<std::byte, DiskModel::kSectorBytes>;

SectorBytes with_tag(uint64_t sector, DiskModel::Tag tag) {
  SectorBytes bytes;
  DiskModel::fill(bytes, sector, tag);
  return bytes;
}

TEST_CASE("before a write is acknowledged old and new are right, afterwards only the new") {
  DiskModel model(4);
  const size_t write = model.begin_write({.sector = 1, .sectors = 1, .tag = 7}, 10);
  CHECK(model.check_file(1, with_tag(1, DiskModel::kInitialTag)));
  CHECK(model.check_file(1, with_tag(1, 7)));
  CHECK_FALSE(model.check_file(1, with_tag(1, 8)));
  CHECK_FALSE(model.check_file(1, with_tag(2, 7)));
  model.end_write(write, true, false, 11);
  CHECK_FALSE(model.check_file(1, with_tag(1, DiskModel::kInitialTag)));
  CHECK(model.check_file(1, with_tag(1, 7)));
}

TEST_CASE("a write that failed may be there or not, or half of it") {
  DiskModel model(1);
  model.end_write(model.begin_write({.sector = 0, .sectors = 1, .tag = 7}, 10), false, false, 11);
  SectorBytes half = with_tag(0, 7);
  const SectorBytes old = with_tag(0, DiskModel::kInitialTag);
  std::ranges::copy_n(old.begin(), 100, half.begin());
  CHECK(model.check_file(0, half));
  half[100] ^= std::byte{1};
  CHECK_FALSE(model.check_file(0, half));
}

TEST_CASE("of two writes at the same time either may win, but none from before them") {
  DiskModel model(1);
  const size_t first = model.begin_write({.sector = 0, .sectors = 1, .tag = 7}, 10);
  const size_t second = model.begin_write({.sector = 0, .sectors = 1, .tag = 8}, 11);
  model.end_write(first, true, false, 12);
  model.end_write(second, true, false, 13);
  CHECK(model.check_file(0, with_tag(0, 7)));
  CHECK(model.check_file(0, with_tag(0, 8)));
  CHECK_FALSE(model.check_file(0, with_tag(0, DiskModel::kInitialTag)));
}

TEST_CASE("a read that began before a write was acknowledged may miss it, a later one not") {
  DiskModel model(1);
  model.end_write(model.begin_write({.sector = 0, .sectors = 1, .tag = 7}, 10), true, false, 20);
  CHECK(model.check_read(0, with_tag(0, DiskModel::kInitialTag), 15, 30));
  CHECK_FALSE(model.check_read(0, with_tag(0, DiskModel::kInitialTag), 21, 30));
}

TEST_CASE("what was read once does not vanish again") {
  DiskModel model(1);
  model.begin_write({.sector = 0, .sectors = 1, .tag = 7}, 10);
  CHECK(model.check_read(0, with_tag(0, 7), 12, 15));
  CHECK_FALSE(model.check_read(0, with_tag(0, DiskModel::kInitialTag), 16, 20));
}

TEST_CASE("a flush covers what was acknowledged before it was asked for") {
  DiskModel model(2);
  model.end_write(model.begin_write({.sector = 0, .sectors = 1, .tag = 7}, 10), true, false, 11);
  model.end_write(model.begin_write({.sector = 1, .sectors = 1, .tag = 8}, 12), true, false, 14);
  CHECK(model.check_stable(0, with_tag(0, DiskModel::kInitialTag)));
  model.flushed(13);
  CHECK_FALSE(model.check_stable(0, with_tag(0, DiskModel::kInitialTag)));
  CHECK(model.check_stable(0, with_tag(0, 7)));
  CHECK(model.check_stable(1, with_tag(1, DiskModel::kInitialTag)));
  model.flushed(15);
  CHECK_FALSE(model.check_stable(1, with_tag(1, DiskModel::kInitialTag)));
}

TEST_CASE("a discard leaves what was there or zeroes, even when it succeeded") {
  DiskModel model(1);
  const DiskModel::Range range{.sector = 0, .sectors = 1, .tag = 0, .certain = false};
  model.end_write(model.begin_write(range, 10), true, false, 11);
  CHECK(model.check_file(0, SectorBytes{}));
  CHECK(model.check_file(0, with_tag(0, DiskModel::kInitialTag)));
  CHECK_FALSE(model.check_file(0, with_tag(0, 7)));
}

}  // namespace
}  // namespace ringlet
