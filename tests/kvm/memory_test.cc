// Tests of guest memory: bounds, copies, ring indices, dirty pages, backings.
#include "kvm/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>
#include <unistd.h>

namespace ringlet {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kHigh = 4096 * kMiB;
constexpr uint64_t kTop = std::numeric_limits<uint64_t>::max();

/// 1 MiB at 0 and 2 MiB at 4 GiB.
constexpr std::array kRanges{AddrRange{0, kMiB}, AddrRange{kHigh, 2 * kMiB}};

GuestMemory two_regions(const MemoryBacking& backing = {}) {
  return GuestMemory(kRanges, backing);
}

TEST_CASE("regions are where they were asked for, zero, and guarded by sizes") {
  const GuestMemory memory = two_regions();
  REQUIRE(memory.regions().size() == 2);
  CHECK(memory.regions()[1].base == GuestAddr(kHigh));
  CHECK(memory.size() == 3 * kMiB);
  CHECK(memory.end() == kHigh + 2 * kMiB);
  CHECK(memory.read<uint64_t>(GuestAddr(kHigh)) == 0U);
}

TEST_CASE("what is written reads back, at any alignment, in either region") {
  const GuestMemory memory = two_regions();
  CHECK(memory.write_value(GuestAddr(0xfff), uint32_t{0x89abcdef}));
  CHECK(memory.read<uint32_t>(GuestAddr(0xfff)) == 0x89abcdef);
  CHECK(memory.read<uint8_t>(GuestAddr(0x1000)) == 0xcd);
  CHECK(memory.write_value(GuestAddr(kHigh + 2 * kMiB - 4), uint32_t{7}));
  CHECK(memory.read<uint32_t>(GuestAddr(kHigh + 2 * kMiB - 4)) == 7U);
}

TEST_CASE("an access that is not wholly in one region is refused") {
  const GuestMemory memory = two_regions();
  CHECK_FALSE(memory.read<uint32_t>(GuestAddr(kMiB - 3)));
  CHECK_FALSE(memory.read<uint8_t>(GuestAddr(kMiB)));
  CHECK_FALSE(memory.read<uint8_t>(GuestAddr(kHigh - 1)));
  CHECK_FALSE(memory.read<uint32_t>(GuestAddr(kHigh - 2)));
  CHECK_FALSE(memory.read<uint32_t>(GuestAddr(kHigh + 2 * kMiB - 3)));
  CHECK_FALSE(memory.read<uint32_t>(GuestAddr(kTop)));
  CHECK_FALSE(memory.write_value(GuestAddr(kMiB - 3), uint32_t{0xffffffff}));
  CHECK(memory.read<uint8_t>(GuestAddr(kMiB - 3)) == 0);
}

TEST_CASE("lengths that would wrap are refused") {
  const GuestMemory memory = two_regions();
  CHECK_FALSE(memory.slice(GuestAddr(0x1000), kTop));
  CHECK_FALSE(memory.slice(GuestAddr(0x1000), kTop - 0xfff));
  CHECK_FALSE(memory.slice(GuestAddr(kHigh), kTop - kHigh + 1));
  CHECK_FALSE(memory.slice(GuestAddr(kTop), 1));
}

TEST_CASE("a slice may be a whole region, and an empty one must still begin in RAM") {
  const GuestMemory memory = two_regions();
  CHECK(memory.slice(GuestAddr(0), kMiB)->size() == kMiB);
  CHECK_FALSE(memory.slice(GuestAddr(0), kMiB + 1));
  CHECK(memory.slice(GuestAddr(0x10), 0)->empty());
  CHECK_FALSE(memory.slice(GuestAddr(kMiB), 0));
}

TEST_CASE("host pointers are told apart") {
  const GuestMemory memory = two_regions();
  const MemoryRegion& region = memory.regions()[0];
  const int other = 0;
  CHECK(memory.contains_host(region.bytes.data()));
  CHECK(memory.contains_host(&region.bytes.back()));
  CHECK_FALSE(memory.contains_host(region.bytes.data() + region.bytes.size()));
  CHECK_FALSE(memory.contains_host(&other));
}

/// The kernel's answer to a read of `at` on our behalf: no signal where it cannot be read.
bool is_readable(const std::byte* at) {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const bool readable = ::write(pipe[1], at, 1) == 1;
  ::close(pipe[0]);
  ::close(pipe[1]);
  return readable;
}

TEST_CASE("RAM lies between pages that cannot be touched") {
  const GuestMemory memory = two_regions();
  const std::span<std::byte> low = memory.regions()[0].bytes;
  const std::span<std::byte> high = memory.regions()[1].bytes;
  CHECK(is_readable(low.data()));
  CHECK_FALSE(is_readable(low.data() - 1));
  CHECK_FALSE(is_readable(low.data() + low.size()));
  CHECK_FALSE(is_readable(high.data() - 1));
  CHECK_FALSE(is_readable(high.data() + high.size()));
}

TEST_CASE("a view gives ring indices by offset") {
  const GuestMemory memory = two_regions();
  const auto view = memory.view(GuestAddr(0x2000), 0x100);
  REQUIRE(view);
  view->store_release(0x42, 0xbeef);
  CHECK(view->load_acquire(0x42) == 0xbeef);
  CHECK(view->load_relaxed(0x42) == 0xbeef);
  CHECK(view->read<uint16_t>(0x42) == 0xbeef);
  CHECK(memory.read<uint16_t>(GuestAddr(0x2042)) == 0xbeef);
  view->write<uint32_t>(0xfc, 0x01020304);
  CHECK(memory.read<uint8_t>(GuestAddr(0x20ff)) == 0x01);
  CHECK_FALSE(memory.view(GuestAddr(kMiB - 0x80), 0x100));
}

/// The signal that ended a process which did `act` and nothing else; 0 when it went well.
template <typename F>
int signal_of_process(F act) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGABRT, SIG_DFL);  // Catch has a handler of its own
    ::close(STDERR_FILENO);
    act();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("asserts fire in every build: an offset beyond a view is our mistake") {
  const GuestMemory memory = two_regions();
  const auto view = memory.view(GuestAddr(0x2000), 0x100);
  REQUIRE(view);
  CHECK(signal_of_process([&] { view->write<uint32_t>(0xfc, 1); }) == 0);
  CHECK(signal_of_process([&] { view->write<uint32_t>(0xfd, 1); }) == SIGABRT);
  CHECK(signal_of_process([&] { view->load_acquire(0x41); }) == SIGABRT);
}

