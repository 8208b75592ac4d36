// Tests of disks, as a guest and the host see them: the blk guest goes through every request and
// framing, by polling, MSI-X and INTx, and checks each answer itself.
#include <sys/stat.h>

#include <algorithm>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/kvm/may_pin.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

constexpr uint64_t kMib = 1 << 20;
/// The guest writes to these, and only to them.
constexpr size_t kTestBytes = 4 * kMib;

/// What the blk guest prints about a writable disk between its size and its queues.
constexpr const char* kEveryWay =
    "polled, direct: shapes framing segments batches errors\n"
    "polled, direct, event index: shapes framing segments batches errors\n"
    "polled, indirect: shapes framing segments batches errors\n"
    "polled, indirect, event index: shapes framing segments batches errors\n"
    "MSI-X, direct: shapes framing segments batches errors\n"
    "MSI-X, indirect, event index: shapes framing segments batches errors\n"
    "INTx, direct: shapes framing segments batches errors\n"
    "INTx, indirect, event index: shapes framing segments batches errors\n"
    "FLUSH: ok\n";

Ended run_blk(const std::string& cmdline, const std::string& disk, const Arguments& more = {}) {
  Arguments options{"--disk", disk};
  options.insert(options.end(), more.begin(), more.end());
  return run(guest("blk", cmdline, options));
}

/// The ends of the data and holes of a file between 1 MiB and 1 MiB + 32 KiB, where the guest
/// discards and zeroes every other page: offsets in pages, data first.
std::vector<int64_t> data_and_holes(const std::string& path) {
  constexpr off_t kPage = 4096;
  constexpr off_t kBegin = kMib;
  constexpr off_t kEnd = kBegin + 8 * kPage;
  const Fd file(check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "open"));
  std::vector<int64_t> ends;
  off_t at = kBegin;
  int whence = SEEK_HOLE;
  while (at < kEnd) {
    at = std::min(static_cast<off_t>(check(::lseek(file.get(), at, whence), "lseek")), kEnd);
    ends.push_back((at - kBegin) / kPage);
    whence = whence == SEEK_HOLE ? SEEK_DATA : SEEK_HOLE;
  }
  return ends;
}

