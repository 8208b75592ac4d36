// Tests of what SIGKILL leaves: every write that was acknowledged before a FLUSH.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <signal.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

constexpr size_t kRecords = 16;
constexpr size_t kRecordBytes = 4096;

/// The generation of each record; none may be torn.
std::array<uint64_t, kRecords> generations(const std::string& disk) {
  std::array<uint64_t, kRecords> found{};
  for (size_t i = 0; i < kRecords; ++i) {
    std::array<uint64_t, kRecordBytes / sizeof(uint64_t)> record{};
    std::memcpy(record.data(), disk.data() + i * kRecordBytes, kRecordBytes);
    REQUIRE(std::ranges::count(record, record[0]) == std::ssize(record));
    found[i] = record[0];
  }
  return found;
}

/// The last number that was printed with the end of its line; `otherwise` when there is none.
uint64_t last_announced(const std::string& output, uint64_t otherwise) {
  const size_t end = output.rfind('\n');
  if (end == std::string::npos) return otherwise;
  const size_t before = output.rfind('\n', end - 1);
  return std::stoull(output.substr(before == std::string::npos ? 0 : before + 1));
}

/// What a killed machine had under way ends in the kernel in its own time; the lock goes with it.
void wait_until_free(Process& killed, const std::string& disk) {
  const Fd file(check(::open(disk.c_str(), O_RDWR | O_CLOEXEC), "open"));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  REQUIRE(
      killed.wait_without_reading([&] { return ::fcntl(file.get(), F_OFD_SETLK, &whole) == 0; }));
}

TEST_CASE("a thousand times killed while it writes: what was flushed is on the disk", "[long]") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kRecords * kRecordBytes);
  std::mt19937_64 random(1);
  unsigned amidst = 0;
  // Kills between two FLUSHes only would show nothing.
  constexpr unsigned kAmidst = 10;
  for (uint64_t round = 1; round <= 1000 || (amidst < kAmidst && round <= 10'000); ++round) {
    const uint64_t first = round * 1'000'000;
    Process process(guest("writer", "first=" + std::to_string(first), {"--disk", "path=" + disk}));
    // While it goes on writing, and is ahead of what we read by we know not how much.
    REQUIRE(process.wait_for_output(std::to_string(first + random() % 8) + "\n"));
    process.send_signal(SIGKILL);
    const Ended end = process.wait_for_end();
    REQUIRE(end.signal == SIGKILL);
    wait_until_free(process, disk);
    const uint64_t announced = last_announced(end.output, first);
    const auto found = generations(files.read("disk"));
    const auto [oldest, newest] = std::ranges::minmax(found);
    REQUIRE(oldest >= announced);
    // No write of a generation was begun before the FLUSH behind the one before it had ended.
    REQUIRE(newest - oldest <= 1);
    if (newest != oldest) ++amidst;
  }
  INFO(amidst << " kills left some records of a generation written and some not");
  CHECK(amidst >= kAmidst);
}

}  // namespace
}  // namespace ringlet
