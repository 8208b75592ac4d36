// The host's KVM: /dev/kvm, what it can do and what it offers to guests.
#include "kvm/kvm.h"

#include <sys/stat.h>

#include <cassert>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <fmt/core.h>

#include "kvm/error.h"
#include "kvm/ioctl.h"

namespace ringlet {
namespace {

/// The kernel's own limit on a CPUID table (KVM_MAX_CPUID_ENTRIES).
constexpr uint32_t kMaxCpuidEntries = 256;

std::string explain_refusal(const std::string& path, int error) {
  if (error == ENOENT || error == ENODEV || error == ENXIO) {
    return fmt::format(
        "{}: {}: load the module kvm_intel or kvm_amd, switch on virtualization in the firmware, "
        "or, inside a virtual machine, nested virtualization in its host",
        path, std::strerror(error));
  }
  struct stat status {};
  if ((error == EACCES || error == EPERM) && ::stat(path.c_str(), &status) == 0) {
    const std::string group = group_name(status.st_gid);
    constexpr mode_t kGroupAccess = S_IRGRP | S_IWGRP;
    const std::string remedy =
        (status.st_mode & kGroupAccess) == kGroupAccess && status.st_gid != 0
            ? fmt::format("\"usermod -aG {} USER\" and a new login let USER open it", group)
            : fmt::format("\"chgrp kvm {0} && chmod 660 {0}\" lets the group kvm open it", path);
    return fmt::format("{}: {}: it belongs to user {} and group {} (mode {:04o}); {}", path,
                       std::strerror(error), status.st_uid, group, status.st_mode & 07777U, remedy);
  }
  return fmt::format("{}: {}", path, std::strerror(error));
}

CpuidTable get_supported_cpuid(int fd) {
  KvmTable<KvmTableHead, kvm_cpuid_entry2> table(kMaxCpuidEntries);
  check(kvm_ioctl(fd, kGetSupportedCpuid, table.get()), "KVM_GET_SUPPORTED_CPUID");
  const auto entries = table.entries();
  return {entries.begin(), entries.end()};
}

}  // namespace

// getgrgid() would need shared libraries at run time, which a static binary does without.
std::string group_name(gid_t gid) {
  std::string wanted = std::to_string(gid);
  std::ifstream groups("/etc/group");
  for (std::string line; std::getline(groups, line);) {
    const size_t name_end = line.find(':');
    const size_t id_start = line.find(':', name_end + 1);
    if (name_end == std::string::npos || id_start == std::string::npos) continue;
    const size_t id_end = line.find(':', id_start + 1);
    if (line.substr(id_start + 1, id_end - id_start - 1) == wanted) return line.substr(0, name_end);
  }
  return wanted;
}

Kvm::Kvm(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
  if (!fd_ && is_shortage(errno)) throw_errno(path);
  if (!fd_) throw HostError(explain_refusal(path, errno));
  const int version = kvm_ioctl(fd(), KVM_GET_API_VERSION, 0);
  if (version < 0) throw HostError(fmt::format("{}: not a KVM device", path));
  if (version != KVM_API_VERSION) {
    throw HostError(
        fmt::format("{}: KVM API version {}, expected {}", path, version, KVM_API_VERSION));
  }
  run_size_ = static_cast<size_t>(
      check(kvm_ioctl(fd(), KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"));
  assert(run_size_ >= sizeof(kvm_run));
  supported_cpuid_ = get_supported_cpuid(fd());
}

int Kvm::extension(long capability) const noexcept {
  const int answer = kvm_ioctl(fd(), KVM_CHECK_EXTENSION, capability);
  return answer < 0 ? 0 : answer;
}

std::vector<uint32_t> Kvm::msr_indices() const {
  KvmListHead count{};
  // Too small a list is refused with E2BIG and told the right size.
  if (kvm_ioctl(fd(), kGetMsrIndexList, &count) < 0 && errno != E2BIG) {
    throw_errno("KVM_GET_MSR_INDEX_LIST");
  }
  KvmTable<KvmListHead, uint32_t> list(count.count);
  check(kvm_ioctl(fd(), kGetMsrIndexList, list.get()), "KVM_GET_MSR_INDEX_LIST");
  const auto indices = list.entries();
  return {indices.begin(), indices.end()};
}

}  // namespace ringlet
