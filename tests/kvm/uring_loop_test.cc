// Tests of the I/O loop on a real io_uring.
#include "kvm/uring_loop.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

constexpr uint64_t kHourNs = 3'600'000'000'000;

/// Keeps results for another thread to wait for.
class Awaited final : public Completion {
 public:
  void completed(int32_t result, bool more) noexcept override {
    const std::lock_guard lock(mutex_);
    results_.push_back(result);
    finished_ = !more;
    changed_.notify_all();
  }
  /// The first `count` results. Gives up after a time that no working loop needs.
  std::vector<int32_t> wait(size_t count = 1) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return results_.size() >= count; });
    return results_;
  }
  bool finished() {
    const std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> results_;
  bool finished_ = false;
};

/// Runs a function on the loop and waits until it has.
void on_loop(UringLoop& loop, std::function<void()> what) {
  struct Call final : Task {
    void run() noexcept override {
      what();
      done.count_down();
    }
    std::function<void()> what;
    std::latch done{1};
  } call;
  call.what = std::move(what);
  loop.post(call);
  call.done.wait();
}

/// A turn of the loop has ended after the current one: what it submitted, the kernel has seen.
void next_turn(UringLoop& loop) {
  on_loop(loop, [] {});
  on_loop(loop, [] {});
}

Fd temporary_file(size_t size) {
  Fd fd(check(::memfd_create("test", MFD_CLOEXEC), "memfd_create"));
  const std::string zeroes(size, '\0');
  check(::write(fd.get(), zeroes.data(), zeroes.size()), "write");
  return fd;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  Fd read;
  Fd write;
};

iovec part_of(std::span<char> data) {
  return {.iov_base = data.data(), .iov_len = data.size()};
}

UringOptions without_features() {
  const UringFeatures none{.single_issuer = false,
                           .coop_taskrun = false,
                           .submit_all = false,
                           .cqe_skip = false,
                           .sparse_files = false,
                           .cancel_any = false,
                           .restrictions = false,
                           .fixed_only = false,
                           .worker_limit = false};
  return {.allow = none};
}

/// Tests that run on what this kernel offers run as on an old one too.
UringOptions each_kind() {
  return GENERATE(UringOptions{}, without_features());
}

TEST_CASE("what is written through the loop is read back") {
  UringLoop loop(each_kind());
  const Fd fd = temporary_file(8192);
  const IoFile file = loop.add_file(fd.get());
  std::string out = "written by the loop";
  std::string in(out.size(), '\0');
  const std::array<iovec, 1> one{part_of(out)};
  const std::array<iovec, 2> two{part_of(std::span(in).first(5)),
                                 part_of(std::span(in).subspan(5))};
  Awaited wrote;
  Awaited flushed;
  Awaited read;
  loop.writev(file, one, 4096, true, wrote);  // before the loop runs: waits for it
  const IoThread thread(loop, "test-loop");
  CHECK(wrote.wait() == std::vector<int32_t>{19});
  on_loop(loop, [&] { loop.flush(file, flushed); });
  CHECK(flushed.wait() == std::vector<int32_t>{0});
  on_loop(loop, [&] { loop.readv(file, two, 4096, read); });
  CHECK(read.wait() == std::vector<int32_t>{19});
  CHECK(in == out);
}

TEST_CASE("the loop punches holes") {
  UringLoop loop;
  const Fd fd = temporary_file(4096);
  check(::pwrite(fd.get(), "abcdef", 6, 0), "pwrite");
  const IoFile file = loop.add_file(fd.get());
  Awaited done;
  loop.allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 2, done);
  const IoThread thread(loop, "test-loop");
  CHECK(done.wait() == std::vector<int32_t>{0});
  std::array<char, 6> after{};
  check(::pread(fd.get(), after.data(), after.size(), 0), "pread");
  CHECK(std::string(after.data(), after.size()) == std::string("ab\0\0ef", 6));
}

TEST_CASE("an error of an operation is its completion's result") {
  UringLoop loop(each_kind());
  const Pipe pipe;
  const IoFile write_end = loop.add_file(pipe.write.get());
  std::array<char, 4> data{};
  const iovec part = part_of(data);
  Awaited read;
  Awaited flush;
  loop.readv(write_end, {&part, 1}, UINT64_MAX, read);
  loop.flush(write_end, flush);
  const IoThread thread(loop, "test-loop");
  CHECK(read.wait() == std::vector<int32_t>{-EBADF});
  CHECK(flush.wait() == std::vector<int32_t>{-EINVAL});
}

