// Tests of vCPUs with a few instructions of guest code: routing of exits, failures, kicks.
#include <atomic>
#include <csignal>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/machine/tiny_guest.h"

// Guest code: 32-bit, loaded at TinyGuest::kCode.
asm(R"(
  .pushsection .rodata
  .code32
ports_begin:
  mov $0x100, %edx
  mov $0x89abcdef, %eax
  out %al, %dx
  out %ax, %dx
  out %eax, %dx
  xor %eax, %eax
  in %dx, %al
  out %eax, $0x80
  in %dx, %ax
  out %eax, $0x80
  in %dx, %eax
  out %eax, $0x80
  mov $0x300, %edx              # nothing is there
  in %dx, %eax
  out %eax, $0x80
  mov $0x1fe, %edx              # the journal ends within these four bytes
  in %dx, %eax
  out %eax, $0x80
  out %al, $0xf4
ports_end:

mmio_begin:
  mov $0x89abcdef, %eax
  mov $0xd0000000, %edi
  mov %al, 1(%edi)
  mov %ax, 2(%edi)
  mov %eax, 4(%edi)
  xor %eax, %eax
  mov 1(%edi), %al
  out %eax, $0x80
  mov 2(%edi), %ax
  out %eax, $0x80
  mov 4(%edi), %eax
  out %eax, $0x80
  mov 0x2000(%edi), %eax        # nothing is there
  out %eax, $0x80
  out %al, $0xf4
mmio_end:

strings_begin:
  cld
  mov $0x100, %edx
  mov $0x2000, %esi
  mov $5, %ecx
  rep outsb
  mov $2, %ecx
  rep outsl
  mov $0x3000, %edi
  mov $3, %ecx
  rep insw
  out %al, $0xf4
strings_end:

triple_fault_begin:
  lidt 0x2000                   # zeroes: a table with room for no vector
  ud2
triple_fault_end:

refused_begin:
  mov $0x1234, %ebx
  popcnt 0xd0000000, %eax       # KVM's emulator, which does MMIO, does not know it
refused_end:

spin_begin:
  jmp spin_begin
spin_end:

halt_begin:
  hlt
  jmp halt_begin
halt_end:

ask_begin:
  mov $0x100, %edx
1: in %dx, %al
  jmp 1b
ask_end:

answer_begin:
  mov $0x100, %edx
  in %dx, %al
  mov %al, 0x2000
  out %al, $0xf4
  in %dx, %al
answer_end:

cpuid_begin:
  mov $1, %eax
  cpuid
  shr $31, %ecx                 # the hypervisor bit
  mov %ecx, %eax
  out %eax, $0x80
  shr $24, %ebx                 # the APIC id
  mov %ebx, %eax
  out %eax, $0x80
  mov $0x40000000, %eax
  cpuid
  mov %ebx, %eax
  out %eax, $0x80
  out %al, $0xf4
cpuid_end:
  .code64
  .popsection
)");

extern "C" {
extern const uint8_t ports_begin[], ports_end[];
extern const uint8_t mmio_begin[], mmio_end[];
extern const uint8_t strings_begin[], strings_end[];
extern const uint8_t triple_fault_begin[], triple_fault_end[];
extern const uint8_t refused_begin[], refused_end[];
extern const uint8_t spin_begin[], spin_end[];
extern const uint8_t halt_begin[], halt_end[];
extern const uint8_t ask_begin[], ask_end[];
extern const uint8_t answer_begin[], answer_end[];
extern const uint8_t cpuid_begin[], cpuid_end[];
}

