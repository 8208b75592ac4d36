// Tests of the I/O loop on a real io_uring: full rings, the file table, restrictions, the end.
#include <algorithm>
#include <array>
#include <cerrno>
#include <latch>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/kvm/uring_loop_helpers.h"

namespace ringlet {
namespace {

/// Tests that run on what this kernel offers run as on an old one too.
UringOptions each_kind() {
  return GENERATE(UringOptions{}, without_features());
}

TEST_CASE("more requests than the ring holds all complete") {
  UringOptions options = each_kind();
  options.sq_entries = 4;
  options.cq_entries = 8;
  UringLoop loop(options);
  const Fd fd = temporary_file(512);
  const IoFile file = loop.add_file(fd.get());
  std::array<char, 512> data{};
  const iovec part = part_of(data);
  std::vector<Awaited> done(500);
  std::vector<Awaited> timeouts(100);
  // Before the loop runs nothing can be submitted: these wait on our side.
  for (size_t i = 0; i < 100; ++i) loop.readv(file, {&part, 1}, 0, done[i]);
  for (size_t i = 0; i < 100; ++i) loop.timeout(1'000'000 + i, timeouts[i]);
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] {
    for (size_t i = 100; i < 500; ++i) loop.readv(file, {&part, 1}, 0, done[i]);
  });
  CHECK(std::ranges::all_of(done, [](Awaited& each) { return each.wait()[0] == 512; }));
  CHECK(std::ranges::all_of(timeouts, [](Awaited& each) { return each.wait()[0] == -ETIME; }));
}

TEST_CASE("polls outlive an overflow of the completion queue") {
  UringLoop loop({.sq_entries = 4, .cq_entries = 4});
  constexpr size_t kEvents = 40;
  std::array<EventFd, kEvents> events;
  std::array<Awaited, kEvents> polls;
  for (size_t i = 0; i < kEvents; ++i) loop.poll(loop.add_file(events[i].fd()), polls[i]);
  const IoThread thread(loop, "test-loop");
  next_turn(loop);
  on_loop(loop, [&] {
    for (const EventFd& event : events) event.signal();
  });
  CHECK(std::ranges::all_of(polls, [](Awaited& each) { return !each.wait(1).empty(); }));
  // The kernel gave some polls up. That they were armed anew shows once more events come.
  on_loop(loop, [&] {
    for (const EventFd& event : events) event.drain();
  });
  next_turn(loop);
  std::array<size_t, kEvents> before{};
  on_loop(loop, [&] {
    for (size_t i = 0; i < kEvents; ++i) before[i] = polls[i].wait(0).size();
    for (const EventFd& event : events) event.signal();
  });
  size_t woken = 0;
  for (size_t i = 0; i < kEvents; ++i) woken += polls[i].wait(before[i] + 1).size() > before[i];
  CHECK(woken == kEvents);
  CHECK(std::ranges::none_of(polls, [](Awaited& each) { return each.finished(); }));
}

TEST_CASE("a batch of requests costs one system call") {
  struct Done final : Completion {
    void completed(int32_t, bool) noexcept override {
      enters = loop->enters();
      left->count_down();
    }
    UringLoop* loop = nullptr;
    std::latch* left = nullptr;
    uint64_t enters = 0;
  };
  UringLoop loop;
  const EventFd readable;
  readable.signal();
  const IoFile file = loop.add_file(readable.fd());
  std::latch left(200);
  std::vector<Done> done(200);
  uint64_t before = 0;
  {
    const IoThread thread(loop, "test-loop");
    on_loop(loop, [&] {
      before = loop.enters();
      for (Done& each : done) {
        each.loop = &loop;
        each.left = &left;
        loop.poll_once(file, each);  // readable already: completes as it is submitted
      }
    });
    left.wait();
  }
  CHECK(done.front().enters == before + 1);
  CHECK(done.back().enters == before + 1);
}

