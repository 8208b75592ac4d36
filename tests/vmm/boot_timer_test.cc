// Tests of the boot timer: which write of the guest's it takes, and the line it logs.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "kvm/log.h"
#include "tests/pci/access.h"
#include "vmm/legacy/small_ports.h"

namespace ringlet {
namespace {

TEST_CASE("the first 123 at the page's first byte logs the boot time, nothing else does") {
  const Fd file(check(::memfd_create("log", MFD_CLOEXEC), "memfd_create"));
  log_setup(LogLevel::Info, "/proc/self/fd/" + std::to_string(file.get()));
  BootTimer timer;
  write_as<uint8_t>(timer, 0, 122);
  write_as<uint8_t>(timer, 1, 123);
  log_flush(10'000);
  CHECK(::lseek(file.get(), 0, SEEK_END) == 0);
  write_as<uint8_t>(timer, 0, 123);
  write_as<uint8_t>(timer, 0, 123);
  log_flush(10'000);
  std::string text(4096, '\0');
  text.resize(
      static_cast<size_t>(check(::pread(file.get(), text.data(), text.size(), 0), "pread")));
  CHECK(std::ranges::count(text, '\n') == 1);
  CHECK_THAT(text, Catch::Matches("[0-9:.]+ warning +Guest-boot-time = +[0-9]+ us [0-9]+ ms, +"
                                  "[0-9]+ CPU us [0-9]+ CPU ms\n"));
  log_setup(LogLevel::Info, "");
}

}  // namespace
}  // namespace ringlet
