// Tests of moving a running guest: the counter guest keeps its count in every kind of state a VM
// has, and checks all of it at each tick, while it is moved from one VM to the next.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <catch2/catch.hpp>

#include "kvm/pit.h"
#include "tests/machine/run_ringlet.h"
#include "tests/machine/tiny_guest.h"
#include "vmm/acpi/tables.h"
#include "vmm/boot/loader.h"
#include "vmm/layout.h"
#include "vmm/legacy/small_ports.h"

namespace ringlet {
namespace {

using Catch::Matchers::EndsWith;

constexpr uint32_t kTsc = 0x10;
constexpr std::array kRam{AddrRange{0, 16 * kMiB}};
constexpr VmAddresses kAddresses{.identity_map = GuestAddr(kKvmIdentityMap.base),
                                 .tss = GuestAddr(kKvmTss.base)};

/// One vCPU, RAM and the debug ports: all that the counter needs.
class CounterVm final : public MachineEvents {
 public:
  CounterVm() : memory_(kRam, {}), vm_(kvm_, memory_, kAddresses), irqs_(vm_), vcpu_(vm_, 0) {
    REQUIRE(buses_.port.insert({0xe9, 1}, console_));
    REQUIRE(buses_.port.insert({0xf4, DebugExit::kPorts}, exit_));
    vcpu_.set_cpuid(make_cpuid(kvm_.supported_cpuid(), {}));
  }

  void boot(const std::string& command_line) {
    const AcpiTables tables =
        build_acpi({.apic_ids = {0}, .window64 = {4 * kGiB, 4 * kGiB}, .has_serial = false});
    const BootResult loaded =
        load_kernel({.kernel = BootFile::open("kernel", RINGLET_GUESTS "/counter"),
                     .initrd = std::nullopt,
                     .command_line = command_line,
                     .rsdp = GuestAddr(tables.rsdp)},
                    memory_);
    REQUIRE(memory_.write(GuestAddr(kAcpiTables.base), tables.blob));
    std::visit([this](const auto& start) { vcpu_.set_start(start); }, loaded.start);
  }

  /// Runs until the guest has printed `lines` more lines, or ends.
  void run_for(size_t lines) {
    lines_left_ = lines;
    const Watchdog watchdog(vcpu_);
    CHECK(vcpu_.run(buses_).kind == VcpuExit::Kind::Interrupted);
    CHECK((lines_left_ == 0 || ended()));
  }

  /// Takes over where `from` is. Returns the MSRs that were refused.
  std::vector<RefusedMsr> carry_on(const CounterVm& from) {
    std::vector<std::byte> ram(kRam[0].size);
    REQUIRE(from.memory_.read(GuestAddr(0), ram));
    REQUIRE(memory_.write(GuestAddr(0), ram));
    vm_.restore(from.vm_.save());
    return vcpu_.restore(from.vcpu_.save());
  }

  const std::string& printed() const { return printed_; }
  bool ended() const { return exit_status_.has_value(); }
  std::optional<uint8_t> exit_status() const { return exit_status_; }

  void guest_request(GuestRequest, uint8_t status) noexcept override {
    exit_status_ = status;
    vcpu_.kick();
  }

 private:
  void print(std::byte byte) {
    printed_.push_back(std::to_integer<char>(byte));
    if (printed_.back() == '\n' && --lines_left_ == 0) vcpu_.kick();
  }

  Kvm kvm_;
  GuestMemory memory_;
  Vm vm_;
  IrqRouter irqs_;
  Buses buses_;
  LatePit pit_{vm_, buses_.port};
  Vcpu vcpu_;
  DebugConsole console_{[this](std::byte byte) { print(byte); }};
  DebugExit exit_{*this};
  std::string printed_;
  size_t lines_left_ = 0;
  std::optional<uint8_t> exit_status_;
};

/// Runs the guest for 20 ticks, each pair of them in another VM. Returns what it printed in all.
std::string run_in_ten_vms(const std::string& options) {
  auto vm = std::make_unique<CounterVm>();
  vm->boot("ticks=20 " + options);
  vm->run_for(2);
  std::string printed = vm->printed();
  for (int i = 1; i < 10; ++i) {
    auto next = std::make_unique<CounterVm>();
    const std::vector<RefusedMsr> refused = next->carry_on(*vm);
    // On a busy host the TSC may leap by more than is allowed, and that is reported.
    CHECK(std::ranges::all_of(refused, [](const auto& msr) { return msr.index == kTsc; }));
    vm = std::move(next);
    vm->run_for(2);
    printed += vm->printed();
  }
  // "done" and the end.
  const size_t before = vm->printed().size();
  vm->run_for(2);
  CHECK(vm->exit_status() == std::optional<uint8_t>(1));
  return printed + vm->printed().substr(before);
}

constexpr const char* kTwentyTicks =
    "tick 1\ntick 2\ntick 3\ntick 4\ntick 5\ntick 6\ntick 7\ntick 8\ntick 9\ntick 10\n"
    "tick 11\ntick 12\ntick 13\ntick 14\ntick 15\ntick 16\ntick 17\ntick 18\ntick 19\ntick 20\n"
    "done\n";

TEST_CASE("a guest that waits for nothing carries on in the next VM, again and again") {
  CHECK(run_in_ten_vms("timer=none") == kTwentyTicks);
}

TEST_CASE("a local APIC's periodic timer goes on in the next VM") {
  CHECK(run_in_ten_vms("timer=apic") == kTwentyTicks);
}

TEST_CASE("a PIT's periodic timer goes on in the next VM") {
  CHECK(run_in_ten_vms("timer=pit") == kTwentyTicks);
}

TEST_CASE("kvmclock does not go back in the next VM") {
  CHECK(run_in_ten_vms("timer=none clock=kvm") == kTwentyTicks);
}

TEST_CASE("the binary runs the counter with each timer") {
  for (const char* timer : {"apic", "pit", "none"}) {
    const Ended end = run(guest("counter", std::string("ticks=20 clock=kvm timer=") + timer));
    CHECK(end.output == kTwentyTicks);
    CHECK(end.status == 1);
  }
}

}  // namespace
}  // namespace ringlet
