// What to tell the user when KVM or the processor cannot go on with a guest.
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "kvm/ioctl.h"
#include "kvm/vcpu.h"

namespace ringlet {
namespace {

/// The longest instruction of x86.
constexpr size_t kMaxInstruction = 15;

std::string describe(const VcpuExit& exit) {
  using enum VcpuExit::Kind;
  switch (exit.kind) {
    case InternalError:
      return fmt::format("KVM internal error, suberror {}{}", exit.detail,
                         exit.detail == KVM_INTERNAL_ERROR_EMULATION
                             ? " (an instruction that KVM cannot emulate)"
                             : "");
    case FailedEntry:
      return fmt::format("the processor refused to enter the guest, reason {:#x}", exit.detail);
    case HostError:
      return fmt::format("KVM_RUN failed: {}", std::strerror(static_cast<int>(exit.detail)));
    case Shutdown: return "triple fault";
    case Unexpected: return fmt::format("unexpected exit, reason {}", exit.detail);
    default: return "stopped";
  }
}

std::string describe(const char* name, const kvm_segment& segment) {
  return fmt::format("{} {:04x} base {:016x} limit {:08x} type {:x} dpl {} db {} l {} {}", name,
                     segment.selector, segment.base, segment.limit, segment.type, segment.dpl,
                     segment.db, segment.l, segment.present != 0 ? "present" : "absent");
}

}  // namespace

std::string Vcpu::code_at(uint64_t address) const {
  std::string text;
  for (size_t i = 0; i < kMaxInstruction; ++i) {
    kvm_translation translation{};
    translation.linear_address = address + i;
    if (kvm_ioctl(fd_.get(), KVM_TRANSLATE, &translation) < 0 || translation.valid == 0) break;
    const auto byte = vm_.memory().read<uint8_t>(GuestAddr(translation.physical_address));
    if (!byte) break;
    text += fmt::format(" {:02x}", *byte);
  }
  return text.empty() ? " (not in memory)" : text;
}

std::vector<std::string> Vcpu::describe_failure(const VcpuExit& exit) const {
  std::vector<std::string> lines{fmt::format("vCPU {}: {}", id_, describe(exit))};
  if (exit.kind == VcpuExit::Kind::HostError && exit.detail == EAGAIN) {  // the guest is innocent
    lines.front() +=
        "; KVM finds no thread of its own, a limit (ulimit -u, pids.max of the control "
        "group) is reached";
    return lines;
  }
  kvm_regs r{};
  kvm_sregs s{};
  if (kvm_ioctl(fd_.get(), KVM_GET_REGS, &r) < 0 || kvm_ioctl(fd_.get(), KVM_GET_SREGS, &s) < 0) {
    lines.push_back(fmt::format("its registers cannot be read: {}", std::strerror(errno)));
    return lines;
  }
  lines.push_back(fmt::format("rip {:016x} rsp {:016x} rflags {:08x}", r.rip, r.rsp, r.rflags));
  lines.push_back(
      fmt::format("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx));
  lines.push_back(
      fmt::format("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}", r.rsi, r.rdi, r.rbp, r.r8));
  lines.push_back(
      fmt::format("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}", r.r9, r.r10, r.r11, r.r12));
  lines.push_back(fmt::format("r13 {:016x} r14 {:016x} r15 {:016x}", r.r13, r.r14, r.r15));
  lines.push_back(fmt::format("cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} efer {:x}", s.cr0,
                              s.cr2, s.cr3, s.cr4, s.efer));
  lines.push_back(describe("cs", s.cs));
  lines.push_back(describe("ss", s.ss));
  lines.push_back(describe("ds", s.ds));
  lines.push_back(describe("tr", s.tr));
  lines.push_back(fmt::format("gdt {:016x} limit {:04x}, idt {:016x} limit {:04x}", s.gdt.base,
                              s.gdt.limit, s.idt.base, s.idt.limit));
  lines.push_back("code at rip:" + code_at(s.cs.base + r.rip));
  return lines;
}

}  // namespace ringlet
