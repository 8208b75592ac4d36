// Tests of memory that is registered with a ring.
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/uring_buffers.h"
#include "tests/kvm/may_pin.h"
#include "tests/kvm/uring_loop_helpers.h"

namespace ringlet {
namespace {

constexpr size_t kBuffer = 8192;

/// Two areas of two buffers and a half, with a gap of a page between them.
class Areas {
 public:
  static constexpr size_t kSize = 5 * kBuffer / 2;
  Areas() : bytes_(2 * kSize + kPageBytes) {
    void* const mapped =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw_errno("mmap");
    start_ = static_cast<std::byte*>(mapped);
  }
  Areas(const Areas&) = delete;
  Areas& operator=(const Areas&) = delete;
  ~Areas() { ::munmap(start_, bytes_); }

  std::span<std::byte> first() const { return {start_, kSize}; }
  std::span<std::byte> second() const { return {start_ + kSize + kPageBytes, kSize}; }
  std::array<std::span<std::byte>, 2> both() const { return {first(), second()}; }
  iovec part(std::span<std::byte> area, size_t at, size_t size) const {
    return {.iov_base = area.data() + at, .iov_len = size};
  }
  /// Whether the process itself, and so the kernel on its behalf, may touch the memory.
  void allow_access(bool allowed) const {
    check(::mprotect(start_, bytes_, allowed ? PROT_READ | PROT_WRITE : PROT_NONE), "mprotect");
  }

 private:
  static constexpr size_t kPageBytes = 4096;
  size_t bytes_;
  std::byte* start_;
};

TEST_CASE("a transfer belongs to the buffer that holds all of it") {
  const Areas areas;
  const UringBuffers buffers(areas.both(), kBuffer);
  CHECK(buffers.table().size() == 6);
  CHECK(buffers.table()[2].iov_len == kBuffer / 2);
  const auto holding = [&](std::span<std::byte> area, size_t at, size_t size) {
    return buffers.holding(areas.part(area, at, size));
  };
  CHECK(holding(areas.first(), 0, kBuffer) == 0);
  CHECK(holding(areas.first(), 2 * kBuffer - 1, 1) == 1);
  CHECK(holding(areas.second(), 2 * kBuffer, kBuffer / 2) == 5);
  // Across the end of a buffer, of an area, and outside of all.
  CHECK(!holding(areas.first(), 1, kBuffer));
  CHECK(!holding(areas.second(), 2 * kBuffer, kBuffer / 2 + 1));
  CHECK(!holding(areas.first(), Areas::kSize, 1));
  CHECK(!buffers.holding({.iov_base = areas.first().data() - 1, .iov_len = 1}));
  CHECK(!UringBuffers().holding(areas.part(areas.first(), 0, 1)));
}

TEST_CASE("registered memory is reached by its pages, whatever the process maps there by then") {
  if (!may_pin(4 * Areas::kSize)) {
    WARN("SKIPPED: no memory was registered, the limit of locked memory is too low");
    return;
  }
  const UringOptions options = GENERATE(UringOptions{}, without_features());
  const bool by_another_loop = GENERATE(false, true);
  const Areas areas;
  UringLoop first(options);
  first.register_memory(areas.both(), kBuffer);
  UringLoop second(options);
  if (by_another_loop && !second.share_memory_of(first)) {
    second.register_memory(areas.both(), kBuffer);
  }
  UringLoop& loop = by_another_loop ? second : first;
  const Fd fd = temporary_file(8192);
  check(::pwrite(fd.get(), "registered", 10, 100), "pwrite");
  const IoFile file = loop.add_file(fd.get());
  const iovec within = areas.part(areas.second(), kBuffer - 10, 10);
  const iovec across = areas.part(areas.second(), kBuffer - 9, 10);
  const std::array<iovec, 2> pieces{areas.part(areas.first(), 0, 5),
                                    areas.part(areas.first(), 100, 5)};
  Awaited read;
  Awaited written;
  Awaited fault;
  Awaited read_across;
  Awaited read_pieces;
  areas.allow_access(false);
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] { loop.readv(file, {&within, 1}, 100, read); });
  CHECK(read.wait() == std::vector<int32_t>{10});
  on_loop(loop, [&] { loop.writev(file, {&within, 1}, 4096, true, written); });
  CHECK(written.wait() == std::vector<int32_t>{10});
  // Of two buffers: done the ordinary way, which needs the mapping.
  on_loop(loop, [&] { loop.readv(file, {&across, 1}, 100, fault); });
  CHECK(fault.wait() == std::vector<int32_t>{-EFAULT});
  areas.allow_access(true);
  on_loop(loop, [&] { loop.readv(file, {&across, 1}, 100, read_across); });
  CHECK(read_across.wait() == std::vector<int32_t>{10});
  on_loop(loop, [&] { loop.readv(file, pieces, 100, read_pieces); });
  CHECK(read_pieces.wait() == std::vector<int32_t>{10});

  const auto text = [](std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  std::string in_file(10, '\0');
  check(::pread(fd.get(), in_file.data(), in_file.size(), 4096), "pread");
  CHECK(in_file == "registered");
  CHECK(text(areas.second().subspan(kBuffer - 10, 1)) == "r");  // the rest was read over
  CHECK(text(areas.second().subspan(kBuffer - 9, 10)) == "registered");
  CHECK(text(areas.first().first(5)) == "regis");
  CHECK(text(areas.first().subspan(100, 5)) == "tered");
}

}  // namespace
}  // namespace ringlet
