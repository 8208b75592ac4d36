// The PIT that is made late, against the one that KVM makes at the start: whatever a guest does
// first to one that was not there, it finds what it would have found.
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "kvm/pit.h"
#include "tests/machine/tiny_guest.h"

namespace ringlet {
namespace {

struct PortWrite {
  uint8_t port;
  uint8_t value;
};
using Bytes = std::initializer_list<uint8_t>;
using Writes = std::vector<PortWrite>;

constexpr uint8_t kControl = 0x43;
constexpr uint8_t kSpeaker = 0x61;

/// Guest code that does so, reads `read_from` into the value port, and reports.
std::vector<uint8_t> code_for(const Writes& writes, std::optional<uint8_t> read_from) {
  std::vector<uint8_t> code;
  for (const PortWrite& each : writes) {
    code.insert(code.end(),
                {0xb0, each.value, 0xe6, each.port});  // mov $value, %al; out %al, $port
  }
  if (read_from) {
    code.insert(code.end(),
                {0x31, 0xc0, 0xe4, *read_from, 0xe7, 0x80});  // xor; in; out %eax, $0x80
  }
  code.insert(code.end(), {0xe6, 0xf4});
  return code;
}

struct Found {
  std::optional<kvm_pit_state2> pit;  // nothing: as KVM makes it
  std::vector<uint32_t> values;
};

/// A counter that nobody programmed reaches its end 65536 ticks after the PIT was made, which then
/// shows. Before that it is as it was.
constexpr std::chrono::milliseconds kUntouchedFor{50};
constexpr unsigned kTries = 1000;

Found run(TinyGuest& guest) {
  REQUIRE(guest.next_message());
  return {.pit = guest.vm.save().pit, .values = guest.take_values()};
}

/// All that a guest can find out but the time: KVM notes when each count was loaded.
std::string describe(const kvm_pit_state2& pit) {
  std::string text = fmt::format("flags {:#x}", pit.flags);
  for (const kvm_pit_channel_state& each : pit.channels) {
    text += fmt::format(
        "; count {:#x} read {} write {} access {} mode {} bcd {} gate {} latched {} {} status {}",
        each.count, each.read_state, each.write_state, each.rw_mode, each.mode, each.bcd, each.gate,
        each.count_latched, each.status_latched, each.status);
  }
  return text;
}

std::string describe_untouched() {
  TinyGuest guest({});
  REQUIRE(guest.vm.make_pit());
  return describe(guest.vm.save().pit.value());
}

Found run_with_early_pit(const std::vector<uint8_t>& code) {
  using Clock = std::chrono::steady_clock;
  for (unsigned i = 0; i < kTries; ++i) {
    TinyGuest guest(code);
    const Clock::time_point start = Clock::now();
    REQUIRE(guest.vm.make_pit());
    const Found found = run(guest);
    if (Clock::now() - start < kUntouchedFor) return found;
  }
  FAIL("this host is too slow");
  return {};
}

void check_same(const Writes& writes, std::optional<uint8_t> read_from = std::nullopt) {
  std::string name;
  for (const PortWrite& each : writes)
    name += fmt::format("{:#x} to {:#x}; ", each.value, each.port);
  if (read_from) name += fmt::format("a read of {:#x}", *read_from);
  INFO(name);
  const std::vector<uint8_t> code = code_for(writes, read_from);
  const Found there = run_with_early_pit(code);
  TinyGuest late(code);
  const LatePit pit(late.vm, late.buses.port);
  CHECK_FALSE(late.vm.save().pit);
  const Found made = run(late);
  CHECK((made.pit ? describe(*made.pit) : describe_untouched()) == describe(there.pit.value()));
  // The speaker port's bit 4 changes with the time.
  constexpr uint32_t kTimeBit = 1 << 4;
  const bool speaker = read_from == kSpeaker;
  REQUIRE(made.values.size() == there.values.size());
  for (size_t i = 0; i < made.values.size(); ++i) {
    const uint32_t mask = speaker ? ~kTimeBit : ~uint32_t{0};
    CHECK((made.values[i] & mask) == (there.values[i] & mask));
  }
}

TEST_CASE("a PIT made by the first write to it is as if it had been there") {
  SECTION("control words: each counter, access and mode, and reads back") {
    for (const uint8_t value : Bytes{0x00, 0x10, 0x22, 0x34, 0x36, 0x3e, 0x55, 0x6a, 0x70, 0x94,
                                     0xb0, 0xb6, 0xbf, 0xc2, 0xe8}) {
      check_same({{kControl, value}});
    }
  }
  SECTION("counts, without a control word") {
    for (const uint8_t port : Bytes{0x40, 0x41, 0x42}) check_same({{port, 0x12}});
    check_same({{0x42, 0}});
  }
  SECTION("the speaker and its gate") {
    for (const uint8_t value : Bytes{0, 1, 2, 3, 0xff}) check_same({{kSpeaker, value}});
  }
  SECTION("what follows the first write goes on from it") {
    check_same({{kControl, 0x34}, {0x40, 0x9c}, {0x40, 0x2e}});
    check_same({{kSpeaker, 1}, {kControl, 0xb0}, {0x42, 0x34}, {0x42, 0xff}}, kSpeaker);
    check_same({{0x42, 0x55}, {kControl, 0x90}, {0x42, 0x77}});
    check_same({{kControl, 0x70}, {kControl, 0xe4}}, 0x41);
    check_same({{kControl, 0x36}, {kControl, 0xb0}, {0x42, 0x34}});
  }
}

TEST_CASE("a PIT made by the first read of it is as if it had been there") {
  check_same({}, kSpeaker);
  check_same({}, kControl);
}

TEST_CASE("a PIT is made when it is to count, and not before") {
  const auto makes_it = [](const Writes& writes, std::optional<uint8_t> read_from) {
    TinyGuest guest(code_for(writes, read_from));
    const LatePit pit(guest.vm, guest.buses.port);
    (void)run(guest);
    return guest.vm.has_pit();
  };
  CHECK_FALSE(makes_it({}, kSpeaker));
  CHECK_FALSE(makes_it({{kSpeaker, 3}, {kControl, 0x34}, {0x40, 0x12}}, kSpeaker));
  CHECK(makes_it({{kControl, 0x34}, {0x40, 0x12}, {0x40, 0x34}}, std::nullopt));
  CHECK(makes_it({{kControl, 0x50}, {0x41, 1}}, std::nullopt));
  CHECK(makes_it({}, 0x40));
}

TEST_CASE("the refresh bit of port 0x61 goes on without a PIT") {
  // in $0x61, %al; and $0x10, %al; mov %al, %bl; 1: in $0x61, %al; and $0x10, %al; cmp %bl, %al;
  // je 1b; out %al, $0xf4
  const std::vector<uint8_t> code{0xe4, 0x61, 0x24, 0x10, 0x88, 0xc3, 0xe4, 0x61,
                                  0x24, 0x10, 0x38, 0xd8, 0x74, 0xf8, 0xe6, 0xf4};
  TinyGuest guest(code);
  const LatePit pit(guest.vm, guest.buses.port);
  CHECK(guest.next_message());
  CHECK_FALSE(guest.vm.has_pit());
}

TEST_CASE("a saved PIT is there in the next VM, however far the guest had come") {
  Writes writes{{kControl, 0xb6}, {0x42, 0x34}};
  const bool counts = GENERATE(false, true);
  if (counts) writes.push_back({0x42, 0x12});
  TinyGuest first(code_for(writes, std::nullopt));
  const LatePit pit(first.vm, first.buses.port);
  const Found before = run(first);
  CHECK(first.vm.has_pit() == counts);
  TinyGuest second({});
  second.vm.restore(first.vm.save());
  CHECK(second.vm.has_pit() == counts);
  const auto after = second.vm.save().pit;
  REQUIRE(after);
  CHECK(describe(*after) == describe(before.pit.value()));
}

}  // namespace
}  // namespace ringlet
