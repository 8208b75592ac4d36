// A virtual CPU: runs guest code on the calling thread and routes its I/O to the buses.
#pragma once

#include <linux/kvm.h>
#include <sys/types.h>

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

/// 32-bit protected mode with flat segments, paging off: the PVH boot protocol.
struct ProtectedModeStart {
  GuestAddr rip;
  GuestAddr rbx;  ///< the start info
};

/// 64-bit mode with flat segments, paging on: the 64-bit Linux boot protocol.
struct LongModeStart {
  GuestAddr rip;
  GuestAddr rsi;  ///< the boot parameters
  GuestAddr cr3;  ///< page tables, in guest memory already
  AddrRange gdt;  ///< in guest memory: code at 0x10, data at 0x18, a TSS at 0x20
};

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
  void set_start(const ProtectedModeStart& start);
  void set_start(const LongModeStart& start);

  /// Runs guest code until something happens that the buses cannot answer. When it returns, the
  /// instruction that made the last exit is complete, so the state may be saved.
  VcpuExit run(Buses& buses) noexcept;
  /// Makes run() return Interrupted soon; if no thread is in it, the next run() does so at once.
  /// Change first what the vCPU thread looks at afterwards. Any thread; never blocks.
  void kick() noexcept;

  /// Throws std::system_error.
  VcpuState save() const;
  /// Into a vCPU that never ran. Returns the MSRs that KVM would not take, among them the TSC if it
  /// leaps by more than a second. Throws ConfigError when
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
  bool waits_for_start() const noexcept;
  void port_io(Buses& buses) noexcept;
  void memory_io(Buses& buses) noexcept;
  VcpuExit explain_exit() const noexcept;
  /// 0 when KVM does not tell.
  uint32_t tsc_khz() const noexcept;
  std::vector<Msr> read_msrs() const;
  void desynchronise_tsc(std::span<const Msr> msrs);
  std::vector<RefusedMsr> write_msrs(std::vector<Msr> msrs);
  void restore_tsc_rate(uint32_t saved_khz);
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
