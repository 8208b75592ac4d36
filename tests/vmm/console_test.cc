// Tests of the console: what reaches stdout and the guest, and what happens when neither moves.
#include "vmm/legacy/console.h"

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "kvm/uring_loop.h"
#include "tests/fake/fake_irq.h"
#include "tests/fake/simulated_loop.h"
#include "tests/pci/access.h"

namespace ringlet {
namespace {

constexpr uint64_t kData = 0;
constexpr uint64_t kIer = 1;
constexpr uint64_t kFcr = 2;
constexpr uint64_t kLsr = 5;

struct Requests final : MachineEvents {
  void guest_request(GuestRequest request, uint8_t) noexcept override { seen.push_back(request); }
  std::vector<GuestRequest> seen;
};

/// A serial port with a console on a simulated loop; ends in order.
struct Setup {
  explicit Setup(bool escape = false, bool has_output = true)
      : out(has_output ? loop.add_stream() : IoFile{}),
        in(loop.add_stream()),
        console(serial, loop, {.out = out, .in = in, .escape = escape}, requests) {
    write_as<uint8_t>(serial, kFcr, uint8_t{0x01});
    console.start();
    loop.run_until_idle();
  }
  ~Setup() { loop.drain(); }

  void guest_sends(std::string_view text) {
    for (const char c : text) write_as<uint8_t>(serial, kData, static_cast<uint8_t>(c));
  }
  /// All that the guest can read now.
  std::string guest_reads() {
    std::string text;
    while ((read_as<uint8_t>(serial, kLsr) & 0x01) != 0) {
      text += static_cast<char>(read_as<uint8_t>(serial, kData));
      loop.run_until_idle();
    }
    return text;
  }
  bool transmitter_empty() { return (read_as<uint8_t>(serial, kLsr) & 0x20) != 0; }
  std::string written() {
    std::string text;
    for (const std::byte byte : loop.file(out).written()) text += static_cast<char>(byte);
    return text;
  }

