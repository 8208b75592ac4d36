// Tests of the CPUID policy, the topology leaves and the user's changes.
#include "kvm/cpuid.h"

#include <algorithm>
#include <array>

#include <catch2/catch.hpp>

#include "kvm/error.h"

namespace ringlet {
namespace {

constexpr uint32_t kAll = 0xffff'ffff;

kvm_cpuid_entry2 leaf(uint32_t function, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx) {
  return {.function = function,
          .index = 0,
          .flags = 0,
          .eax = eax,
          .ebx = ebx,
          .ecx = ecx,
          .edx = edx,
          .padding = {}};
}

kvm_cpuid_entry2 subleaf(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
                         uint32_t ecx, uint32_t edx) {
  return {.function = function,
          .index = index,
          .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
          .eax = eax,
          .ebx = ebx,
          .ecx = ecx,
          .edx = edx,
          .padding = {}};
}

/// "GenuineIntel", all features, three caches, the host's own topology.
CpuidTable intel() {
  return {leaf(0x0, 0x1f, 0x756e'6547, 0x6c65'746e, 0x4965'6e69),
          leaf(0x1, 0x0008'06ec, 0x1710'0800, kAll, kAll),
          subleaf(0x4, 0, 0x1c00'4121, 1, 2, 3),
          subleaf(0x4, 1, 0x1c00'4143, 1, 2, 3),
          subleaf(0x4, 2, 0x1c03'c163, 1, 2, 3),
          subleaf(0x4, 3, 0, 0, 0, 0),
          leaf(0x5, 0x40, 0x40, 0x3, 0x2000),
          subleaf(0x7, 0, 0, kAll, kAll, kAll),
          leaf(0xa, 0x0830'0805, 0, 0, 0x8604),
          subleaf(0xb, 0, 1, 2, 0x100, 0x17),
          subleaf(0xb, 1, 5, 24, 0x201, 0x17),
          leaf(0x4000'0000, 0x4000'0001, 0x4b4d'564b, 0x564b'4d56, 0x4d),
          leaf(0x4000'0001, 0x0100'7efb, 0, 0, 0),
          leaf(0x8000'0000, 0x8000'0008, 0, 0, 0),
          leaf(0x8000'0008, 0x3027, 0, 0, 0)};
}

/// "AuthenticAMD", all features.
CpuidTable amd() {
  return {leaf(0x0, 0x10, 0x6874'7541, 0x444d'4163, 0x6974'6e65),
          leaf(0x1, 0x00a0'0f11, 0x0008'0800, kAll, kAll),
          subleaf(0xb, 0, 0, 0, 0, 0),
          leaf(0x8000'0000, 0x8000'0022, 0, 0, 0),
          leaf(0x8000'0001, 0x00a0'0f11, 0, kAll, kAll),
          leaf(0x8000'0008, 0x3030, 0, 0x7007, 0),
          leaf(0x8000'000a, 1, 8, 0, 1),
          subleaf(0x8000'001d, 0, 0x0000'4121, 1, 2, 3),
          subleaf(0x8000'001d, 3, 0x0003'c163, 1, 2, 3),
          leaf(0x8000'001e, 7, 0x0107, 0x300, 0)};
}

kvm_cpuid_entry2 entry(const CpuidTable& table, uint32_t function, uint32_t index = 0) {
  const kvm_cpuid_entry2* const found = find_cpuid(table, function, index);
  REQUIRE(found != nullptr);
  return *found;
}

using Four = std::array<uint32_t, 4>;
Four registers(const CpuidTable& table, uint32_t function, uint32_t index = 0) {
  const kvm_cpuid_entry2 found = entry(table, function, index);
  return {found.eax, found.ebx, found.ecx, found.edx};
}

TEST_CASE("what a guest cannot use is hidden, and what it needs is shown") {
  const CpuidTable table = make_cpuid(intel(), {});
  // Off: MONITOR (3), VMX (5), PDCM (15), TSC deadline (24).
  CHECK(entry(table, 0x1).ecx == 0xfeff'7fd7);
  CHECK(entry(table, 0x7).ebx == 0xfdff'fffb);
  CHECK(entry(table, 0x7).ecx == 0xbfff'ffff);
  CHECK(find_cpuid(table, 0x5, 0) == nullptr);
  CHECK(find_cpuid(table, 0xa, 0) == nullptr);
  CHECK(entry(make_cpuid(amd(), {}), 0x8000'0001).ecx == 0xce7f'fff9);
  CHECK(find_cpuid(make_cpuid(amd(), {}), 0x8000'000a, 0) == nullptr);
}

TEST_CASE("x2APIC and the hypervisor bit are shown even where KVM does not list them") {
  CpuidTable supported = intel();
  supported[1].ecx = 0;
  CHECK(entry(make_cpuid(supported, {}), 0x1).ecx == 0x8020'0000);
}

TEST_CASE("the TSC deadline timer is shown when KVM has it") {
  CpuidTable supported = intel();
  supported[1].ecx = 0;
  const CpuidTable table = make_cpuid(supported, {.tsc_deadline = true, .changes = {}});
  CHECK(entry(table, 0x1).ecx == 0x8120'0000);
}

TEST_CASE("KVM's own leaves and entries without subleaves stay as they are") {
  const CpuidTable table = make_cpuid(intel(), {});
  CHECK(registers(table, 0x4000'0000) == Four{0x4000'0001, 0x4b4d'564b, 0x564b'4d56, 0x4d});
  CHECK(registers(table, 0x4000'0001) == Four{0x0100'7efb, 0, 0, 0});
}

TEST_CASE("all-zero answers are left out, as KVM gives them anyway") {
  CHECK(find_cpuid(make_cpuid(intel(), {}), 0x4, 3) == nullptr);
}

TEST_CASE("an Intel vCPU has its APIC id, and caches shared as in one socket of cores") {
  const CpuidTable table =
      make_cpuid(intel(), {.apic_id = 4, .cpu_count = 6, .tsc_deadline = false, .changes = {}});
  // APIC id 4, room for 8 ids, and the cache line size as it was.
  CHECK(entry(table, 0x1).ebx == 0x0408'0800);
  CHECK((entry(table, 0x1).edx & 0x1000'0000) != 0);
  CHECK(entry(table, 0x4, 0).eax == 0x1c00'0121);
  CHECK(entry(table, 0x4, 1).eax == 0x1c00'0143);
  CHECK(entry(table, 0x4, 2).eax == 0x1c01'c163);
  CHECK(registers(table, 0xb, 0) == Four{0, 1, 0x100, 4});
  CHECK(registers(table, 0xb, 1) == Four{3, 6, 0x201, 4});
  CHECK(registers(table, 0xb, 2) == Four{0, 0, 2, 4});
  CHECK(registers(table, 0x1f, 1) == Four{3, 6, 0x201, 4});
}

TEST_CASE("a single vCPU is one core that shares nothing") {
  const CpuidTable table = make_cpuid(intel(), {});
  CHECK(entry(table, 0x1).ebx == 0x0001'0800);
  CHECK((entry(table, 0x1).edx & 0x1000'0000) == 0);
  CHECK(entry(table, 0x4, 2).eax == 0x0000'0163);
  CHECK(registers(table, 0xb, 1) == Four{0, 1, 0x201, 0});
}

TEST_CASE("an AMD vCPU has its place in AMD's leaves too") {
  const CpuidTable table =
      make_cpuid(amd(), {.apic_id = 5, .cpu_count = 6, .tsc_deadline = false, .changes = {}});
  CHECK(entry(table, 0x1).ebx == 0x0506'0800);
  CHECK((entry(table, 0x8000'0001).ecx & 0x2) != 0);
  CHECK(entry(table, 0x8000'0008).ecx == 0x3005);
  CHECK(entry(table, 0x8000'001d, 0).eax == 0x0000'0121);
  CHECK(entry(table, 0x8000'001d, 3).eax == 0x0001'4163);
  CHECK(registers(table, 0x8000'001e) == Four{5, 5, 0, 0});
  CHECK(registers(table, 0xb, 1) == Four{3, 6, 0x201, 5});
  CHECK(find_cpuid(table, 0x1f, 0) == nullptr);
}

TEST_CASE("64 vCPUs fit every field") {
  const CpuidTable table =
      make_cpuid(intel(), {.apic_id = 63, .cpu_count = 64, .tsc_deadline = false, .changes = {}});
  CHECK(entry(table, 0x1).ebx == 0x3f40'0800);
  CHECK(entry(table, 0x4, 2).eax == 0xfc0f'c163);
  CHECK(registers(table, 0xb, 1) == Four{6, 64, 0x201, 63});
}

TEST_CASE("the user's changes come last") {
  const std::array changes{parse_cpuid_change("avx512f=off"), parse_cpuid_change("vmx=on"),
                           parse_cpuid_change("0x40000001,0,eax,0=off")};
  const CpuidTable table = make_cpuid(intel(), {.changes = changes});
  CHECK((entry(table, 0x7).ebx & 0x0001'0000) == 0);
  CHECK((entry(table, 0x1).ecx & 0x20) != 0);
  CHECK(entry(table, 0x4000'0001).eax == 0x0100'7efa);
}

TEST_CASE("a bit by its place may be in a leaf that was not there") {
  const std::array changes{parse_cpuid_change("0x7,1,eax,4=on"),
                           parse_cpuid_change("0x21,0,ecx,3=on"),
                           parse_cpuid_change("0x22,0,ecx,3=off")};
  const CpuidTable table = make_cpuid(intel(), {.changes = changes});
  CHECK(registers(table, 0x7, 1) == Four{0x10, 0, 0, 0});
  CHECK(registers(table, 0x21) == Four{0, 0, 8, 0});
  CHECK(find_cpuid(table, 0x22, 0) == nullptr);
}

TEST_CASE("a named feature that KVM does not offer cannot be switched on") {
  const std::array changes{parse_cpuid_change("avx_vnni=on")};
  CHECK_THROWS_WITH(make_cpuid(intel(), {.changes = changes}),
                    "CPUID feature avx_vnni=on: KVM on this host does not offer it");
}

TEST_CASE("bits that KVM forces against a change are reported, others not") {
  const std::array changes{parse_cpuid_change("smap=off"), parse_cpuid_change("avx2=off"),
                           parse_cpuid_change("la57=on")};
  const CpuidTable effective{subleaf(0x7, 0, 0, 0x0010'0000, 0, 0)};
  const std::vector<CpuidChange> forced = forced_changes(effective, changes);
  REQUIRE(forced.size() == 2);
  CHECK(to_string(forced[0]) == "smap=off");
  CHECK(to_string(forced[1]) == "la57=on");
}

TEST_CASE("a change reads back as it was written") {
  CHECK(to_string(parse_cpuid_change("avx2=on")) == "avx2=on");
  CHECK(to_string(parse_cpuid_change("7,0,ebx,16=off")) == "0x7,0,ebx,16=off");
  CHECK(parse_cpuid_change("0x80000001,0,edx,20=on").bit ==
        CpuidBit{.leaf = 0x8000'0001, .subleaf = 0, .reg = CpuidRegister::Edx, .bit = 20});
}

TEST_CASE("a change that cannot be understood is refused with the reason") {
  const auto refused = [](const char* text, const char* why) {
    CHECK_THROWS_WITH(parse_cpuid_change(text), Catch::Contains(why));
    CHECK_THROWS_AS(parse_cpuid_change(text), ConfigError);
  };
  refused("avx2", "no \"=on\" or \"=off\"");
  refused("avx2=maybe", "neither \"on\" nor \"off\"");
  refused("avx9000=on", "no feature is known by that name");
  refused("=on", "no feature is known by that name");
  refused("7,0,ebx=on", "four fields");
  refused("7,0,ebx,16,1=on", "the bit is not 0 to 31");
  refused("x,0,ebx,16=on", "not a number");
  refused("0x100000000,0,ebx,16=on", "not a number");
  refused("7,,ebx,16=on", "not a number");
  refused("7,0,rbx,16=on", "the register is not");
  refused("7,0,ebx,32=on", "the bit is not 0 to 31");
}

TEST_CASE("address bits are the smaller of what the processor has and what KVM can map") {
  CHECK(physical_address_bits({}) == 36);
  CHECK(physical_address_bits({leaf(0x8000'0008, 0x3027, 0, 0, 0)}) == 39);
  CHECK(physical_address_bits({leaf(0x8000'0008, 0x0030'3034, 0, 0, 0)}) == 48);
  CHECK(physical_address_bits({leaf(0x8000'0008, 0x0034'3030, 0, 0, 0)}) == 48);
}

}  // namespace
}  // namespace ringlet