TEST_CASE("a disk answers every request in every framing, polled and by interrupts") {
  const TemporaryDirectory files;
  const Ended end = run_blk("", "path=" + files.make_disk("disk", 16 * kMib));
  CHECK(end.output == std::string("capacity: 32768 sectors\n"
                                  "indirect descriptors: yes, event index: yes\n"
                                  "serial number: \n"
                                  "first 64 KiB: crc32 d7978eeb\n") +
                          kEveryWay +
                          "DISCARD: ok\n"
                          "WRITE_ZEROES: ok\n"
                          "CONFIG_WCE: ok\n"
                          "queue sizes: ok\n"
                          "1 queues: ok\n"
                          "66000 requests: ok\n"
                          "first 4 MiB: crc32 a22c5cfd\n");
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

TEST_CASE("a disk answers every request in every framing with packed queues") {
  const TemporaryDirectory files;
  const Ended split = run_blk("", "path=" + files.make_disk("split", 16 * kMib));
  const Ended packed = run_blk("packed=1", "path=" + files.make_disk("packed", 16 * kMib));
  CHECK_THAT(packed.output, Contains(kEveryWay));
  CHECK(packed.output == split.output);
  CHECK(packed.status == 1);
  CHECK(packed.log == "");
  CHECK(files.read("packed") == files.read("split"));
}

TEST_CASE("a guest reads what the host wrote, and nothing but its writes changes the file") {
  const TemporaryDirectory files;
  const std::string disk = files.make_filled_disk("disk", 5 * kMib);
  const std::string before = files.read("disk");
  const Ended end = run_blk("requests=64", "path=" + disk);
  CHECK_THAT(end.output, Contains("first 64 KiB: crc32 7aee2ee2\n"));
  CHECK_THAT(end.output, EndsWith("first 4 MiB: crc32 ca557602\n"));
  const std::string after = files.read("disk");
  REQUIRE(after.size() == before.size());
  CHECK(after.substr(kTestBytes) == before.substr(kTestBytes));
  CHECK(after.substr(2 * kMib) == before.substr(2 * kMib));
  CHECK(after.substr(0, kMib) != before.substr(0, kMib));
}

TEST_CASE("a disk past the page cache takes buffers at any address") {
  const TemporaryDirectory files;
  const Ended buffered = run_blk("requests=64", "path=" + files.make_filled_disk("a", 5 * kMib));
  const Ended direct =
      run_blk("requests=64", "path=" + files.make_filled_disk("b", 5 * kMib) + ",direct");
  CHECK(direct.status == 1);
  CHECK(direct.output == buffered.output);
  CHECK(files.read("b") == files.read("a"));
}

TEST_CASE("a disk reaches registered memory with the same results") {
  if (!may_pin(2 * 32ull << 20)) {
    WARN("SKIPPED: no memory was registered, the limit of locked memory is too low");
    return;
  }
  const TemporaryDirectory files;
  const std::string disk = GENERATE("", ",direct", ",direct,queues=2");
  const std::string backing = GENERATE("anonymous", "shared");
  const Ended mapped = run_blk("requests=64", "path=" + files.make_filled_disk("a", 5 * kMib));
  const Ended registered = run_blk(
      "requests=64", "path=" + files.make_filled_disk("b", 5 * kMib) + disk,
      {"--register-memory", "--io-threads", "2", "--memory", "32M", "--memory-backing", backing});
  CHECK(registered.status == 1);
  CHECK(registered.log == "");
  CHECK(registered.output == mapped.output);
  CHECK(files.read("b") == files.read("a"));
}

TEST_CASE("a write-through disk ends up the same") {
  const TemporaryDirectory files;
  const Ended back = run_blk("requests=64", "path=" + files.make_filled_disk("a", 5 * kMib));
  const Ended through =
      run_blk("requests=64", "path=" + files.make_filled_disk("b", 5 * kMib) + ",writeback=off");
  CHECK(through.status == 1);
  CHECK(through.output == back.output);
  CHECK(files.read("b") == files.read("a"));
}

TEST_CASE("a read-only disk refuses writes, and its file stays as it was") {
  const TemporaryDirectory files;
  const std::string disk = files.make_filled_disk("disk", 5 * kMib);
  const std::string before = files.read("disk");
  const Ended end = run_blk("requests=64", "path=" + disk + ",readonly");
  CHECK_THAT(end.output, StartsWith("capacity: 10240 sectors, read-only\n"));
  CHECK_THAT(end.output, Contains("\nwrites are refused\n"));
  CHECK(end.status == 1);
  CHECK(files.read("disk") == before);
}

TEST_CASE("every queue of a disk works, on as many vCPUs") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", 4 * kMib);
  const std::string io_threads = GENERATE("1", "3");
  const Ended end = run_blk("queues=4 requests=64", "path=" + disk + ",queues=4",
                            {"--cpus", "4", "--io-threads", io_threads});
  CHECK_THAT(end.output, Contains("\n4 queues: ok\n"));
  CHECK(end.status == 1);
}

TEST_CASE("sixteen queues of 1024 descriptors work") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", 4 * kMib);
  const Ended end = run_blk("queues=16 requests=64", "path=" + disk + ",queues=16,queue-size=1024");
  CHECK_THAT(end.output, Contains("\n16 queues: ok\n"));
  CHECK(end.status == 1);
}

TEST_CASE("a discarded or zeroed page gives its blocks back to the host") {
  const TemporaryDirectory files;
  const std::string disk = files.make_filled_disk("disk", 4 * kMib);
  const Ended end = run_blk("requests=64", "path=" + disk);
  CHECK_THAT(end.output, Contains("DISCARD: ok\nWRITE_ZEROES: ok\n"));
  CHECK(data_and_holes(disk) == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8});
  const std::string content = files.read("disk");
  CHECK(content.substr(kMib, 4096) == std::string(4096, '\0'));
  CHECK(content.substr(kMib + 4096, 4096) != std::string(4096, '\0'));
}