TEST_CASE("each signal of an eventfd wakes its poll, though nobody reads the counter") {
  UringLoop loop(each_kind());
  const EventFd event;
  const IoFile file = loop.add_file(event.fd());
  Awaited poll;
  loop.poll(file, poll);
  const IoThread thread(loop, "test-loop");
  event.signal();
  CHECK(poll.wait(1).size() == 1);
  event.signal();
  CHECK(poll.wait(2).size() == 2);
  event.signal();
  CHECK(poll.wait(3) == std::vector<int32_t>{1, 1, 1});
  CHECK_FALSE(poll.finished());
  on_loop(loop, [&] { loop.cancel(poll); });
  CHECK(poll.wait(4) == std::vector<int32_t>{1, 1, 1, -ECANCELED});
  CHECK(poll.finished());
}

TEST_CASE("poll_once tells of input and of its end") {
  UringLoop loop;
  const Pipe with_input;
  Pipe ended;
  const IoFile first = loop.add_file(with_input.read.get());
  const IoFile second = loop.add_file(ended.read.get());
  Awaited input;
  Awaited end;
  loop.poll_once(first, input);
  loop.poll_once(second, end);
  const IoThread thread(loop, "test-loop");
  check(::write(with_input.write.get(), "x", 1), "write");
  CHECK(input.wait() == std::vector<int32_t>{POLLIN});
  ended.write.reset();
  CHECK(end.wait() == std::vector<int32_t>{POLLHUP});
}

TEST_CASE("a timeout completes in its time, or early when it is cancelled") {
  UringLoop loop(each_kind());
  Awaited soon;
  Awaited never;
  const uint64_t before = loop.now_ns();
  loop.timeout(2'000'000, soon);
  loop.timeout(kHourNs, never);
  const IoThread thread(loop, "test-loop");
  CHECK(soon.wait() == std::vector<int32_t>{-ETIME});
  CHECK(loop.now_ns() - before >= 2'000'000);
  on_loop(loop, [&] { loop.cancel(never); });
  CHECK(never.wait() == std::vector<int32_t>{-ECANCELED});
}

TEST_CASE("signal adds one to an eventfd, and a full counter harms nothing") {
  UringLoop loop(each_kind());
  const EventFd event;
  const EventFd full;
  const uint64_t almost = UINT64_MAX - 1;
  check(::write(full.fd(), &almost, sizeof almost), "write");
  const IoFile file = loop.add_file(event.fd());
  const IoFile full_file = loop.add_file(full.fd());
  const IoThread thread(loop, "test-loop");
  on_loop(loop, [&] {
    loop.signal(full_file);
    loop.signal(file);
    loop.signal(file);
  });
  next_turn(loop);
  uint64_t count = 0;
  check(::read(event.fd(), &count, sizeof count), "read");
  CHECK(count == 2);
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

TEST_CASE("tasks from many threads all run, and each sees what its poster wrote") {
  struct Count final : Task {
    void run() noexcept override { sum += value; }
    int value = 0;
    int sum = 0;
  };
  constexpr int kRounds = 2000;
  UringLoop loop;
  std::array<Count, 3> counts;
  {
    const IoThread io(loop, "test-loop");
    std::vector<std::jthread> posters;
    for (Count& count : counts) {
      posters.emplace_back([&loop, &count] {
        for (int i = 0; i < kRounds; ++i) {
          on_loop(loop, [&count] { count.value = 1; });
          loop.post(count);
        }
      });
    }
    posters.clear();
    next_turn(loop);
  }
  CHECK(counts[0].sum == kRounds);
  CHECK(counts[1].sum == kRounds);
  CHECK(counts[2].sum == kRounds);
}

TEST_CASE("posted tasks run before completions that wait, deferred ones after the last") {
  struct Note final : Task {
    Note(std::string& where, char what) : where_(where), what_(what) {}
    void run() noexcept override { where_ += what_; }
    std::string& where_;
    char what_;
  };
  struct Done final : Completion {
    void completed(int32_t, bool) noexcept override {
      *where += 'c';
      loop->defer(*deferred);
      loop->post(*posted);
      left->count_down();
    }
    UringLoop* loop = nullptr;
    std::string* where = nullptr;
    Note* deferred = nullptr;
    Note* posted = nullptr;
    std::latch* left = nullptr;
  };
  std::string order;
  std::latch left(3);
  UringLoop loop;
  const EventFd readable;
  readable.signal();
  const IoFile file = loop.add_file(readable.fd());
  Note deferred(order, 'd');
  Note posted(order, 'p');
  std::array<Done, 3> done;
  for (Done& each : done) {
    each.loop = &loop;
    each.where = &order;
    each.deferred = &deferred;
    each.posted = &posted;
    each.left = &left;
    loop.poll_once(file, each);  // one batch, and no need to wait: they complete together
  }
  {
    const IoThread thread(loop, "test-loop");
    left.wait();
    next_turn(loop);
  }
  CHECK(order == "cpcpcdp");
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
