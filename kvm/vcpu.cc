// A virtual CPU: runs guest code on the calling thread and routes its I/O to the buses.
#include "kvm/vcpu.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cassert>
#include <csignal>
#include <mutex>
#include <span>

#include <unistd.h>

#include "kvm/error.h"
#include "kvm/ioctl.h"

namespace ringlet {
namespace {

/// The signal that kicks vCPU threads out of KVM_RUN, and nothing else. Chosen here only.
int kick_signal() {
  return SIGRTMIN;
}

/// The signal must have a handler, or it would end the process; and none that restarts KVM_RUN.
void install_kick_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    check(::sigaction(kick_signal(), &action, nullptr), "sigaction for the vCPU kick");
  });
}

/// Lets the kick through on the calling thread, whatever mask it inherited; returns its id. Twice
/// a system call for the first run() of each thread, then none.
pid_t prepare_this_thread() noexcept {
  static thread_local const pid_t thread = [] {
    sigset_t kick;
    ::sigemptyset(&kick);
    ::sigaddset(&kick, kick_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
    return static_cast<pid_t>(::syscall(SYS_gettid));
  }();
  return thread;
}

kvm_segment flat_segment(uint16_t selector, uint8_t type) {
  return {.base = 0,
          .limit = 0xffff'ffff,
          .selector = selector,
          .type = type,
          .present = 1,
          .dpl = 0,
          .db = 1,
          .s = 1,
          .l = 0,
          .g = 1,
          .avl = 0,
          .unusable = 0,
          .padding = 0};
}

constexpr uint8_t kCodeSegment = 0xb;  // execute, read, accessed
constexpr uint8_t kDataSegment = 0x3;  // read, write, accessed
constexpr uint8_t kBusyTss = 0xb;
constexpr uint64_t kReservedFlag = 0x2;  // of RFLAGS, always set
constexpr uint64_t kProtectionEnable = 0x1;
constexpr uint64_t kExtensionType = 0x10;  // of CR0, always set
constexpr uint64_t kPaging = 0x8000'0000;
constexpr uint64_t kPhysicalAddressExtension = 0x20;
constexpr uint64_t kLongModeActive = 0x500;  // EFER.LME and EFER.LMA

/// Ring 0 with flat segments and a task register, as both boot protocols want them. A processor
/// in long mode refuses to run without a TSS, though nobody looks into this one.
void set_flat_segments(kvm_sregs& sregs) {
  sregs.cs = flat_segment(0x10, kCodeSegment);
  for (kvm_segment* segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
    *segment = flat_segment(0x18, kDataSegment);
  }
  sregs.tr = {.base = 0,
              .limit = 0x67,
              .selector = 0,
              .type = kBusyTss,
              .present = 1,
              .dpl = 0,
              .db = 0,
              .s = 0,
              .l = 0,
              .g = 0,
              .avl = 0,
              .unusable = 0,
              .padding = 0};
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
}

/// How often in a row KVM may have a runnable vCPU try again. Once is usual, as its start-up
/// message comes; more only when others send it further ones meanwhile.
constexpr unsigned kMaxRefusals = 1000;

}  // namespace

void Vcpu::Unmap::operator()(kvm_run* run) const noexcept {
  ::munmap(run, size);
}

