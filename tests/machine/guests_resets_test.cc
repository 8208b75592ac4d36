// Tests of resets under load: the resets guest fills what a reset device must no longer touch with
// a pattern, leaves it alone while it goes on elsewhere, and then checks it.
#include <catch2/catch.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

constexpr uint64_t kDiskBytes = 2 << 20;

TEST_CASE("a thousand resets of a busy disk and its queue leave no late writes") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const Ended end = run(guest("resets", "n=1000", {"--disk", "path=" + disk}));
  CHECK(end.output ==
        "queue reset: offered\n"
        "device resets: 500, queue resets: 500\n"
        "no late writes\n");
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

TEST_CASE("resets of a disk with packed queues leave no late writes") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const Ended end =
      run(guest("resets", "n=400 queues=2 packed=1", {"--disk", "path=" + disk + ",queues=2"}));
  CHECK(end.output ==
        "queue reset: offered\n"
        "device resets: 200, queue resets: 200\n"
        "no late writes\n");
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

TEST_CASE("queues that are reset one at a time leave the others undisturbed") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const Ended end =
      run(guest("resets", "n=200 queues=4", {"--disk", "path=" + disk + ",queues=4"}));
  CHECK(end.output ==
        "queue reset: offered\n"
        "device resets: 100, queue resets: 100\n"
        "no late writes\n");
  CHECK(end.status == 1);
}

TEST_CASE("resets of a disk on several I/O threads leave no late writes") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const std::string options = GENERATE("", " packed=1");
  const Ended end = run(guest("resets", "n=400 queues=4" + options,
                              {"--io-threads", "3", "--disk", "path=" + disk + ",queues=4"}));
  CHECK(end.output ==
        "queue reset: offered\n"
        "device resets: 200, queue resets: 200\n"
        "no late writes\n");
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

TEST_CASE("resets of a disk past the page cache leave no late writes") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kDiskBytes);
  const Ended end = run(guest("resets", "n=200", {"--disk", "path=" + disk + ",direct"}));
  CHECK(end.output ==
        "queue reset: offered\n"
        "device resets: 100, queue resets: 100\n"
        "no late writes\n");
  CHECK(end.status == 1);
}

TEST_CASE("writes that a reset cut off have happened or not, and damage nothing") {
  const TemporaryDirectory files;
  const std::string calm = files.make_disk("calm", kDiskBytes);
  const std::string busy = files.make_disk("busy", kDiskBytes);
  CHECK(run(guest("resets", "n=0", {"--disk", "path=" + calm})).status == 1);
  CHECK(run(guest("resets", "n=200", {"--disk", "path=" + busy})).status == 1);
  CHECK(files.read("busy") == files.read("calm"));
}

}  // namespace
}  // namespace ringlet
