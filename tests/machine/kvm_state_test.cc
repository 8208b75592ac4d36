// Tests of saving a paused VM and carrying on with it in another.
#include <algorithm>
#include <array>
#include <cstring>

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "tests/machine/tiny_guest.h"

// Guest code: 32-bit, loaded at TinyGuest::kCode.
asm(R"(
  .pushsection .rodata
  .code32
carry_on_begin:
  mov $0x600, %eax                # CR4: OSFXSR, OSXMMEXCPT
  mov %eax, %cr4
  fxrstor 0x2000
  mov $0x175, %ecx                # IA32_SYSENTER_ESP
  mov $0xcafe, %eax
  mov $0, %edx
  wrmsr
  movl $0x1ff, 0xfee000f0         # local APIC: on, priority 0x10, timer masked with vector 0x41
  movl $0x10, 0xfee00080
  movl $0x10041, 0xfee00320
  mov $7, %ebx
  out %al, $0xf4                  # here it is saved
1: inc %ebx
  mov %ebx, %eax
  out %eax, $0x80
  cmp $10, %ebx
  jb 1b
  fxsave 0x3000
  mov $0x175, %ecx
  rdmsr
  out %eax, $0x80
  mov 0xfee00080, %eax
  out %eax, $0x80
  mov 0xfee00320, %eax
  out %eax, $0x80
  mov $0x21, %edx                 # the first PIC's interrupt mask
  in %dx, %al
  movzx %al, %eax
  out %eax, $0x80
  out %al, $0xf4
carry_on_end:

dirty_begin:
  mov %eax, 0x5000
  mov %eax, 0x100000
  out %al, $0xf4
  mov %eax, 0x7000
  out %al, $0xf4
dirty_end:
  .code64
  .popsection
)");

extern "C" {
extern const uint8_t carry_on_begin[], carry_on_end[];
extern const uint8_t dirty_begin[], dirty_end[];
}