namespace ringlet {
namespace {

using Kind = VcpuExit::Kind;
using Lines = std::vector<std::string>;
using Values = std::vector<uint32_t>;

TEST_CASE("port accesses of every width reach the port bus, and nothing reads as ones") {
  TinyGuest guest({ports_begin, ports_end});
  CHECK(guest.next_message());
  CHECK(guest.exit == VcpuExit{.kind = Kind::Interrupted, .detail = 0});
  CHECK(guest.ports.take() == Lines{"out 0x100 ef", "out 0x100 cdef", "out 0x100 89abcdef",
                                    "in 0x100", "in 0x100", "in 0x100"});
  CHECK(guest.take_values() == Values{0xa1, 0xa2a1, 0xa4a3a2a1, 0xffffffff, 0xffffffff});
}

TEST_CASE("memory accesses outside of RAM reach the MMIO bus, and nothing reads as ones") {
  TinyGuest guest({mmio_begin, mmio_end});
  CHECK(guest.next_message());
  CHECK(guest.mmio.take() == Lines{"out 0xd0000001 ef", "out 0xd0000002 cdef",
                                   "out 0xd0000004 89abcdef", "in 0xd0000001", "in 0xd0000002",
                                   "in 0xd0000004"});
  CHECK(guest.take_values() == Values{0xa1, 0xa2a1, 0xa4a3a2a1, 0xffffffff});
}

TEST_CASE("string instructions reach the bus as one access for each element") {
  TinyGuest guest({strings_begin, strings_end});
  guest.write(0x2000, std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13});
  CHECK(guest.next_message());
  CHECK(guest.ports.take() == Lines{"out 0x100 01", "out 0x100 02", "out 0x100 03", "out 0x100 04",
                                    "out 0x100 05", "out 0x100 09080706", "out 0x100 0d0c0b0a",
                                    "in 0x100", "in 0x100", "in 0x100"});
  CHECK(guest.read(0x3000, 8) == std::vector<uint8_t>{0xa1, 0xa2, 0xa1, 0xa2, 0xa1, 0xa2, 0, 0});
}

TEST_CASE("a triple fault ends the run as a shutdown") {
  TinyGuest guest({triple_fault_begin, triple_fault_end});
  CHECK_FALSE(guest.next_message());
  CHECK(guest.exit == VcpuExit{.kind = Kind::Shutdown, .detail = 0});
}

TEST_CASE("an instruction that KVM cannot emulate is shown with registers and bytes") {
  TinyGuest guest({refused_begin, refused_end});
  CHECK_FALSE(guest.next_message());
  REQUIRE(guest.exit == VcpuExit{.kind = Kind::InternalError, .detail = 1});
  const Lines lines = guest.vcpu.describe_failure(guest.exit);
  REQUIRE(lines.size() == 13);
  CHECK(lines[0] ==
        "vCPU 0: KVM internal error, suberror 1 (an instruction that KVM cannot emulate)");
  CHECK_THAT(lines[1], Catch::StartsWith("rip 0000000000001005 "));
  CHECK_THAT(lines[2], Catch::Contains("rbx 0000000000001234"));
  CHECK_THAT(lines[12], Catch::StartsWith("code at rip: f3 0f b8 05 00 00 00 d0"));
}

TEST_CASE("an instruction pointer outside of memory is shown without bytes") {
  TinyGuest guest({refused_begin, refused_end});
  guest.vcpu.set_start(
      ProtectedModeStart{.rip = GuestAddr(0x1'0000'0000 - 16), .rbx = GuestAddr(0)});
  const Lines lines = guest.vcpu.describe_failure({.kind = Kind::HostError, .detail = 14});
  REQUIRE(lines.size() == 13);
  CHECK(lines[0] == "vCPU 0: KVM_RUN failed: Bad address");
  CHECK(lines[12] == "code at rip: (not in memory)");
}

TEST_CASE("a kick before the run ends it at once, and only that one") {
  TinyGuest guest({ports_begin, ports_end});
  guest.vcpu.kick();
  CHECK(guest.vcpu.run(guest.buses).kind == Kind::Interrupted);
  CHECK(guest.ports.take().empty());
  CHECK(guest.next_message());
  CHECK(guest.ports.take().size() == 6);
}

TEST_CASE("when a run is over the instruction that ended it is complete") {
  TinyGuest guest({answer_begin, answer_end});
  REQUIRE(guest.next_message());
  // RIP is behind the OUT that sent the message (5 + 1 + 5 + 2 bytes), not at it.
  CHECK(guest.vcpu.save().regs.rip == 0x100d);
  CHECK((guest.vcpu.save().regs.rax & 0xff) == 0xa1);
}

/// Kicks a vCPU that runs on a thread of its own and waits for each kick to be noticed. A lost
/// kick leaves it waiting for ever, so a watchdog kicks once more and is noticed.
int kicks_noticed(TinyGuest& guest, int rounds) {
  std::atomic<int> asked{0};
  std::atomic<int> seen{0};
  std::thread runner([&] {
    while (seen.load() < rounds) {
      guest.vcpu.run(guest.buses);
      seen.store(asked.load());
      seen.notify_one();
    }
  });
  for (int round = 1; round <= rounds; ++round) {
    asked.store(round);
    guest.vcpu.kick();
    for (int now = seen.load(); now < round; now = seen.load()) seen.wait(now);
  }
  runner.join();
  return seen.load();
}

TEST_CASE("kicks of a spinning vCPU are never lost") {
  TinyGuest guest({spin_begin, spin_end});
  CHECK(kicks_noticed(guest, 300) == 300);
}

TEST_CASE("kicks of a halted vCPU are never lost") {
  TinyGuest guest({halt_begin, halt_end});
  CHECK(kicks_noticed(guest, 300) == 300);
}

TEST_CASE("kicks of a vCPU that is busy with exits are never lost") {
  TinyGuest guest({ask_begin, ask_end});
  CHECK(kicks_noticed(guest, 300) == 300);
}

TEST_CASE("kicks of a vCPU that waits for its start-up message are never lost") {
  TinyGuest guest({halt_begin, halt_end});
  Vcpu second(guest.vm, 1);
  const Watchdog watchdog(second);
  std::atomic<bool> stopped{false};
  std::thread runner([&] {
    CHECK(second.run(guest.buses).kind == Kind::Interrupted);
    stopped.store(true);
  });
  second.kick();
  runner.join();
  CHECK(stopped.load());
}

TEST_CASE("a kick gets through to a thread that inherited a full signal mask") {
  TinyGuest guest({spin_begin, spin_end});
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  CHECK(kicks_noticed(guest, 10) == 10);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE("the guest sees a hypervisor, its APIC id and KVM's signature") {
  TinyGuest guest({cpuid_begin, cpuid_end});
  CHECK(guest.next_message());
  CHECK(guest.take_values() == Values{1, 0, 0x4b4d564b});
}

TEST_CASE("KVM takes the CPUID table of every vCPU of a large machine") {
  TinyGuest guest({halt_begin, halt_end});
  Vcpu last(guest.vm, 63);
  last.set_cpuid(make_cpuid(guest.kvm.supported_cpuid(),
                            {.apic_id = 63, .cpu_count = 64, .tsc_deadline = true, .changes = {}}));
  const CpuidTable effective = last.cpuid();
  REQUIRE(find_cpuid(effective, 0x1, 0) != nullptr);
  CHECK(find_cpuid(effective, 0x1, 0)->ebx >> 24 == 63);
}

}  // namespace
}  // namespace ringlet
