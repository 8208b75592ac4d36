// What every KVM ioctl needs: starting over after a signal, and structs that end in an array.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

namespace ringlet {

/// ioctl(2) that starts over when a signal cut it short. Not for KVM_RUN, where that is the point.
template <typename Argument>
int kvm_ioctl(int fd, unsigned long request, Argument argument) noexcept {
  int result = -1;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

/// A kernel struct of the form {header; entries[]}: kvm_cpuid2, kvm_msrs, kvm_irq_routing.
/// Zeroed; the header's count is for the owner to fill in.
template <typename Header, typename Entry>
class KernelTable {
 public:
  explicit KernelTable(size_t count)
      : storage_(sizeof(Header) + count * sizeof(Entry)), count_(count) {}

  Header* get() { return static_cast<Header*>(static_cast<void*>(storage_.data())); }
  Header* operator->() { return get(); }
  std::span<Entry> entries() {
    void* const first = storage_.data() + sizeof(Header);
    return {static_cast<Entry*>(first), count_};
  }

 private:
  std::vector<std::byte> storage_;
  size_t count_;
};

}  // namespace ringlet
