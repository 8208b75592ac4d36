// Owners of file descriptors.
#include "kvm/fd.h"

#include <sys/eventfd.h>

#include <poll.h>

#include "kvm/error.h"

namespace ringlet {

EventFd::EventFd() : fd_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

void EventFd::signal() const noexcept {
  const uint64_t one = 1;
  // EAGAIN means that the counter is at its maximum: the other side has enough to wake up for.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

bool EventFd::drain() const noexcept {
  uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count;
}

bool EventFd::pending() const noexcept {
  pollfd poll{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & POLLIN) != 0;
}

}  // namespace ringlet