TEST_CASE("ending the thread cancels what is under way and refuses what comes then") {
  struct Again final : Completion {
    void completed(int32_t result, bool) noexcept override {
      results.push_back(result);
      if (results.size() < 3) loop->poll_once(file, *this);
    }
    UringLoop* loop = nullptr;
    IoFile file;
    std::vector<int32_t> results;
  };
  UringLoop loop(each_kind());
  const Pipe pipe;
  const EventFd event;
  const IoFile pipe_file = loop.add_file(pipe.read.get());
  const IoFile event_file = loop.add_file(event.fd());
  std::array<char, 4> data{};
  const iovec part = part_of(data);
  Awaited read;
  Awaited poll;
  Awaited timeout;
  Again again;
  again.loop = &loop;
  again.file = pipe_file;
  {
    const IoThread thread(loop, "test-loop");
    on_loop(loop, [&] {
      loop.readv(pipe_file, {&part, 1}, UINT64_MAX, read);
      loop.poll(event_file, poll);
      loop.timeout(kHourNs, timeout);
      loop.poll_once(pipe_file, again);
    });
  }
  CHECK(read.wait() == std::vector<int32_t>{-ECANCELED});
  CHECK(poll.wait() == std::vector<int32_t>{-ECANCELED});
  CHECK(timeout.wait() == std::vector<int32_t>{-ECANCELED});
  CHECK(again.results == std::vector<int32_t>{-ECANCELED, -ECANCELED, -ECANCELED});
}

TEST_CASE("a loop may be stopped before it runs, or never run") {
  UringLoop never;
  UringLoop loop;
  Awaited timeout;
  loop.timeout(kHourNs, timeout);
  loop.stop();
  { const IoThread thread(loop, "test-loop"); }
  CHECK(timeout.wait() == std::vector<int32_t>{-ECANCELED});
}

TEST_CASE("the file table has an end, and slots are used again") {
  UringLoop loop({.files = 3});
  const EventFd event;
  CHECK(loop.add_file(event.fd()));  // the loop has one itself
  const IoFile last = loop.add_file(event.fd());
  CHECK_FALSE(loop.add_file(event.fd()));
  const IoThread thread(loop, "test-loop");
  IoFile again;
  on_loop(loop, [&] {
    loop.remove_file(last);
    again = loop.add_file(event.fd());
  });
  CHECK(again == last);
}

TEST_CASE("a request goes to its file although the file leaves the table in the same batch") {
  UringLoop loop;
  const Fd first = temporary_file(0);
  const Fd second = temporary_file(0);
  const IoFile file = loop.add_file(first.get());
  std::string text = "first";
  const iovec part = part_of(text);
  Awaited wrote;
  IoFile other;
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] {
    loop.writev(file, {&part, 1}, 0, false, wrote);
    loop.remove_file(file);
    other = loop.add_file(second.get());
  });
  CHECK(wrote.wait() == std::vector<int32_t>{5});
  CHECK(other == file);
  CHECK(::lseek(first.get(), 0, SEEK_END) == 5);
  CHECK(::lseek(second.get(), 0, SEEK_END) == 0);
}

TEST_CASE("the ring refuses operations that the loop never makes, and files outside the table") {
  UringRing ring({});
  REQUIRE(ring.features().fixed_only);
  const Fd fd = temporary_file(8);
  std::array<char, 8> data{};
  ring.enable();
  io_uring_sqe* sqe = io_uring_get_sqe(&ring.ring());
  io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
  sqe->flags |= IOSQE_FIXED_FILE;
  sqe = io_uring_get_sqe(&ring.ring());
  io_uring_prep_read(sqe, fd.get(), data.data(), data.size(), 0);
  io_uring_submit_and_wait(&ring.ring(), 2);
  std::array<io_uring_cqe*, 2> cqes{};
  REQUIRE(io_uring_peek_batch_cqe(&ring.ring(), cqes.data(), 2) == 2);
  CHECK(cqes[0]->res == -EACCES);
  CHECK(cqes[1]->res == -EACCES);
  CHECK(io_uring_register_eventfd(&ring.ring(), fd.get()) == -EACCES);
}

TEST_CASE("the loop's thread has the name it was given") {
  UringLoop loop;
  const IoThread thread(loop, "io-7");
  std::array<char, 16> name{};
  // The maker names the thread after it began: the loop may be quicker.
  next_turn(loop);
  on_loop(loop, [&] { pthread_getname_np(pthread_self(), name.data(), name.size()); });
  CHECK(std::string(name.data()) == "io-7");
}

}  // namespace
}  // namespace ringlet
