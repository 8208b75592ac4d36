// Tests of disks, consoles and logs whose host files fail: full, cut short, deleted, broken.
#include <sys/mount.h>
#include <sys/resource.h>

#include <filesystem>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/machine/loop_device.h"
#include "tests/machine/run_ringlet.h"

namespace ringlet {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;

constexpr uint64_t kMib = 1 << 20;
constexpr size_t kPage = 4096;

/// The script guest with one disk.
Arguments script(const std::string& steps, const std::string& disk, const Arguments& more = {}) {
  Arguments options{"--disk", disk};
  options.insert(options.end(), more.begin(), more.end());
  return guest("script", "do=" + steps, options);
}

std::string page_of(char byte) {
  return std::string(kPage, byte);
}

/// A file system in memory that holds `size` bytes and no more. It needs the right to mount; it is
/// seen by this process and its children only, and goes with them.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(uint64_t size) {
    check(::mount("ringlet-test", directory_.path("").c_str(), "tmpfs", 0,
                  ("size=" + std::to_string(size)).c_str()),
          "mount");
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  ~SmallFileSystem() { ::umount2(directory_.path("").c_str(), MNT_DETACH); }

  const TemporaryDirectory& files() const { return directory_; }
  /// Takes all the room that is left. Deleting the file gives it back.
  std::string fill() const {
    const std::string path = directory_.path("filler");
    const Fd file(check(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "open"));
    const std::string page = page_of('x');
    while (::write(file.get(), page.data(), page.size()) > 0) {
    }
    REQUIRE(errno == ENOSPC);
    return path;
  }

 private:
  TemporaryDirectory directory_;
};

/// Mounts from now on are nobody else's; false, and reported, where that is not allowed.
bool may_mount() {
  if (::unshare(CLONE_NEWNS) == 0 &&
      ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
    return true;
  }
  WARN("SKIPPED: no file system was full, only root may mount a small one");
  return false;
}

TEST_CASE("a disk on a full file system fails what finds no room, until there is some again") {
  if (!may_mount()) return;
  const SmallFileSystem small(2 * kMib);
  const std::string disk = small.files().write("disk", page_of('#'));
  std::filesystem::resize_file(disk, 8 * kMib);
  const std::string filler = small.fill();
  Process process(script("w0,w9,f,r0,w9+,f,r9", disk));
  REQUIRE(process.wait_for_output("w0: 0\nw9: 1\nf: 0\nr0: 0 A\n"));
  std::filesystem::remove(filler);
  const Ended end = process.wait_for_end();
  CHECK_THAT(end.output, EndsWith("w9+: 0\nf: 0\nr9: 0 J\n"));
  CHECK(end.status == 1);
  CHECK_THAT(end.log,
             Contains("disk 00:01.0: request type 1 at byte 36864: No space left on device"));
}

TEST_CASE("a write over the limit of file sizes fails, and the machine goes on") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", 8 * kMib);
  const Ended end = run(script("w0,w300,w255,f,r255", disk), [] {
    const rlimit limit{.rlim_cur = kMib, .rlim_max = kMib};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  });
  CHECK(end.output == "w0: 0\nw300: 1\nw255: 0\nf: 0\nr255: 0 V\n");
  CHECK(end.status == 1);
  CHECK_THAT(end.log, Contains("disk 00:01.0: request type 1 at byte 1228800: File too large"));
  CHECK(files.read("disk").substr(255 * kPage, kPage) == page_of('V'));
}

TEST_CASE("a disk file that is cut short fails reads behind its end, and nothing else") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kMib);
  Process process(script("w0,w200,r200,r200!,r0,f,w200,r200", disk));
  REQUIRE(process.wait_for_output("r200: 0 S\n"));
  std::filesystem::resize_file(disk, 100 * kPage);
  const Ended end = process.wait_for_end();
  CHECK_THAT(end.output, EndsWith("r200!: 1\nr0: 0 A\nf: 0\nw200: 0\nr200: 0 S\n"));
  CHECK(end.status == 1);
  CHECK_THAT(end.log, Contains("disk 00:01.0: request type 0 at byte 819200"));
}

TEST_CASE("a disk file that is deleted serves its guest to the end, which is told") {
  const TemporaryDirectory files;
  const std::string disk = files.make_disk("disk", kMib);
  Process process(script("w0,r100!,w7,f,r7", disk));
  REQUIRE(process.wait_for_output("w0: 0\n"));
  const Fd held(::open(disk.c_str(), O_RDWR | O_CLOEXEC));
  std::filesystem::remove(disk);
  // Only now may the guest go on.
  check(::ftruncate(held.get(), 50 * kPage), "ftruncate");
  const Ended end = process.wait_for_end();
  CHECK_THAT(end.output, EndsWith("r100!: 1\nw7: 0\nf: 0\nr7: 0 H\n"));
  CHECK(end.status == 1);
  CHECK_THAT(end.log, Contains("disk '" + disk + "': its file was deleted meanwhile"));
}

TEST_CASE("a block device that loses a write fails the flush, and every one after it") {
  if (!may_mount()) return;
  const SmallFileSystem small(2 * kMib);
  const std::string image = small.files().make_disk("image", 8 * kMib);
  const std::string filler = small.fill();
  const LoopDevice device(image, 512);
  if (!device.missing().empty()) {
    WARN("SKIPPED: no block device failed, the host lends none: " << device.missing());
    return;
  }
  const Ended end = run(script("w9,f,w9,f", device.path()));
  CHECK(end.output == "w9: 0\nf: 1\nw9: 0\nf: 1\n");
  CHECK(end.status == 1);
}

TEST_CASE("a block device that fails a direct write fails that request alone") {
  if (!may_mount()) return;
  const SmallFileSystem small(2 * kMib);
  const std::string image = small.files().make_disk("image", 8 * kMib);
  const std::string filler = small.fill();
  const LoopDevice device(image, 512);
  if (!device.missing().empty()) {
    WARN("SKIPPED: no block device failed, the host lends none: " << device.missing());
    return;
  }
  Process process(script("w9,w9,w9+,f,r9", device.path() + ",direct"));
  REQUIRE(process.wait_for_output("w9: 1\nw9: 1\n"));
  std::filesystem::remove(filler);
  const Ended end = process.wait_for_end();
  CHECK_THAT(end.output, EndsWith("w9+: 0\nf: 0\nr9: 0 J\n"));
  CHECK(end.status == 1);
}

TEST_CASE("a console without room for its output is given up, and the guest goes on") {
  const Ended end = run(guest("hello", "", {"--serial", "/dev/full", "--log-level", "warn"}));
  CHECK(end.status == 1);
  CHECK_THAT(end.log, Contains("No space left on device"));
}

TEST_CASE("a log without room loses its lines, and the guest goes on") {
  const Ended end = run(guest("legacy", "what=timer",
                              {"--log-file", "/dev/full", "--boot-timer", "--log-level", "info"}));
  CHECK(end.status == 1);
  CHECK(end.log == "");
}

}  // namespace
}  // namespace ringlet
