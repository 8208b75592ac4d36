// Tests of the memory map and of RAM around its edges; the guest touches little of it.
#include <catch2/catch.hpp>

#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;

Ended run_memmap(const std::string& memory) {
  return run(guest("memmap", "beyond=1", {"--memory", memory}));
}

TEST_CASE("64 MiB of RAM are where the memory map says, and nothing is behind them") {
  const Ended end = run_memmap("64M");
  CHECK(end.output ==
        "0000000000000000-000000000009fbff RAM\n"
        "000000000009fc00-00000000000fffff reserved\n"
        "0000000000100000-0000000003ffffff RAM\n"
        "00000000e0000000-00000000e00fffff reserved\n"
        "00000000fffbc000-00000000fffbffff reserved\n"
        "RAM: 65151 KiB, every probe holds its own value\n"
        "nothing at 0000000004000000\n");
  CHECK(end.status == 1);
}

TEST_CASE("16 MiB of RAM are the least there is") {
  const Ended end = run_memmap("16M");
  CHECK_THAT(end.output, Contains("0000000000100000-0000000000ffffff RAM\n"));
  CHECK_THAT(end.output, Contains("nothing at 0000000001000000\n"));
  CHECK(end.status == 1);
  const Ended less = run_memmap("15M");
  CHECK(less.status == 2);
  CHECK_THAT(less.log, Contains("--memory: expected a size from 16M to"));
}

TEST_CASE("memory need not end at a MiB") {
  const Ended end = run_memmap("16388K");
  CHECK_THAT(end.output, Contains("0000000000100000-0000000001000fff RAM\n"));
  CHECK_THAT(end.output, Contains("nothing at 0000000001001000\n"));
  CHECK(end.status == 1);
}

TEST_CASE("RAM that ends a page before the hole leaves a page of nothing") {
  const Ended end = run_memmap("3145724K");
  CHECK_THAT(end.output, Contains("0000000000100000-00000000bfffefff RAM\n"));
  CHECK_THAT(end.output, Contains("RAM: 3145339 KiB, every probe holds its own value\n"
                                  "nothing at 00000000bffff000\n"));
  CHECK(end.status == 1);
}

TEST_CASE("RAM that fills the space below the hole ends there") {
  const Ended end = run_memmap("3G");
  CHECK_THAT(end.output, Contains("0000000000100000-00000000bfffffff RAM\n"
                                  "00000000e0000000-00000000e00fffff reserved\n"
                                  "00000000fffbc000-00000000fffbffff reserved\n"
                                  "RAM: 3145343 KiB, every probe holds its own value\n"
                                  "nothing at 00000000c0000000\n"));
  CHECK(end.status == 1);
}

TEST_CASE("RAM that is a page more than fits below the hole goes on at 4 GiB") {
  const Ended end = run_memmap("3145732K");
  CHECK_THAT(end.output, Contains("0000000000100000-00000000bfffffff RAM\n"
                                  "00000000e0000000-00000000e00fffff reserved\n"
                                  "00000000fffbc000-00000000fffbffff reserved\n"
                                  "0000000100000000-0000000100000fff RAM\n"
                                  "RAM: 3145347 KiB, every probe holds its own value\n"
                                  "nothing at 00000000c0000000\n"
                                  "nothing at 0000000100001000\n"));
  CHECK(end.status == 1);
}

TEST_CASE("RAM that is a MiB less or more than fits below the hole is all there") {
  CHECK_THAT(run_memmap("3071M").output,
             Contains("RAM: 3144319 KiB, every probe holds its own value\n"
                      "nothing at 00000000bff00000\n"));
  CHECK_THAT(run_memmap("3073M").output,
             Contains("RAM: 3146367 KiB, every probe holds its own value\n"
                      "nothing at 00000000c0000000\n"
                      "nothing at 0000000100100000\n"));
}

TEST_CASE("4 GiB and 6 GiB of RAM go on behind the hole") {
  CHECK_THAT(run_memmap("4G").output, Contains("0000000100000000-000000013fffffff RAM\n"
                                               "RAM: 4193919 KiB, every probe"));
  CHECK_THAT(run_memmap("6G").output, Contains("0000000100000000-00000001bfffffff RAM\n"
                                               "RAM: 6291071 KiB, every probe"));
}

TEST_CASE("memory that other processes could share is the same to the guest") {
  const Ended end =
      run(guest("memmap", "beyond=1", {"--memory", "4G", "--memory-backing", "shared"}));
  CHECK_THAT(end.output, Contains("RAM: 4193919 KiB, every probe holds its own value\n"));
  CHECK(end.status == 1);
}

TEST_CASE("memory that is no whole number of pages is refused") {
  const Ended end = run_memmap("16385K");
  CHECK(end.status == 2);
  CHECK_THAT(end.log, Contains("memory"));
}

}  // namespace
}  // namespace ringlet