TEST_CASE("pages that the host wrote are noted from track_dirty on, until taken") {
  GuestMemory memory = two_regions();
  CHECK(memory.write_value(GuestAddr(0x9000), uint8_t{1}));
  CHECK(memory.take_dirty(0).empty());
  memory.track_dirty();
  CHECK(memory.write_value(GuestAddr(0x3000), uint8_t{1}));
  CHECK(memory.write_value(GuestAddr(0x5fff), uint16_t{1}));
  CHECK(memory.write_value(GuestAddr(kHigh + 64 * 4096), uint8_t{1}));
  CHECK_FALSE(memory.write_value(GuestAddr(kMiB), uint8_t{1}));
  CHECK(memory.take_dirty(0) == std::vector<uint64_t>{0x68, 0, 0, 0});
  CHECK(memory.take_dirty(0) == std::vector<uint64_t>{0, 0, 0, 0});
  CHECK(memory.take_dirty(1) == std::vector<uint64_t>{0, 1, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("what came from slice() can be marked dirty, up to the region's last page") {
  GuestMemory memory = two_regions();
  memory.track_dirty();
  memory.mark_dirty(*memory.slice(GuestAddr(kMiB - 0x1001), 0x1001));
  memory.mark_dirty(*memory.slice(GuestAddr(0), 0));
  CHECK(memory.take_dirty(0) == std::vector<uint64_t>{0, 0, 0, 0xc000'0000'0000'0000});
}

TEST_CASE("a memfd is shared with whoever else maps it, region behind region") {
  const GuestMemory memory = two_regions({.kind = MemoryBacking::Kind::Memfd});
  REQUIRE(memory.memfd() >= 0);
  CHECK(memory.regions()[1].file_offset == kMiB);
  CHECK(memory.write_value(GuestAddr(kHigh + 8), uint32_t{0xfeed}));
  uint32_t value = 0;
  CHECK(::pread(memory.memfd(), &value, sizeof value, kMiB + 8) == sizeof value);
  CHECK(value == 0xfeed);
}

TEST_CASE("a private file is read through and never written") {
  const Fd file(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(::ftruncate(file.get(), 4 * kMiB) == 0);
  const uint32_t before = 0x1234;
  REQUIRE(::pwrite(file.get(), &before, sizeof before, 2 * kMiB + 16) == sizeof before);
  const GuestMemory memory = two_regions({.kind = MemoryBacking::Kind::PrivateFile,
                                          .huge_pages = false,
                                          .file = file.get(),
                                          .file_offset = kMiB});
  CHECK(memory.read<uint32_t>(GuestAddr(kHigh + 16)) == 0x1234U);
  CHECK(memory.write_value(GuestAddr(kHigh + 16), uint32_t{0x5678}));
  CHECK(memory.read<uint32_t>(GuestAddr(kHigh + 16)) == 0x5678U);
  uint32_t after = 0;
  CHECK(::pread(file.get(), &after, sizeof after, 2 * kMiB + 16) == sizeof after);
  CHECK(after == 0x1234);
}

}  // namespace
}  // namespace ringlet