  SimulatedLoop loop;
  std::unique_ptr<FakeIrqLine> line = std::make_unique<FakeIrqLine>(Gsi{4});
  const FakeIrqLine& irq = *line;
  Serial serial{std::move(line)};
  Requests requests;
  IoFile out;
  IoFile in;
  Console console;
};

TEST_CASE("serial output and debug output reach stdout in order, a burst in one write") {
  Setup setup;
  setup.guest_sends("one ");
  setup.console.write_debug(std::byte{'2'});
  setup.guest_sends(" three");
  setup.loop.run_until_idle();
  CHECK(setup.written() == "one 2 three");
  CHECK(setup.loop.submitted(SimOp::Write) == 1);
  CHECK(setup.console.flush(0));
}

TEST_CASE("what comes during a write goes with the next; one is under way at a time") {
  Setup setup;
  setup.loop.hold(SimOp::Write);
  setup.guest_sends("a");
  setup.loop.run_until_idle();
  setup.guest_sends("bc");
  setup.loop.run_until_idle();
  CHECK(setup.loop.in_flight(SimOp::Write) == 1);
  CHECK_FALSE(setup.console.flush(0));
  setup.loop.release(SimOp::Write);
  setup.loop.run_until_idle();
  CHECK(setup.written() == "abc");
  CHECK(setup.loop.submitted(SimOp::Write) == 2);
}

TEST_CASE("short writes lose nothing") {
  Setup setup;
  setup.loop.shorten_next(SimOp::Write, 3);
  setup.guest_sends("abcdefg");
  setup.loop.run_until_idle();
  CHECK(setup.written() == "abcdefg");
}

TEST_CASE("a stdout that takes nothing makes the guest wait, and loses nothing") {
  Setup setup;
  setup.loop.file(setup.out).room = 0;
  std::string sent;
  while (setup.transmitter_empty()) {
    setup.guest_sends("0123456789abcdef");
    setup.loop.run_until_idle();
    sent += "0123456789abcdef";
  }
  CHECK(sent.size() == Console::kOutputSize);
  write_as<uint8_t>(setup.serial, kIer, uint8_t{0x02});
  CHECK_FALSE(setup.irq.level());
  setup.loop.file(setup.out).room = 100'000;
  setup.loop.run_until_idle();
  CHECK(setup.irq.level());
  CHECK(setup.transmitter_empty());
  CHECK(setup.written() == sent);
  setup.guest_sends("wraps around");
  setup.loop.run_until_idle();
  CHECK(setup.written() == sent + "wraps around");
}

TEST_CASE("output that wraps around the ring's end is written in order") {
  Setup setup;
  setup.guest_sends(std::string(Console::kOutputSize - 3, 'x'));
  setup.loop.run_until_idle();
  setup.guest_sends("abcdef");
  setup.loop.run_until_idle();
  CHECK(setup.written().substr(Console::kOutputSize - 3) == "abcdef");
  CHECK(setup.loop.submitted(SimOp::Write) == 2);
}

TEST_CASE("debug output that finds no room is lost, and what is in the ring is not") {
  Setup setup;
  setup.loop.hold(SimOp::Write);
  for (size_t i = 0; i < Console::kOutputSize; ++i) setup.console.write_debug(std::byte{'x'});
  setup.console.write_debug(std::byte{'y'});
  setup.loop.release(SimOp::Write);
  setup.loop.run_until_idle();
  CHECK(setup.written() == std::string(Console::kOutputSize, 'x'));
}

TEST_CASE("descriptors become files of the loop; -1 stands for none") {
  SimulatedLoop loop;
  Requests requests;
  Serial serial(std::make_unique<FakeIrqLine>(Gsi{4}));
  std::array<int, 2> ends{};
  check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
  const Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  Console console(serial, loop, write_end.get(), -1, false, requests);
  write_end.reset();
  console.start();
  write_as<uint8_t>(serial, kData, uint8_t{'!'});
  loop.run_until_idle();
  char got = 0;
  CHECK(::read(read_end.get(), &got, 1) == 1);
  CHECK(got == '!');
  CHECK(loop.in_flight() == 0);
}

TEST_CASE("a stdout that fails, or is not there, is discarded for and the guest goes on") {
  Setup fails;
  fails.loop.fail_next(SimOp::Write, -EPIPE);
  fails.guest_sends("lost");
  fails.loop.run_until_idle();
  fails.guest_sends(std::string(Console::kOutputSize, 'x'));
  fails.loop.run_until_idle();
  CHECK(fails.transmitter_empty());
  CHECK(fails.loop.submitted(SimOp::Write) == 1);
  CHECK(fails.console.flush(0));
  Setup closed(false, false);
  closed.guest_sends("lost");
  closed.loop.run_until_idle();
  CHECK(closed.transmitter_empty());
  CHECK(closed.console.flush(0));
}

TEST_CASE("a non-blocking stdout is asked again later") {
  Setup setup;
  setup.loop.fail_next(SimOp::Write, -EAGAIN);
  setup.guest_sends("late");
  setup.loop.run_until_idle();
  CHECK(setup.written().empty());
  setup.loop.advance(5'000'000);
  CHECK(setup.written() == "late");
}

TEST_CASE("flush waits for the loop to write") {
  Setup setup;
  setup.guest_sends("x");
  bool flushed = false;
  std::thread waiter([&] { flushed = setup.console.flush(60'000); });
  setup.loop.run_until_idle();
  waiter.join();
  CHECK(flushed);
}

TEST_CASE("input reaches the guest at the guest's pace, however much it is") {
  Setup setup;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i) + ",";
  setup.loop.push_input(setup.in, text);
  setup.loop.run_until_idle();
  const uint64_t reads = setup.loop.submitted(SimOp::Read);
  setup.loop.run_until_idle();
  CHECK(reads == 1);  // 1,024 of 3,890 bytes: no more before these are gone
  CHECK(setup.loop.in_flight() == 0);
  CHECK(setup.guest_reads() == text);
  CHECK(setup.loop.in_flight(SimOp::PollOnce) == 1);
}

TEST_CASE("the end of input, or an error, ends reading but not the guest") {
  Setup ends;
  ends.loop.push_input(ends.in, "last");
  ends.loop.push_end_of_input(ends.in);
  ends.loop.run_until_idle();
  CHECK(ends.guest_reads() == "last");
  CHECK(ends.loop.in_flight() == 0);
  CHECK(ends.loop.submitted(SimOp::Read) == 2);
  Setup fails;
  fails.loop.fail_next(SimOp::Read, -EIO);
  fails.loop.push_input(fails.in, "x");
  fails.loop.run_until_idle();
  CHECK(fails.loop.in_flight() == 0);
  CHECK(fails.loop.submitted(SimOp::Read) == 1);
}

TEST_CASE("a terminal whose settings change is polled again, however often") {
  Setup setup(true);
  setup.loop.fail_next(SimOp::PollOnce, -EINVAL);
  setup.loop.fail_next(SimOp::PollOnce, -EINVAL);
  setup.loop.push_input(setup.in, "a");  // ends the poll that is under way
  setup.loop.run_until_idle();
  CHECK(setup.loop.in_flight(SimOp::Timeout) == 1);
  setup.loop.push_input(setup.in, "b");
  setup.loop.advance(10'000'000);
  CHECK(setup.guest_reads() == "ab");
  CHECK(setup.loop.in_flight(SimOp::PollOnce) == 1);
}

TEST_CASE("a job that was in the background reads its terminal again later") {
  Setup setup(true);
  setup.loop.fail_next(SimOp::Read, -EIO);
  setup.loop.push_input(setup.in, "key");
  setup.loop.run_until_idle();
  CHECK(setup.guest_reads().empty());
  CHECK(setup.loop.submitted(SimOp::Read) == 1);
  setup.loop.advance(1'000'000'000);
  CHECK(setup.guest_reads() == "key");
}

TEST_CASE("Ctrl-A X leaves, even when the guest reads nothing any more") {
  Setup setup(true);
  setup.loop.push_input(setup.in, std::string(5000, 'z'));
  setup.loop.run_until_idle();
  setup.loop.push_input(setup.in, "\x01");
  setup.loop.run_until_idle();
  CHECK(setup.requests.seen.empty());
  setup.loop.push_input(setup.in, "x");
  setup.loop.run_until_idle();
  CHECK(setup.requests.seen == std::vector{GuestRequest::UserLeft});
  CHECK(setup.loop.in_flight() == 0);
}

TEST_CASE("in a pipe Ctrl-A X is input like any other") {
  Setup setup;
  setup.loop.push_input(setup.in, "a\x01xb");
  setup.loop.run_until_idle();
  CHECK(setup.requests.seen.empty());
  CHECK(setup.guest_reads() == "a\x01xb");
}

TEST_CASE("on a terminal the guest gets what is typed, without the escape keys") {
  Setup setup(true);
  setup.loop.push_input(setup.in,
                        "a\x01\x01"
                        "b");
  setup.loop.run_until_idle();
  CHECK(setup.guest_reads() ==
        "a\x01"
        "b");
}

TEST_CASE("between a guest on its own thread and pipes nothing is lost either way") {
  constexpr size_t kBytes = 200'000;  // more than ring and pipe hold
  UringLoop loop;
  Requests requests;
  Serial serial(std::make_unique<FakeIrqLine>(Gsi{4}));
  std::array<int, 2> output{};
  std::array<int, 2> input{};
  check(::pipe2(output.data(), O_CLOEXEC), "pipe2");
  check(::pipe2(input.data(), O_CLOEXEC), "pipe2");
  const Fd read_end(output[0]);
  const Fd write_end(output[1]);
  const Fd stdin_end(input[0]);
  const Fd typing_end(input[1]);
  Console console(serial, loop, write_end.get(), stdin_end.get(), false, requests);
  const IoThread io(loop, "test-loop");
  write_as<uint8_t>(serial, kFcr, uint8_t{0x01});  // drops what came before
  console.start();
  std::string typed;
  for (int i = 0; i < 1000; ++i) typed += std::to_string(i) + ",";
  check(::write(typing_end.get(), typed.data(), typed.size()), "write");
  std::string received;
  // The guest polls: sends when it may, reads what there is.
  std::jthread guest([&] {
    size_t sent = 0;
    while (sent < kBytes || received.size() < typed.size()) {
      const uint8_t status = read_as<uint8_t>(serial, kLsr);
      for (int i = 0; i < 16 && (status & 0x20) != 0 && sent < kBytes; ++i) {
        write_as<uint8_t>(serial, kData, static_cast<uint8_t>('a' + sent++ % 26));
      }
      if ((status & 0x01) != 0) received += static_cast<char>(read_as<uint8_t>(serial, kData));
    }
  });
  std::string got(kBytes, '\0');
  for (size_t at = 0; at < kBytes;) {
    at += static_cast<size_t>(check(::read(read_end.get(), &got[at], kBytes - at), "read"));
  }
  guest.join();
  CHECK(received == typed);
  CHECK(console.flush());
  std::string expected;
  for (size_t i = 0; i < kBytes; ++i) expected += static_cast<char>('a' + i % 26);
  CHECK((got == expected));  // too long to be shown
}

}  // namespace
}  // namespace ringlet