TEST_CASE("a disk without discard keeps its blocks") {
  const TemporaryDirectory files;
  const std::string disk = files.make_filled_disk("disk", 4 * kMib);
  const Ended end = run_blk("requests=64", "path=" + disk + ",discard=off");
  CHECK_THAT(end.output, Contains("DISCARD: not offered\nWRITE_ZEROES: not offered\n"));
  CHECK(end.status == 1);
  CHECK(data_and_holes(disk) == std::vector<int64_t>{8});
}

TEST_CASE("a guest reads the serial number that the user gave") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", 4 * kMib);
  const Ended end =
      run_blk("requests=64", "path=" + disk + ",readonly,serial=a-serial-number-at20");
  CHECK_THAT(end.output, Contains("\nserial number: a-serial-number-at20\n"));
}

TEST_CASE("a disk of a tebibyte has its size") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kMib * kMib);
  const Ended end = run_blk("requests=64", "path=" + disk);
  CHECK_THAT(end.output, StartsWith("capacity: 2147483648 sectors\n"));
  CHECK(end.status == 1);
}

TEST_CASE("a disk of one sector is seen, and no disk has half a sector or none") {
  const TemporaryDirectory files;
  const Ended one = run_blk("", "path=" + files.make_disk("one", 512));
  CHECK_THAT(one.output, StartsWith("capacity: 1 sectors\n"));
  const Ended half = run_blk("", "path=" + files.make_disk("half", 4 * kMib + 256));
  CHECK(half.status == 2);
  CHECK_THAT(half.log, Contains("4194560 bytes, is not a multiple of 512"));
  const Ended none = run_blk("", "path=" + files.make_disk("none", 0));
  CHECK(none.status == 2);
  CHECK_THAT(none.log, Contains("is empty; expected at least 512 bytes"));
}

TEST_CASE("a guest that writes to one of two disks leaves the other alone") {
  const TemporaryDirectory files;
  const std::string first = files.make_filled_disk("first", 4 * kMib);
  const std::string second = files.make_filled_disk("second", 5 * kMib);
  const std::string before = files.read("first");
  const Ended end = run_blk("index=1 requests=64", "path=" + first, {"--disk", "path=" + second});
  CHECK_THAT(end.output, StartsWith("capacity: 10240 sectors\n"));
  CHECK(end.status == 1);
  CHECK(files.read("first") == before);
  CHECK(files.read("second").substr(0, 4 * kMib) != before);
}

TEST_CASE("a disk belongs to one machine while that runs") {
  const TemporaryDirectory files;
  const std::string disk = "path=" + files.make_disk("disk", 4 * kMib);
  Process first(guest("legacy", "what=halt", {"--disk", disk}));
  REQUIRE(first.wait_for_output("halting\n"));
  const Ended second = run(guest("hello", "", {"--disk", disk}));
  CHECK(second.status == 2);
  CHECK_THAT(second.log, Contains("is in use elsewhere"));
}

TEST_CASE("any number of machines read the same disk") {
  const TemporaryDirectory files;
  const std::string disk = "path=" + files.make_disk("disk", 4 * kMib) + ",readonly";
  Process first(guest("legacy", "what=halt", {"--disk", disk}));
  REQUIRE(first.wait_for_output("halting\n"));
  CHECK(run_blk("requests=64", disk).status == 1);
}

TEST_CASE("a disk is free for the next machine as soon as its machine has ended") {
  const TemporaryDirectory files;
  const std::string disk = "path=" + files.make_disk("disk", 4 * kMib);
  for (int i = 0; i < 20; ++i) {
    const Ended end = run(guest("resets", "n=3", {"--disk", disk}));
    CHECK(end.log == "");
    REQUIRE(end.status == 1);
  }
}

TEST_CASE("a disk is free for the next machine as soon as its machine was killed") {
  const TemporaryDirectory files;
  const std::string disk = "path=" + files.make_disk("disk", 4 * kMib);
  for (int i = 0; i < 20; ++i) {
    Process process(guest("legacy", "what=halt", {"--disk", disk}));
    REQUIRE(process.wait_for_output("halting\n"));
    process.send_signal(SIGKILL);
    CHECK(process.wait_for_end().log == "");
  }
}

}  // namespace
}  // namespace ringlet
