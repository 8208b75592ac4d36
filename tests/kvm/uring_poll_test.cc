// Tests of how the I/O loop waits: pollers, and the looks around before it sleeps.
#include <algorithm>
#include <array>
#include <latch>

#include <catch2/catch.hpp>

#include "tests/kvm/uring_loop_helpers.h"

namespace ringlet {
namespace {

constexpr uint64_t kLongNs = 2'000'000'000;

/// A queue that gets its first chain in the moment before the loop sleeps.
class LateWork final : public Poller {
 public:
  bool poll() noexcept override {
    if (!work_) return false;
    work_ = false;
    taken.count_down();
    return true;
  }
  bool arm() noexcept override {
    if (arms_++ > 0) armed.count_down();
    work_ = arms_ == 1;
    return !work_;
  }
  std::latch taken{1};
  std::latch armed{1};

 private:
  unsigned arms_ = 0;
  bool work_ = false;
};

TEST_CASE("work that comes as the loop goes to sleep is taken, and armed for again") {
  UringLoop loop({.poll_ns = GENERATE(uint64_t{0}, uint64_t{50'000})});
  LateWork work;
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] { loop.watch(work); });
  work.taken.wait();
  work.armed.wait();
}

TEST_CASE("a poller that was armed is left alone until it is watched again") {
  struct Counter final : Poller {
    bool poll() noexcept override { return ++polls, false; }
    bool arm() noexcept override { return ++arms, true; }
    unsigned polls = 0;
    unsigned arms = 0;
  };
  UringLoop loop({.poll_ns = GENERATE(uint64_t{0}, uint64_t{50'000})});
  Counter counter;
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] { loop.watch(counter); });
  unsigned polls = 0;
  unsigned arms = 0;
  // Between two visits the loop has slept, or else the poller is watched still.
  while (arms == 0) on_loop(loop, [&] { arms = counter.arms; });
  on_loop(loop, [&] { polls = counter.polls; });
  for (int i = 0; i < 20; ++i) next_turn(loop);
  CHECK(counter.arms == 1);
  CHECK(counter.polls == polls);
}

/// Two eventfds that wake the loop by turns, as a driver and a disk do that wait for each other.
class Ball final : public Completion {
 public:
  Ball(UringLoop& loop, unsigned throws) : loop_(loop), left_(throws) {
    file_ = loop.add_file(event_.fd());
  }
  void start() {
    loop_.poll(file_, *this);
    event_.signal();
  }
  void completed(int32_t result, bool) noexcept override {
    if (result < 0 || left_ == 0) return;
    if (--left_ == 0) return done.count_down();
    loop_.signal(file_);
  }
  std::latch done{1};

 private:
  UringLoop& loop_;
  EventFd event_;
  IoFile file_;
  unsigned left_;
};

TEST_CASE("a loop that looks around ends as one that sleeps does, and wakes when told") {
  UringLoop loop({.poll_ns = kLongNs});
  LateWork work;
  Ball ball(loop, 1000);
  {
    const IoThread thread(loop, "test-loop");
    on_loop(loop, [&] {
      loop.watch(work);
      ball.start();
    });
    ball.done.wait();
    // The window is wide open now; a post ends the look around, and so does the end.
    on_loop(loop, [] {});
  }
  SUCCEED();
}

// With that many under way the loop sleeps for several after a while.
TEST_CASE("completions that come one by one all come, however many are under way") {
  constexpr size_t kReads = 160;
  UringOptions options;
  options.allow.min_wait = GENERATE(true, false);
  UringLoop loop(options);
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const Fd from(ends[0]);
  const Fd to(ends[1]);
  std::array<std::byte, kReads> bytes{};
  std::array<iovec, kReads> parts{};
  Awaited read;
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] {
    const IoFile file = loop.add_file(from.get());
    for (size_t i = 0; i < kReads; ++i) {
      parts[i] = {.iov_base = &bytes[i], .iov_len = 1};
      loop.readv(file, {&parts[i], 1}, 0, read);
    }
  });
  const bool to_the_end = GENERATE(true, false);
  for (size_t i = 0; i < (to_the_end ? kReads : kReads / 2); ++i) {
    REQUIRE(::write(to.get(), "x", 1) == 1);
    REQUIRE(read.wait(i + 1).size() >= i + 1);
    on_loop(loop, [] {});  // a post is heard as well
  }
  // Several at once, or the end with many under way.
  if (to_the_end) {
    CHECK(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{'x'}; }));
  } else {
    REQUIRE(::write(to.get(), "0123456789abcdef", 16) == 16);
    CHECK(read.wait(kReads / 2 + 16).size() == kReads / 2 + 16);
  }
}

}  // namespace
}  // namespace ringlet
