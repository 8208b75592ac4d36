// Tests of the simulated I/O loop itself.
#include "tests/fake/simulated_loop.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include <catch2/catch.hpp>
#include <fcntl.h>

namespace ringlet {
namespace {

iovec part_of(std::span<std::byte> data) {
  return {.iov_base = data.data(), .iov_len = data.size()};
}

std::string text_of(const std::vector<std::byte>& bytes) {
  std::string text(bytes.size(), '\0');
  std::memcpy(text.data(), bytes.data(), bytes.size());
  return text;
}

struct CountingTask final : Task {
  void run() noexcept override { ++runs; }
  int runs = 0;
};

TEST_CASE("a simulated write is read back, and data moves only when the loop turns") {
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(8192);
  std::array<std::byte, 512> out;
  out.fill(std::byte{0x5a});
  std::array<std::byte, 512> in{};
  const iovec out_part = part_of(out);
  const std::array<iovec, 2> in_parts{part_of(std::span(in).first(100)),
                                      part_of(std::span(in).subspan(100))};
  CompletionRecord wrote;
  loop.writev(file, {&out_part, 1}, 4096, false, wrote);
  CHECK(loop.file(file).bytes[4096] == std::byte{0});
  loop.run_until_idle();
  CHECK(wrote.results == std::vector<int32_t>{512});
  CompletionRecord read;
  loop.readv(file, in_parts, 4096, read);
  loop.run_until_idle();
  CHECK(read.results == std::vector<int32_t>{512});
  CHECK(in == out);
}

TEST_CASE("a read past the end of a simulated file is short") {
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(1000);
  std::array<std::byte, 512> in{};
  const iovec part = part_of(in);
  CompletionRecord read;
  loop.readv(file, {&part, 1}, 512, read);
  loop.run_until_idle();
  CHECK(read.results == std::vector<int32_t>{488});
}

TEST_CASE("only a flush or a sync write brings simulated data to stable storage") {
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(2);
  std::array<std::byte, 1> byte{std::byte{1}};
  const iovec part = part_of(byte);
  CompletionRecord first;
  CompletionRecord flush;
  CompletionRecord second;
  loop.writev(file, {&part, 1}, 0, false, first);
  loop.flush(file, flush);  // asked for before the write completed: promises nothing for it
  loop.run_until_idle();
  CHECK(flush.results == std::vector<int32_t>{0});
  CHECK(loop.file(file).stable == std::vector<std::byte>{std::byte{0}, std::byte{0}});
  loop.writev(file, {&part, 1}, 1, true, second);
  loop.run_until_idle();
  CHECK(loop.file(file).stable == std::vector<std::byte>{std::byte{0}, std::byte{1}});
  loop.flush(file, flush);
  loop.run_until_idle();
  CHECK(loop.file(file).stable == std::vector<std::byte>{std::byte{1}, std::byte{1}});
}

TEST_CASE("held operations complete only once they are released, cancelled or not") {
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(512);
  std::array<CompletionRecord, 3> flushes;
  loop.hold(SimOp::Flush);
  for (CompletionRecord& flush : flushes) loop.flush(file, flush);
  loop.cancel(flushes[2]);
  loop.run_until_idle();
  CHECK(loop.in_flight(SimOp::Flush) == 3);
  loop.release_oldest(SimOp::Flush);
  loop.run_until_idle();
  CHECK(flushes[0].finished);
  CHECK_FALSE(flushes[1].finished);
  loop.release(SimOp::Flush);
  loop.run_until_idle();
  CHECK(flushes[1].finished);
  CHECK(flushes[2].finished);
}

TEST_CASE("failures and short transfers are given to the next operation of their kind") {
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(512);
  std::array<std::byte, 512> data{};
  const iovec part = part_of(data);
  CompletionRecord done;
  loop.fail_next(SimOp::Read, -EIO);
  loop.shorten_next(SimOp::Write, 100);
  loop.readv(file, {&part, 1}, 0, done);
  loop.run_until_idle();
  loop.readv(file, {&part, 1}, 0, done);
  loop.run_until_idle();
  loop.writev(file, {&part, 1}, 0, false, done);
  loop.run_until_idle();
  CHECK(done.results == std::vector<int32_t>{-EIO, 512, 100});
}

TEST_CASE("a multishot poll tells of each notice until it is cancelled") {
  SimulatedLoop loop;
  const IoFile event = loop.add_event();
  CompletionRecord poll;
  loop.poll(event, poll);
  loop.run_until_idle();
  CHECK(poll.results.empty());
  loop.notify(event);
  loop.notify(event);
  loop.run_until_idle();
  loop.notify(event);
  loop.run_until_idle();
  CHECK(poll.results == std::vector<int32_t>{1, 1});
  loop.cancel(poll);
  loop.run_until_idle();
  CHECK(poll.results == std::vector<int32_t>{1, 1, -ECANCELED});
  CHECK(poll.finished);
}

TEST_CASE("real eventfds are polled and signalled") {
  SimulatedLoop loop;
  const EventFd kick;
  const EventFd interrupt;
  const IoFile kicked = loop.add_file(kick.fd());
  const IoFile signalled = loop.add_file(interrupt.fd());
  CompletionRecord poll;
  loop.poll(kicked, poll);
  loop.run_until_idle();
  kick.signal();
  loop.run_until_idle();
  kick.signal();
  loop.run_until_idle();
  CHECK(poll.results == std::vector<int32_t>{1, 1});
  loop.signal(signalled);
  CHECK_FALSE(interrupt.pending());
  loop.run_until_idle();
  CHECK(interrupt.pending());
  CHECK(loop.signals(signalled) == 1);
  loop.drain();
}

TEST_CASE("the simulated clock moves only when told, and timeouts come in order") {
  SimulatedLoop loop;
  CompletionRecord late;
  CompletionRecord early;
  CompletionRecord cancelled;
  loop.timeout(2'000, late);
  loop.timeout(1'000, early);
  loop.timeout(1'500, cancelled);
  loop.cancel(cancelled);
  loop.run_until_idle();
  CHECK(cancelled.results == std::vector<int32_t>{-ECANCELED});
  const uint64_t start = loop.now_ns();
  loop.advance(1'999);
  CHECK(early.results == std::vector<int32_t>{-ETIME});
  CHECK_FALSE(late.finished);
  loop.advance(1);
  CHECK(late.results == std::vector<int32_t>{-ETIME});
  CHECK(loop.now_ns() == start + 2'000);
}

TEST_CASE("a stream's reads wait for input and its writes for room") {
  SimulatedLoop loop;
  const IoFile stream = loop.add_stream();
  std::array<std::byte, 4> data{};
  const iovec part = part_of(data);
  CompletionRecord read;
  CompletionRecord poll;
  loop.readv(stream, {&part, 1}, UINT64_MAX, read);
  loop.poll_once(stream, poll);
  loop.run_until_idle();
  CHECK(loop.in_flight() == 2);
  loop.push_input(stream, "abcdef");
  loop.run_until_idle();
  CHECK(read.results == std::vector<int32_t>{4});
  CHECK(poll.finished);
  CompletionRecord write;
  loop.file(stream).room = 0;
  loop.writev(stream, {&part, 1}, UINT64_MAX, false, write);
  loop.run_until_idle();
  CHECK_FALSE(write.finished);
  loop.file(stream).room = 3;
  loop.run_until_idle();
  CHECK(write.results == std::vector<int32_t>{3});
  CHECK(text_of(loop.file(stream).written()) == "abc");
}

TEST_CASE("a read of packets takes one whole and cuts it") {
  SimulatedLoop loop;
  const IoFile tap = loop.add_packets();
  std::array<std::byte, 4> data{};
  const iovec part = part_of(data);
  loop.push_input(tap, "abcdef");
  loop.push_input(tap, "gh");
  CompletionRecord read;
  loop.readv(tap, {&part, 1}, UINT64_MAX, read);
  loop.run_until_idle();
  loop.readv(tap, {&part, 1}, UINT64_MAX, read);
  loop.run_until_idle();
  CHECK(read.results == std::vector<int32_t>{4, 2});
}

TEST_CASE("tasks posted run once, ahead of completions, and deferred ones after them") {
  struct Order {
    std::string text;
  } order;
  struct Note final : Task {
    Note(Order& where, char what) : where_(where), what_(what) {}
    void run() noexcept override { where_.text += what_; }
    Order& where_;
    char what_;
  };
  struct Done final : Completion {
    Done(SimulatedLoop& loop, Order& where, Task& after)
        : loop_(loop), where_(where), after_(after) {}
    void completed(int32_t, bool) noexcept override {
      where_.text += 'c';
      loop_.defer(after_);
    }
    SimulatedLoop& loop_;
    Order& where_;
    Task& after_;
  };
  SimulatedLoop loop;
  const IoFile file = loop.add_bytes(512);
  Note posted(order, 'p');
  Note deferred(order, 'd');
  Done first(loop, order, deferred);
  Done second(loop, order, deferred);
  loop.flush(file, first);
  loop.flush(file, second);
  loop.step();
  loop.post(posted);
  loop.post(posted);
  loop.run_until_idle();
  CHECK(order.text == "pccd");
}

TEST_CASE("the same seed gives the same order, and every operation completes") {
  const auto order_of = [](uint64_t seed) {
    struct Done final : Completion {
      void completed(int32_t, bool) noexcept override { *where += name; }
      std::string* where = nullptr;
      char name = 0;
    };
    std::string order;
    std::array<Done, 16> done;
    SimulatedLoop loop(seed);
    const IoFile file = loop.add_bytes(512);
    for (size_t i = 0; i < done.size(); ++i) {
      done[i].where = &order;
      done[i].name = static_cast<char>('a' + i);
      loop.flush(file, done[i]);
    }
    loop.run_until_idle();
    return order;
  };
  CHECK(order_of(1).size() == 16);
  CHECK(order_of(1) == order_of(1));
  CHECK(order_of(1) != order_of(2));
}

TEST_CASE("drain ends all that is under way and what is submitted meanwhile") {
  struct Again final : Completion {
    Again(SimulatedLoop& loop, IoFile file) : loop_(loop), file_(file) {}
    void completed(int32_t result, bool) noexcept override {
      last = result;
      if (times++ < 2) loop_.poll_once(file_, *this);
    }
    SimulatedLoop& loop_;
    IoFile file_;
    int times = 0;
    int32_t last = 0;
  };
  SimulatedLoop loop;
  const IoFile stream = loop.add_stream();
  Again poll(loop, stream);
  loop.poll_once(stream, poll);
  loop.drain();
  CHECK(poll.times == 3);
  CHECK(poll.last == -ECANCELED);
  CHECK(loop.in_flight() == 0);
}

TEST_CASE("punching a hole zeroes and keeps the size; unknown modes are refused") {
  SimulatedLoop loop;
  const std::array<std::byte, 4> content{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  const IoFile file = loop.add_bytes(content);
  CompletionRecord done;
  loop.allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 100, done);
  loop.run_until_idle();
  loop.allocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, 1, done);
  loop.run_until_idle();
  CHECK(done.results == std::vector<int32_t>{0, -EOPNOTSUPP});
  CHECK(loop.file(file).bytes ==
        std::vector<std::byte>{std::byte{1}, std::byte{2}, std::byte{0}, std::byte{0}});
}

TEST_CASE("a full file table gives an empty file, and a removed slot is used again") {
  SimulatedLoop loop(SimulatedLoop::Options{.max_files = 1});
  const IoFile first = loop.add_event();
  CHECK(first);
  CHECK_FALSE(loop.add_event());
  loop.remove_file(first);
  CHECK(loop.add_event() == first);
}

TEST_CASE("a deferred task that the loop has run may be deferred again") {
  SimulatedLoop loop;
  CountingTask task;
  loop.defer(task);
  loop.defer(task);
  loop.run_until_idle();
  loop.defer(task);
  loop.run_until_idle();
  CHECK(task.runs == 2);
}

}  // namespace
}  // namespace ringlet
