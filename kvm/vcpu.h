// A virtual CPU: runs guest code on the calling thread and routes its I/O to the buses.
#pragma once

#include <linux/kvm.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvm/address.h"
#include "kvm/bus.h"
#include "kvm/cpuid.h"
#include "kvm/fd.h"
#include "kvm/vcpu_state.h"
#include "kvm/vm.h"

namespace ringlet {

/// Why Vcpu::run() returned.
struct VcpuExit {
  enum class Kind {
    Interrupted,  ///< kick(), or some other signal: look at what you wait for
    Shutdown,     ///< triple fault
    SystemReset,  ///< KVM_EXIT_SYSTEM_EVENT
    SystemPoweroff,
    SystemCrash,
    Debug,          ///< breakpoint or single step
    InternalError,  ///< KVM gave up; `detail` is the suberror (1: an instruction it cannot emulate)
    FailedEntry,    ///< the processor refused the guest's state; `detail` is its reason
    HostError,      ///< KVM_RUN failed; `detail` is the errno
    Unexpected,     ///< an exit that was never asked for; `detail` is the KVM_EXIT_ number
  };
  Kind kind = Kind::Interrupted;
  uint64_t detail = 0;
  bool operator==(const VcpuExit&) const = default;
};

/// 32-bit flat protected mode with paging off: the PVH boot protocol.
struct ProtectedModeEntry {
  uint64_t rip = 0;
  uint64_t rbx = 0;  ///< the start info's guest address
};

/// 64-bit mode with paging on: the 64-bit Linux boot protocol. Page tables at `cr3` and a
/// kBootGdt at `gdt` must be in guest memory.
struct LongModeEntry {
  uint64_t rip = 0;
  uint64_t rsi = 0;  ///< the zero page's guest address
  uint64_t rsp = 0;
  GuestAddr cr3;
  GuestAddr gdt;
};

/// The descriptors that set_long_mode_entry() loads the segments from: null, unused, 64-bit code
/// at 0x10, data at 0x18, as the Linux boot protocol asks for.
inline constexpr std::array<uint64_t, 4> kBootGdt{0, 0, 0x00af'9b00'0000'ffff,
                                                  0x00cf'9300'0000'ffff};

/// One vCPU. Belongs to the thread that calls run(); what else touches its state does so while no
/// thread is in run(). Only kick() is for any thread. Needs `vm` to live longer.
class Vcpu {
 public:
  /// `id` is also the local APIC's id; vCPU 0 starts running, others wait for INIT and SIPI.
  /// Throws std::system_error.
  Vcpu(const Vm& vm, uint32_t id);
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  uint32_t id() const { return id_; }

  /// Before the first run(). Throws std::system_error.
  void set_cpuid(const CpuidTable& table);
  /// What KVM made of it: some bits it forces.
  CpuidTable cpuid() const;
  /// Where the guest starts. Throws std::system_error.
  void set_entry(const ProtectedModeEntry& entry);
  void set_entry(const LongModeEntry& entry);

  /// Runs guest code until something happens that the buses cannot answer. When it returns, the
  /// instruction that made the last exit is complete, so the state may be saved.
  VcpuExit run(Buses& buses) noexcept;
  /// Makes run() return Interrupted soon; if no thread is in it, the next run() does so at once.
  /// Change first what the vCPU thread looks at afterwards. Any thread; never blocks.
  void kick() noexcept;

  /// Throws std::system_error.
  VcpuState save() const;
  /// Into a vCPU that never ran. Returns the MSRs that KVM would not take. Throws ConfigError when
  /// this host cannot carry on with the state, and std::system_error.
  std::vector<RefusedMsr> restore(const VcpuState& state);

  /// Lines for the user: why the guest cannot go on, its registers, and the bytes at RIP.
  std::vector<std::string> describe_failure(const VcpuExit& exit) const;

 private:
  struct Unmap {
    size_t size;
    void operator()(kvm_run* run) const noexcept;
  };

  VcpuExit run_until_exit(Buses& buses) noexcept;
  void port_io(Buses& buses) noexcept;
  void memory_io(Buses& buses) noexcept;
  VcpuExit explain_exit() const noexcept;
  std::vector<Msr> read_msrs() const;
  std::vector<RefusedMsr> write_msrs(const std::vector<Msr>& msrs);
  void restore_tsc_rate(const VcpuState& state);
  void restore_fpu(const VcpuState& state);
  std::string code_at(uint64_t address) const;

  const Vm& vm_;
  const uint32_t id_;
  Fd fd_;
  std::unique_ptr<kvm_run, Unmap> run_;
  /// The thread in run(), or 0. Kickers look here after they have set immediate_exit.
  std::atomic<pid_t> thread_{0};
};

}  // namespace ringlet
