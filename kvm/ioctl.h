// What every KVM ioctl needs: starting over after a signal, and structs that end in an array.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
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

// Where a struct of <linux/kvm.h> ends in an array, some versions of that header (Linux 6.1)
// declare the array in a way that C++ gives a size to. The struct's size, and with it the ioctl's
// number, then comes out wrong. So the heads of these structs and the numbers made of them are
// stated here.

/// The head of kvm_cpuid2, kvm_msrs and kvm_irq_routing.
struct KvmTableHead {
  uint32_t count;
  uint32_t flags;
};
/// The head of kvm_msr_list.
struct KvmListHead {
  uint32_t count;
};
/// The fixed part of kvm_xsave.
struct KvmXsaveHead {
  std::array<uint32_t, 1024> region;
};

inline constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, KvmListHead);
inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, KvmTableHead);
inline constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, KvmTableHead);
inline constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, KvmTableHead);
inline constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, KvmTableHead);
inline constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, KvmTableHead);
inline constexpr unsigned long kGetCpuid2 = _IOWR(KVMIO, 0x91, KvmTableHead);
inline constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, KvmXsaveHead);
inline constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, KvmXsaveHead);
inline constexpr unsigned long kGetXsave2 = _IOR(KVMIO, 0xcf, KvmXsaveHead);

/// Such a struct with room for some entries: {head, entries[]}. All zero but the head's count.
template <typename Head, typename Entry>
class KvmTable {
 public:
  explicit KvmTable(size_t count) : storage_(sizeof(Head) + count * sizeof(Entry)) {
    get()->count = static_cast<uint32_t>(count);
  }

  Head* get() { return static_cast<Head*>(static_cast<void*>(storage_.data())); }
  /// As many as the head says: the kernel may have lowered it.
  std::span<Entry> entries() {
    assert(sizeof(Head) + get()->count * sizeof(Entry) <= storage_.size());
    void* const first = storage_.data() + sizeof(Head);
    return {static_cast<Entry*>(first), get()->count};
  }

 private:
  std::vector<std::byte> storage_;
};

}  // namespace ringlet