namespace ringlet {
namespace {

constexpr size_t kFxsaveSize = 512;
constexpr size_t kRamSize = 2 << 20;
constexpr uint32_t kTsc = 0x10;

/// An FXSAVE image with XMM0 to XMM7 of recognisable bytes.
std::vector<uint8_t> fpu_image() {
  std::vector<uint8_t> image(kFxsaveSize);
  image[0] = 0x7f;  // FCW 0x037f
  image[1] = 0x03;
  image[24] = 0x80;  // MXCSR 0x1f80
  image[25] = 0x1f;
  for (size_t i = 0; i < 128; ++i) image[160 + i] = static_cast<uint8_t>(0x30 + i);
  return image;
}

std::vector<uint8_t> xmm_registers(const std::vector<uint8_t>& image) {
  return {image.begin() + 160, image.begin() + 288};
}

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// Brings the guest to the point where it is saved.
void run_to_pause(TinyGuest& guest) {
  guest.write(0x2000, fpu_image());
  REQUIRE(guest.next_message());
}

void move_over(TinyGuest& from, TinyGuest& to) {
  to.write(0, from.read(0, kRamSize));
  to.vm.restore(from.vm.save());
  const std::vector<RefusedMsr> refused = to.vcpu.restore(from.vcpu.save());
  // A slow run may see the TSC leap; see the test of that.
  CHECK(std::ranges::all_of(refused, [](const auto& msr) { return msr.index == kTsc; }));
}

TEST_CASE("a paused guest carries on in a new VM") {
  TinyGuest first({carry_on_begin, carry_on_end});
  run_to_pause(first);
  VmState devices = first.vm.save();
  devices.irqchips[0].chip.pic.imr = 0xa5;
  first.vm.restore(devices);

  TinyGuest second({});
  move_over(first, second);
  CHECK(second.next_message());
  CHECK(second.take_values() == std::vector<uint32_t>{8, 9, 10, 0xcafe, 0x10, 0x10041, 0xa5});
  CHECK(xmm_registers(second.read(0x3000, kFxsaveSize)) == xmm_registers(fpu_image()));
}

TEST_CASE("a restored vCPU saves as what it was restored from") {
  TinyGuest first({carry_on_begin, carry_on_end});
  run_to_pause(first);
  TinyGuest second({});
  move_over(first, second);
  const VcpuState a = first.vcpu.save();
  const VcpuState b = second.vcpu.save();
  CHECK(same_bytes(a.regs, b.regs));
  CHECK(same_bytes(a.sregs, b.sregs));
  CHECK(a.xsave == b.xsave);
  CHECK(same_bytes(a.xcrs, b.xcrs));
  CHECK(same_bytes(a.debugregs, b.debugregs));
  CHECK(same_bytes(a.lapic, b.lapic));
  CHECK(same_bytes(a.mp_state, b.mp_state));
  CHECK(same_bytes(a.events, b.events));
  CHECK(a.tsc_khz == b.tsc_khz);
  CHECK(a.cpuid.size() == b.cpuid.size());
  // All but those that count time: the TSC, and where KVM is built with Hyper-V's two of its own.
  const auto others = [](std::vector<Msr> msrs) {
    std::erase_if(msrs, [](const Msr& msr) {
      constexpr uint32_t kHvVpRuntime = 0x4000'0010;
      constexpr uint32_t kHvTimeRefCount = 0x4000'0020;
      return msr.index == kTsc || msr.index == kHvVpRuntime || msr.index == kHvTimeRefCount;
    });
    return msrs;
  };
  CHECK(others(a.msrs) == others(b.msrs));
}

TEST_CASE("a restored VM saves as what it was restored from, and its clock goes on") {
  TinyGuest first({carry_on_begin, carry_on_end});
  run_to_pause(first);
  VmState saved = first.vm.save();
  saved.clock_ns = 3'600'000'000'000;
  TinyGuest second({});
  second.vm.restore(saved);
  const VmState again = second.vm.save();
  CHECK(same_bytes(saved.irqchips[0].chip.pic, again.irqchips[0].chip.pic));
  CHECK(same_bytes(saved.irqchips[1].chip.pic, again.irqchips[1].chip.pic));
  CHECK(same_bytes(saved.irqchips[2].chip.ioapic, again.irqchips[2].chip.ioapic));
  CHECK_FALSE(saved.pit);
  CHECK_FALSE(again.pit);
  CHECK(again.clock_ns >= 3'600'000'000'000);
  CHECK(again.clock_ns < 3'660'000'000'000);
}

TEST_CASE("the TSC carries on from the saved value, or the report says that it does not") {
  TinyGuest guest({});
  VcpuState state = guest.vcpu.save();
  state.msrs = {{.index = kTsc, .value = 1'000'000'000'000'000}};
  const std::vector<RefusedMsr> report = guest.vcpu.restore(state);
  const VcpuState again = guest.vcpu.save();
  const auto tsc = std::ranges::find(again.msrs, kTsc, &Msr::index);
  REQUIRE(tsc != again.msrs.end());
  const bool carries_on = tsc->value >= 1'000'000'000'000'000 && tsc->value < 1'001'000'000'000'000;
  const bool reported = std::ranges::count(report, kTsc, &RefusedMsr::index) == 1;
  CHECK(carries_on != reported);
}

TEST_CASE("an MSR that KVM refuses is reported, and those behind it are set") {
  TinyGuest guest({});
  VcpuState state = guest.vcpu.save();
  state.msrs = {{.index = 0x1234'5678, .value = 1}, {.index = 0x175, .value = 0xbeef}};
  CHECK(guest.vcpu.restore(state) ==
        std::vector<RefusedMsr>{{.index = 0x1234'5678, .wanted = 1, .current = std::nullopt}});
  const VcpuState again = guest.vcpu.save();
  CHECK(std::ranges::count(again.msrs, Msr{.index = 0x175, .value = 0xbeef}) == 1);
}

TEST_CASE("a TSC rate that this host cannot give is refused") {
  TinyGuest guest({});
  VcpuState state = guest.vcpu.save();
  state.tsc_khz = 0xffff'ffff;
  CHECK_THROWS_AS(guest.vcpu.restore(state), ConfigError);
}

TEST_CASE("processor state that this host has no room for is refused") {
  TinyGuest guest({});
  VcpuState state = guest.vcpu.save();
  state.xsave.resize(state.xsave.size() + 64);
  CHECK_NOTHROW(guest.vcpu.restore(state));
  state.xsave.back() = std::byte{1};
  CHECK_THROWS_AS(guest.vcpu.restore(state), ConfigError);
}

TEST_CASE("KVM's dirty log has the pages that the guest wrote, each once") {
  TinyGuest guest({dirty_begin, dirty_end});
  guest.vm.log_dirty_pages(true);
  REQUIRE(guest.next_message());
  std::vector<uint64_t> pages = guest.vm.take_dirty_log(0);
  REQUIRE(pages.size() == 8);
  CHECK(pages[0] == 0x20);
  CHECK(pages[4] == 0x1);
  REQUIRE(guest.next_message());
  pages = guest.vm.take_dirty_log(0);
  CHECK(pages[0] == 0x80);
  CHECK(pages[4] == 0);
}

}  // namespace
}  // namespace ringlet
