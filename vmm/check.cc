// `ringlet check`: what it looks at.
#include "vmm/check.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "kvm/kvm.h"

namespace ringlet {
namespace {

namespace fs = std::filesystem;

/// The host's files, read without complaint.
class Host {
 public:
  explicit Host(std::string root) : root_(std::move(root)) {}

  std::string path(const std::string& file) const { return root_ + file; }
  bool exists(const std::string& file) const {
    std::error_code ignored;
    return fs::exists(path(file), ignored);
  }
  /// The file's first line, or empty.
  std::string line(const std::string& file) const {
    std::ifstream in(path(file));
    std::string text;
    std::getline(in, text);
    return text;
  }
  /// True when the processor has the feature (a whole word of the flags).
  bool cpu_has(const std::string& feature) const {
    std::ifstream in(path("/proc/cpuinfo"));
    for (std::string text; std::getline(in, text);) {
      if (!text.starts_with("flags")) continue;
      std::istringstream words(text.substr(text.find(':') + 1));
      for (std::string word; words >> word;) {
        if (word == feature) return true;
      }
      return false;
    }
    return false;
  }

 private:
  std::string root_;
};

struct KvmCapability {
  int number;
  const char* name;
  const char* loss;  ///< what is lost without it; nullptr: no machine runs
};
constexpr const char* kNoSnapshots = "the state of machines cannot be saved in full";
constexpr const char* kOldIntel = "needed where the processor runs real mode by emulation";
constexpr KvmCapability kKvmCapabilities[] = {
    {KVM_CAP_IRQCHIP, "IRQCHIP", nullptr},
    {KVM_CAP_USER_MEMORY, "USER_MEMORY", nullptr},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID", nullptr},
    {KVM_CAP_MP_STATE, "MP_STATE", nullptr},
    {KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING", nullptr},
    {KVM_CAP_IRQFD, "IRQFD", nullptr},
    {KVM_CAP_IRQFD_RESAMPLE, "IRQFD_RESAMPLE", nullptr},
    {KVM_CAP_PIT2, "PIT2", nullptr},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD", nullptr},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", nullptr},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR", kOldIntel},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "SET_IDENTITY_MAP_ADDR", kOldIntel},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH", "slower doorbells"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", "slower guest timers"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", kNoSnapshots},
    {KVM_CAP_XSAVE, "XSAVE", kNoSnapshots},
    {KVM_CAP_XCRS, "XCRS", kNoSnapshots},
    {KVM_CAP_SREGS2, "SREGS2", kNoSnapshots},
    {KVM_CAP_TSC_CONTROL, "TSC_CONTROL",
     "saved machines carry on only on hosts of the same clock frequency"},
};

std::string who_may_open(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return "by this user";
  constexpr mode_t kEveryone = S_IROTH | S_IWOTH;
  constexpr mode_t kGroup = S_IRGRP | S_IWGRP;
  if ((info.st_mode & kEveryone) == kEveryone) return "by everyone";
  const std::string owner = info.st_uid == 0 ? "root" : fmt::format("user {}", info.st_uid);
  if ((info.st_mode & kGroup) != kGroup) return fmt::format("by {}", owner);
  return fmt::format("by {} and group {}", owner, group_name(info.st_gid));
}

CheckRow check_capabilities(const Kvm& kvm, bool needed) {
  std::vector<std::string_view> absent;
  std::vector<std::string_view> losses;
  size_t present = 0;
  for (const auto& capability : kKvmCapabilities) {
    if ((capability.loss == nullptr) != needed) continue;
    if (kvm.extension(capability.number) > 0) {
      ++present;
      continue;
    }
    absent.push_back(capability.name);
    if (!needed && (losses.empty() || losses.back() != capability.loss)) {
      losses.push_back(capability.loss);
    }
  }
  const std::string name = needed ? "KVM, needed" : "KVM, useful";
  if (absent.empty()) {
    return {name, CheckStatus::Ok, fmt::format("all {} capabilities", present), ""};
  }
  return {name, needed ? CheckStatus::Missing : CheckStatus::Warn,
          fmt::format("{} of {} capabilities, absent: {}", present, present + absent.size(),
                      fmt::join(absent, ", ")),
          needed ? "a newer kernel may have them" : fmt::format("{}", fmt::join(losses, "; "))};
}

void check_kvm(const Host& host, std::vector<CheckRow>& rows) {
  const std::string path = host.path("/dev/kvm");
  try {
    const Kvm kvm(path);
    rows.push_back(
        {"/dev/kvm", CheckStatus::Ok, fmt::format("usable, {}", who_may_open(path)), ""});
    rows.push_back(check_capabilities(kvm, true));
    rows.push_back(check_capabilities(kvm, false));
    rows.push_back({"virtual CPUs", CheckStatus::Ok,
                    fmt::format("up to {} in a machine, {} host CPUs",
                                kvm.extension(KVM_CAP_MAX_VCPUS), ::sysconf(_SC_NPROCESSORS_ONLN)),
                    ""});
    rows.push_back(
        {"guest addresses", CheckStatus::Ok, fmt::format("{} bits", kvm.address_bits()), ""});
  } catch (const std::exception& error) {
    rows.push_back({"/dev/kvm", CheckStatus::Missing, "not usable", error.what()});
  }
}

CheckRow check_virtualization(const Host& host) {
  const std::string name = "virtualization";
  for (const auto& [module, title] : {std::pair("kvm_intel", "VT-x"), {"kvm_amd", "AMD-V"}}) {
    if (host.exists(fmt::format("/sys/module/{}", module))) {
      return {name, CheckStatus::Ok, fmt::format("{} ({})", title, module), ""};
    }
  }
  if (host.exists("/sys/module/kvm_pvm")) {
    return {name, CheckStatus::Warn, "PVM (kvm_pvm), without help by the processor",
            "guest kernels run slower here than on a host with VT-x or AMD-V"};
  }
  const bool intel = host.cpu_has("vmx");
  if (intel || host.cpu_has("svm")) {
    return {name, CheckStatus::Warn, "the processor has it, but no module uses it",
            fmt::format("modprobe {}", intel ? "kvm_intel" : "kvm_amd")};
  }
  return {name, CheckStatus::Warn, "neither VT-x, AMD-V nor PVM",
          host.cpu_has("hypervisor")
              ? "this is a virtual machine: switch on nested virtualization in its host"
              : "switch on virtualization in the firmware"};
}

CheckRow check_nesting(const Host& host) {
  const std::string here = host.cpu_has("hypervisor") ? "this host is a virtual machine itself"
                                                      : "this host seems to be a real machine";
  for (const auto* module : {"kvm_intel", "kvm_amd"}) {
    const auto nested = host.line(fmt::format("/sys/module/{}/parameters/nested", module));
    if (nested == "1" || nested == "Y")
      return {"nesting", CheckStatus::Ok, here + "; so may guests be hosts", ""};
  }
  return {"nesting", CheckStatus::Ok, here + "; guests cannot be hosts", ""};
}

std::string io_uring_hint(const Host& host, int error) {
  const auto disabled = host.line("/proc/sys/kernel/io_uring_disabled");
  if (disabled == "1" || disabled == "2") {
    return fmt::format("kernel.io_uring_disabled is {}: sysctl kernel.io_uring_disabled=0{}",
                       disabled,
                       disabled == "1" ? ", or join the group kernel.io_uring_group" : "");
  }
  if (error == ENOSYS) return "this kernel has no io_uring, or a seccomp filter hides it";
  if (error == EPERM || error == EACCES) {
    return "a seccomp filter, such as a container's default profile, or an LSM forbids it";
  }
  if (error == ENOMEM) return "raise the limit of locked memory: ulimit -l";
  return "";
}

/// Sets up a small ring; 0 or the errno.
int try_ring(unsigned flags) {
  io_uring ring{};
  const int result = ::io_uring_queue_init(4, &ring, flags);
  if (result == 0) ::io_uring_queue_exit(&ring);
  return -result;
}

CheckRow check_io_uring(const Host& host) {
  if (const int error = try_ring(0); error != 0) {
    return {"io_uring", CheckStatus::Missing, std::strerror(error), io_uring_hint(host, error)};
  }
  if (try_ring(IORING_SETUP_R_DISABLED) != 0) {
    return {"io_uring", CheckStatus::Missing, "usable, without R_DISABLED",
            "Linux 5.13 or later is needed"};
  }
  struct Feature {
    const char* name;
    unsigned flags;
  };
  constexpr Feature kFeatures[] = {
      {"SUBMIT_ALL", IORING_SETUP_SUBMIT_ALL},
      {"COOP_TASKRUN", IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
      {"SINGLE_ISSUER", IORING_SETUP_SINGLE_ISSUER},
  };
  std::vector<const char*> absent;
  for (const auto& [name, flags] : kFeatures) {
    if (try_ring(flags) != 0) absent.push_back(name);
  }
  if (absent.empty()) return {"io_uring", CheckStatus::Ok, "usable, with every feature", ""};
  return {"io_uring", CheckStatus::Warn, fmt::format("usable, without {}", fmt::join(absent, ", ")),
          "Linux 6.0 or later makes disks and networks faster"};
}

CheckRow check_huge_pages(const Host& host) {
  const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB";
  const auto all = host.line(pool + "/nr_hugepages");
  if (all.empty()) {
    return {"huge pages", CheckStatus::Warn, "none of 2 MiB", "--huge-pages does not work here"};
  }
  const auto value =
      fmt::format("{} of {} pages of 2 MiB free", host.line(pool + "/free_hugepages"), all);
  if (all != "0") return {"huge pages", CheckStatus::Ok, value, ""};
  return {"huge pages", CheckStatus::Warn, value,
          "only --huge-pages needs them: sysctl vm.nr_hugepages=N"};
}

/// The one in brackets.
std::string chosen_mode(const std::string& modes) {
  const auto open = modes.find('[');
  const auto close = modes.find(']');
  const bool known = open != std::string::npos && close != std::string::npos && open < close;
  return known ? modes.substr(open + 1, close - open - 1) : "not supported";
}

CheckRow check_transparent_huge_pages(const Host& host) {
  const auto mode = chosen_mode(host.line("/sys/kernel/mm/transparent_hugepage/enabled"));
  if (mode == "always" || mode == "madvise") {
    // For --memory-backing shared the kernel has a switch of its own.
    const auto shared = chosen_mode(host.line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
    const bool also_shared = shared != "never" && shared != "deny" && shared != "not supported";
    return {"transparent huge pages", CheckStatus::Ok,
            mode + (also_shared ? "" : ", not for shared memory"), ""};
  }
  return {"transparent huge pages", CheckStatus::Warn, mode,
          "guest memory is faster with echo madvise > "
          "/sys/kernel/mm/transparent_hugepage/enabled"};
}

CheckRow check_tap(const Host& host) {
  const std::string path = host.path("/dev/net/tun");
  const Fd tun(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (tun) return {"tap", CheckStatus::Ok, "/dev/net/tun is usable", ""};
  const int error = errno;
  return {"tap", CheckStatus::Warn, fmt::format("/dev/net/tun: {}", std::strerror(error)),
          error == EACCES || error == EPERM
              ? "only networking needs it: give this user access to it"
              : "only networking needs it: modprobe tun"};
}

CheckRow check_smt(const Host& host) {
  const auto active = host.line("/sys/devices/system/cpu/smt/active");
  if (active != "1") return {"SMT", CheckStatus::Ok, "off", ""};
  return {"SMT", CheckStatus::Warn, "on",
          "guests that do not trust each other should not share a core: "
          "echo off > /sys/devices/system/cpu/smt/control"};
}

CheckRow check_ksm(const Host& host) {
  if (host.line("/sys/kernel/mm/ksm/run") != "1") return {"KSM", CheckStatus::Ok, "off", ""};
  return {"KSM", CheckStatus::Warn, "on",
          "merged pages let one guest learn about another's: echo 2 > /sys/kernel/mm/ksm/run"};
}

CheckRow check_vulnerabilities(const Host& host) {
  std::vector<std::string> open;
  std::error_code error;
  const std::string folder = "/sys/devices/system/cpu/vulnerabilities";
  for (const auto& entry : fs::directory_iterator(host.path(folder), error)) {
    const std::string name = entry.path().filename();
    if (host.line(folder + "/" + name).find("Vulnerable") != std::string::npos) {
      open.push_back(name);
    }
  }
  std::sort(open.begin(), open.end());
  if (error) return {"CPU flaws", CheckStatus::Ok, "this kernel tells nothing", ""};
  if (open.empty()) return {"CPU flaws", CheckStatus::Ok, "none left open", ""};
  return {"CPU flaws", CheckStatus::Warn, fmt::format("open: {}", fmt::join(open, ", ")),
          "a guest may read others' memory: update kernel and microcode"};
}

CheckRow check_locked_memory() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const auto value = limit.rlim_cur == RLIM_INFINITY ? std::string("unlimited")
                                                     : fmt::format("{} KiB", limit.rlim_cur / 1024);
  return {"locked memory", CheckStatus::Ok, value, ""};
}

}  // namespace

CheckReport check_host(const std::string& root) {
  const Host host(root);
  CheckReport report;
  report.rows.push_back({"kernel", CheckStatus::Ok, host.line("/proc/sys/kernel/osrelease"), ""});
  check_kvm(host, report.rows);
  report.rows.push_back(check_virtualization(host));
  report.rows.push_back(check_nesting(host));
  report.rows.push_back(check_io_uring(host));
  report.rows.push_back(check_huge_pages(host));
  report.rows.push_back(check_transparent_huge_pages(host));
  report.rows.push_back(check_locked_memory());
  report.rows.push_back(check_tap(host));
  report.rows.push_back(check_smt(host));
  report.rows.push_back(check_ksm(host));
  report.rows.push_back(check_vulnerabilities(host));
  report.can_run = std::none_of(report.rows.begin(), report.rows.end(), [](const CheckRow& row) {
    return row.status == CheckStatus::Missing;
  });
  return report;
}

}  // namespace ringlet
