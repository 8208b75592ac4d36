// A block device for tests, on a file.
#pragma once

#include <linux/loop.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet {

/// A block device whose sectors are those of a file, or a reason why there is none.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, uint32_t sector_bytes) {
    const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const Fd backing(check(::open(file.c_str(), O_RDWR | O_CLOEXEC), "open"));
    loop_config config{};
    config.fd = static_cast<uint32_t>(backing.get());
    config.block_size = sector_bytes;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;  // goes with the last descriptor
    // The number is free until somebody else takes it.
    constexpr int kAttempts = 100;
    for (int i = 0; control && i < kAttempts; ++i) {
      path_ = "/dev/loop" + std::to_string(::ioctl(control.get(), LOOP_CTL_GET_FREE));
      device_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      if (device_ && ::ioctl(device_.get(), LOOP_CONFIGURE, &config) == 0) return;
      if (errno != EBUSY) break;
    }
    missing_ = std::strerror(errno);
  }

  const std::string& path() const { return path_; }
  /// Empty when there is a device.
  const std::string& missing() const { return missing_; }

 private:
  std::string path_;
  std::string missing_;
  Fd device_;
};

}  // namespace ringlet
