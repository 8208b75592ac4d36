// Tests of the I/O loop on a real io_uring: what each operation does, and in what order.
#include "kvm/uring_loop.h"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "tests/kvm/uring_loop_helpers.h"

namespace ringlet {
namespace {

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

}  // namespace
}  // namespace ringlet
