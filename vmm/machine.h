// The machine: every part of it, put together from a MachineConfig, in start-up order.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kvm/bus.h"
#include "kvm/irq_router.h"
#include "kvm/kvm.h"
#include "kvm/memory.h"
#include "kvm/pit.h"
#include "kvm/uring_loop.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "pci/host_bridge.h"
#include "vmm/config.h"
#include "vmm/events.h"
#include "vmm/legacy_devices.h"
#include "vmm/machine_control.h"
#include "vmm/pci_device.h"
#include "vmm/vcpu_threads.h"

namespace ringlet {

/// Built by the main thread; from start() on vCPU threads and the I/O loop own their parts, see
/// the members. Members are in start-up order, so destruction is shutdown.
class Machine final : public MachineControl, public MachineEvents {
 public:
  /// Opens all files, takes all host resources and loads the kernel: whatever cannot be had is
  /// found here. Throws ConfigError, HostError and std::system_error.
  explicit Machine(const MachineConfig& config);
  ~Machine() override;

  void start() override;
  int outcome_fd() const override { return outcome_fd_.fd(); }
  Outcome outcome() const override;
  void press_power_button() override;
  void stop() override;

  /// Changes to CPUID that KVM did not follow.
  const std::vector<CpuidChange>& forced_cpuid() const { return forced_cpuid_; }
  /// Leaves the guest on all vCPUs, or enters it again. Main thread.
  void pause() { threads_->pause(); }
  void resume() { threads_->resume(); }

  /// From devices, on vCPU threads or the I/O loop.
  void guest_request(GuestRequest request, uint8_t status) noexcept override;

 private:
  void add_devices(const MachineConfig& config);
  void load_guest(const MachineConfig& config);
  void make_vcpus(const MachineConfig& config);
  void vcpu_left(Vcpu& vcpu, const VcpuExit& exit);
  void finish(Outcome outcome) noexcept;

  Kvm kvm_;
  GuestMemory memory_;
  AddrRange window64_;  // for BARs above RAM
  Vm vm_;
  IrqRouter interrupts_;
  KvmDoorbells doorbells_;
  Buses buses_;
  LatePit pit_;
  std::vector<std::unique_ptr<UringLoop>> loops_;  // the first has the PC's own devices as well
  const CpuList io_cpus_;
  HostBridge bridge_;
  std::unique_ptr<LegacyDevices> legacy_;
  std::vector<std::unique_ptr<PciDevice>> devices_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<CpuidChange> forced_cpuid_;

  EventFd outcome_fd_;
  mutable std::mutex outcome_mutex_;
  Outcome outcome_;

  std::vector<std::unique_ptr<IoThread>> io_threads_;  // by loop
  std::unique_ptr<VcpuThreads> threads_;
};

}  // namespace ringlet