Vcpu::Vcpu(const Vm& vm, uint32_t id)
    : vm_(vm),
      id_(id),
      fd_(check(kvm_ioctl(vm.fd(), KVM_CREATE_VCPU, id), "KVM_CREATE_VCPU")),
      run_(nullptr, Unmap{vm.kvm().run_size()}) {
  void* const run =
      ::mmap(nullptr, vm.kvm().run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (run == MAP_FAILED) throw_errno("mmap of a vCPU's kvm_run");
  run_.reset(static_cast<kvm_run*>(run));
  install_kick_handler();
}

void Vcpu::set_cpuid(const CpuidTable& table) {
  KvmTable<KvmTableHead, kvm_cpuid_entry2> cpuid(table.size());
  std::ranges::copy(table, cpuid.entries().begin());
  check(kvm_ioctl(fd_.get(), kSetCpuid2, cpuid.get()), "KVM_SET_CPUID2");
}

CpuidTable Vcpu::cpuid() const {
  constexpr uint32_t kMaxEntries = 256;  // KVM_MAX_CPUID_ENTRIES
  KvmTable<KvmTableHead, kvm_cpuid_entry2> cpuid(kMaxEntries);
  check(kvm_ioctl(fd_.get(), kGetCpuid2, cpuid.get()), "KVM_GET_CPUID2");
  const auto entries = cpuid.entries();
  return {entries.begin(), entries.end()};
}

void Vcpu::set_start(const ProtectedModeStart& start) {
  kvm_sregs sregs{};
  check(kvm_ioctl(fd_.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  set_flat_segments(sregs);
  sregs.gdt = {};
  sregs.idt = {};
  sregs.cr0 = kProtectionEnable | kExtensionType;
  sregs.cr4 = 0;
  sregs.efer = 0;
  check(kvm_ioctl(fd_.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = start.rip.value();
  regs.rbx = start.rbx.value();
  regs.rflags = kReservedFlag;
  check(kvm_ioctl(fd_.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

void Vcpu::set_start(const LongModeStart& start) {
  kvm_sregs sregs{};
  check(kvm_ioctl(fd_.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  set_flat_segments(sregs);
  sregs.cs.l = 1;
  sregs.cs.db = 0;
  sregs.tr.selector = 0x20;
  sregs.gdt = {
      .base = start.gdt.base, .limit = static_cast<uint16_t>(start.gdt.size - 1), .padding = {}};
  sregs.idt = {};
  sregs.cr0 = kProtectionEnable | kExtensionType | kPaging;
  sregs.cr3 = start.cr3.value();
  sregs.cr4 = kPhysicalAddressExtension;
  sregs.efer = kLongModeActive;
  check(kvm_ioctl(fd_.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = start.rip.value();
  regs.rsi = start.rsi.value();
  regs.rflags = kReservedFlag;
  check(kvm_ioctl(fd_.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

void Vcpu::kick() noexcept {
  // Who comes first? A kicker sets the flag and then looks for a thread; run() names its thread
  // and then lets KVM look at the flag. In a total order of these four at least one sees the
  // other, so a kick is never lost. The signal is for a thread that is in the guest already.
  std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_seq_cst);
  const pid_t thread = thread_.load(std::memory_order_seq_cst);
  // A thread that has left run() meanwhile gets a signal that does nothing.
  if (thread != 0) ::syscall(SYS_tgkill, ::getpid(), thread, kick_signal());
}

VcpuExit Vcpu::run(Buses& buses) noexcept {
  thread_.store(prepare_this_thread(), std::memory_order_seq_cst);
  const VcpuExit exit = run_until_exit(buses);
  thread_.store(0, std::memory_order_seq_cst);
  return exit;
}

bool Vcpu::waits_for_start() const noexcept {
  kvm_mp_state state{};
  return kvm_ioctl(fd_.get(), KVM_GET_MP_STATE, &state) == 0 &&
         state.mp_state != KVM_MP_STATE_RUNNABLE;
}

VcpuExit Vcpu::run_until_exit(Buses& buses) noexcept {
  unsigned refusals = 0;
  for (;;) {
    if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) {
      const int error = errno;
      const bool kicked = std::atomic_ref(run_->immediate_exit).load() != 0;
      // A vCPU that waits for its start-up message slept in KVM and has something to look at. But
      // KVM also says so, before it looks at immediate_exit, for want of a thread of its own.
      const bool again = error == EAGAIN;
      if (again && !kicked && (waits_for_start() || ++refusals <= kMaxRefusals)) continue;
      if (error != EINTR && !(again && kicked)) {
        return {.kind = VcpuExit::Kind::HostError, .detail = static_cast<uint64_t>(error)};
      }
      // KVM finishes the I/O of the last exit before it looks at immediate_exit or signals.
      // Cleared before the caller looks at what the kicker changed.
      std::atomic_ref(run_->immediate_exit).exchange(0, std::memory_order_seq_cst);
      return {.kind = VcpuExit::Kind::Interrupted, .detail = 0};
    }
    refusals = 0;
    switch (run_->exit_reason) {
      case KVM_EXIT_IO: port_io(buses); break;
      case KVM_EXIT_MMIO: memory_io(buses); break;
      default: return explain_exit();
    }
  }
}

void Vcpu::port_io(Buses& buses) noexcept {
  const auto& io = run_->io;
  assert(io.data_offset <= vm_.kvm().run_size());
  const size_t length = size_t{io.size} * io.count;
  assert(length <= vm_.kvm().run_size() - io.data_offset);
  const std::span data(static_cast<std::byte*>(static_cast<void*>(run_.get())) + io.data_offset,
                       length);
  // A string instruction brings `count` accesses to the same port.
  const std::lock_guard lock(buses.mutex);
  for (size_t at = 0; at < length; at += io.size) {
    if (io.direction == KVM_EXIT_IO_OUT) {
      buses.port.write(io.port, data.subspan(at, io.size));
    } else {
      buses.port.read(io.port, data.subspan(at, io.size));
    }
  }
}

void Vcpu::memory_io(Buses& buses) noexcept {
  auto& mmio = run_->mmio;
  assert(mmio.len <= sizeof mmio.data);
  const std::span data = std::as_writable_bytes(std::span(mmio.data)).first(mmio.len);
  const std::lock_guard lock(buses.mutex);
  if (mmio.is_write != 0) {
    buses.mmio.write(mmio.phys_addr, data);
  } else {
    buses.mmio.read(mmio.phys_addr, data);
  }
}

VcpuExit Vcpu::explain_exit() const noexcept {
  using enum VcpuExit::Kind;
  const VcpuExit unexpected{.kind = Unexpected, .detail = run_->exit_reason};
  switch (run_->exit_reason) {
    case KVM_EXIT_SHUTDOWN: return {.kind = Shutdown, .detail = 0};
    case KVM_EXIT_DEBUG: return {.kind = Debug, .detail = 0};
    case KVM_EXIT_INTERNAL_ERROR: return {.kind = InternalError, .detail = run_->internal.suberror};
    case KVM_EXIT_FAIL_ENTRY:
      return {.kind = FailedEntry, .detail = run_->fail_entry.hardware_entry_failure_reason};
    case KVM_EXIT_SYSTEM_EVENT:
      switch (run_->system_event.type) {
        case KVM_SYSTEM_EVENT_SHUTDOWN: return {.kind = SystemPoweroff, .detail = 0};
        case KVM_SYSTEM_EVENT_RESET: return {.kind = SystemReset, .detail = 0};
        case KVM_SYSTEM_EVENT_CRASH: return {.kind = SystemCrash, .detail = 0};
        default: return unexpected;
      }
    default: return unexpected;
  }
}

}  // namespace ringlet
