// Owners of file descriptors.
#pragma once

#include <cstdint>
#include <utility>

#include <unistd.h>

namespace ringlet {

/// Owns one file descriptor; closes it. Empty when get() is -1.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// Gives the descriptor away.
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// An eventfd: a 64-bit counter in the kernel that one side adds to and the other waits for.
/// Doorbells (ioeventfd) and interrupts (irqfd) are made of these. Close-on-exec, non-blocking.
class EventFd {
 public:
  /// Throws std::system_error when the process is out of descriptors.
  EventFd();
  int fd() const { return fd_.get(); }
  /// Adds one. Never blocks; any thread.
  void signal() const noexcept;
  /// Takes the counter back to zero; true when it was not zero. Never blocks; any thread.
  bool drain() const noexcept;
  /// True when the counter is not zero. Leaves it alone.
  bool pending() const noexcept;

 private:
  Fd fd_;
};

}  // namespace ringlet
