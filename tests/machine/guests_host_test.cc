// Tests of what only some hosts can lend a machine: huge pages, block devices. A host that has
// none gets a line that says what was not tried.
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/machine/loop_device.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

constexpr uint64_t kMib = 1 << 20;

/// Of files that know no size of their own, too.
std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- Huge pages --------------------------------------------------------------------------------

/// Lets the host make pages of 2 MiB on demand, as many as it has memory for, while this lives.
class HugePagesOnDemand {
 public:
  HugePagesOnDemand() : before_(contents(kSetting)) {
    set("1024");
    allowed_ = allowed_ && are_there(2 * 32 * kMib);
  }
  HugePagesOnDemand(const HugePagesOnDemand&) = delete;
  HugePagesOnDemand& operator=(const HugePagesOnDemand&) = delete;
  ~HugePagesOnDemand() { set(before_); }

  bool allowed() const { return allowed_; }

 private:
  static constexpr const char* kSetting =
      "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";

  void set(const std::string& value) {
    std::ofstream file(kSetting);
    file << value << std::flush;
    allowed_ = file.good();
  }

  // The setting is a permission only: whether memory is there for so much shows when it is
  // reserved.
  static bool are_there(size_t bytes) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    return at != MAP_FAILED && ::munmap(at, bytes) == 0;
  }

  std::string before_;
  bool allowed_ = false;
};

/// The size in KiB of the pages behind the mapping of `size_kib` KiB; 0 when there is none.
uint64_t page_kib(pid_t pid, uint64_t size_kib) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/smaps");
  uint64_t size = 0;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t value = 0;
    words >> name >> value;
    if (name == "Size:") size = value;
    if (name == "KernelPageSize:" && size == size_kib) return value;
  }
  return 0;
}

TEST_CASE("RAM is in huge pages where they are asked for") {
  const HugePagesOnDemand pages;
  if (!pages.allowed()) {
    WARN(
        "SKIPPED: no RAM in huge pages was tried, the host's setting is not ours to change or its "
        "memory has none");
    return;
  }
  for (const char* backing : {"anonymous", "shared"}) {
    CAPTURE(backing);
    const Arguments options{"--huge-pages", "--memory", "32M", "--memory-backing", backing};
    const Ended end = run(guest("memmap", "beyond=1", options));
    CHECK_THAT(end.output, Contains("every probe holds its own value\n"));
    CHECK(end.log == "");
    Process process(guest("legacy", "what=spin", options));
    REQUIRE(process.wait_for_output("spinning\n"));
    CHECK(page_kib(process.pid(), 32 * 1024) == 2048);
  }
}

TEST_CASE("a host without that many huge pages ends with status 1, and says where to look") {
  for (const char* backing : {"anonymous", "shared"}) {
    const Ended end =
        run(guest("hello", "", {"--huge-pages", "--memory", "1T", "--memory-backing", backing}));
    CHECK(end.status == 1);
    CHECK(end.log ==
          "ringlet: mmap of guest memory: Cannot allocate memory in huge pages: expected 524288 "
          "free ones of 2 MiB (HugePages_Free in /proc/meminfo)\n");
  }
}

// ---- Block devices -----------------------------------------------------------------------------

int64_t allocated_sectors(const std::string& path) {
  struct stat info {};
  check(::stat(path.c_str(), &info), "stat");
  return info.st_blocks;
}

TEST_CASE("a block device is a disk like a file, also past the page cache") {
  const TemporaryDirectory files;
  const std::string file = files.make_filled_disk("file", 5 * kMib);
  const std::string behind = files.make_filled_disk("behind", 5 * kMib);
  const auto [sector_bytes, direct] =
      GENERATE(table<uint32_t, std::string>({{512, ""}, {512, ",direct"}, {4096, ",direct"}}));
  const LoopDevice device(behind, sector_bytes);
  if (!device.missing().empty()) {
    WARN("SKIPPED: no block device was tried as a disk, the host lends none: " << device.missing());
    return;
  }
  CAPTURE(sector_bytes, direct);
  const int64_t allocated = allocated_sectors(behind);
  const Ended of_file = run(guest("blk", "requests=64", {"--disk", "path=" + file}));
  const Ended of_device =
      run(guest("blk", "requests=64", {"--disk", "path=" + device.path() + direct}));
  CHECK(of_device.status == 1);
  CHECK(of_device.log == "");
  CHECK(of_device.output == of_file.output);
  const bool same_bytes = contents(device.path()) == contents(file);
  CHECK(same_bytes);
  CHECK(allocated_sectors(behind) < allocated);
}

TEST_CASE("a block device that is written belongs to one machine") {
  const TemporaryDirectory files;
  const LoopDevice device(files.make_disk("behind", 4 * kMib), 512);
  if (!device.missing().empty()) {
    WARN("SKIPPED: no block device was tried as a disk, the host lends none: " << device.missing());
    return;
  }
  Process first(guest("legacy", "what=halt", {"--disk", "path=" + device.path()}));
  REQUIRE(first.wait_for_output("halting\n"));
  for (const char* access : {"", ",readonly"}) {
    const Ended second = run(guest("hello", "", {"--disk", "path=" + device.path() + access}));
    CHECK(second.status == 2);
    CHECK_THAT(second.log, StartsWith("ringlet: disk '" + device.path() + "': is "));
  }
}

}  // namespace
}  // namespace ringlet
