// The host's KVM: /dev/kvm, what it can do and what it offers to guests.
#pragma once

#include <linux/kvm.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvm/cpuid.h"
#include "kvm/fd.h"

namespace ringlet {

/// An open /dev/kvm. Immutable once made: any thread.
class Kvm {
 public:
  /// Throws HostError, with one line that tells what to do about it, when `path` cannot be used
  /// or is not KVM of API version 12.
  explicit Kvm(const std::string& path = "/dev/kvm");

  int fd() const { return fd_.get(); }
  /// KVM_CHECK_EXTENSION: 0 when absent, else 1 or a limit that depends on the capability.
  int extension(long capability) const noexcept;
  /// What guests may be told by the CPUID instruction (KVM_GET_SUPPORTED_CPUID).
  const CpuidTable& supported_cpuid() const { return supported_cpuid_; }
  /// Guest-physical address bits that memory and BARs may use. Never taken from the host's own
  /// CPUID: KVM may offer fewer.
  unsigned address_bits() const { return physical_address_bits(supported_cpuid_); }
  /// The size of a vCPU's kvm_run mapping, in bytes.
  size_t run_size() const { return run_size_; }
  /// The MSRs that make up a vCPU's state on this host (KVM_GET_MSR_INDEX_LIST).
  std::vector<uint32_t> msr_indices() const;

 private:
  Fd fd_;
  size_t run_size_ = 0;
  CpuidTable supported_cpuid_;
};

/// A group's name from /etc/group, else its number.
std::string group_name(gid_t gid);

}  // namespace ringlet
