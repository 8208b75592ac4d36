// Tests of the ACPI tables: their bytes, and what ACPICA's own tools say about them.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "vmm/acpi/tables.h"

namespace ringlet {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr Window64 kWindow{0x1'0000'0000, 256 * kGiB};

AcpiConfig machine_with(uint32_t cpus) {
  AcpiConfig config{.apic_ids = std::vector<uint32_t>(cpus), .window64 = kWindow};
  std::iota(config.apic_ids.begin(), config.apic_ids.end(), 0u);
  return config;
}

// The blob as the guest finds it at 0xe0000, read by guest-physical address.
class Built {
 public:
  explicit Built(const AcpiConfig& config) : tables_(build_acpi(config)) {}

  Bytes bytes(uint64_t address, size_t size) const {
    Bytes copy(size);
    const auto source = std::span(tables_.blob).subspan(address - 0xe'0000, size);
    std::memcpy(copy.data(), source.data(), size);
    return copy;
  }
  uint64_t number(uint64_t address, size_t size) const {
    uint64_t value = 0;
    std::memcpy(&value, bytes(address, size).data(), size);
    return value;
  }
  std::string text(uint64_t address, size_t size) const {
    const Bytes raw = bytes(address, size);
    return {raw.begin(), raw.end()};
  }
  // A whole table, whose length is in bytes 4 to 7 of it.
  Bytes table(uint64_t address) const { return bytes(address, number(address + 4, 4)); }

  uint64_t rsdp() const { return tables_.rsdp; }
  uint64_t xsdt() const { return number(rsdp() + 24, 8); }
  uint64_t fadt() const { return number(xsdt() + 36, 8); }
  uint64_t madt() const { return number(xsdt() + 44, 8); }
  uint64_t mcfg() const { return number(xsdt() + 52, 8); }
  uint64_t facs() const { return number(fadt() + 36, 4); }
  uint64_t dsdt() const { return number(fadt() + 140, 8); }

 private:
  AcpiTables tables_;
};

int sum(const Bytes& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0) & 0xff;
}

// Whether `needle` occurs among the bytes of `haystack`.
bool contains(const Bytes& haystack, const std::string& needle) {
  return std::string(haystack.begin(), haystack.end()).find(needle) != std::string::npos;
}

// The MADT without its first 44 bytes.
Bytes madt_entries(const Built& acpi) {
  Bytes entries = acpi.table(acpi.madt());
  entries.erase(entries.begin(), entries.begin() + 44);
  return entries;
}

// Runs ACPICA's tools on tables written to a folder that goes away afterwards.
class Acpica {
 public:
  Acpica() {
    INFO("iasl and acpiexec are needed: apt-get install acpica-tools");
    REQUIRE(std::system("command -v iasl acpiexec >/dev/null") == 0);
    std::string name = (std::filesystem::temp_directory_path() / "ringlet-acpi-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  ~Acpica() { std::filesystem::remove_all(folder_); }
  Acpica(const Acpica&) = delete;
  Acpica& operator=(const Acpica&) = delete;

  void write(const std::string& file, const Bytes& bytes) const {
    std::ofstream(folder_ / file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  }
  Bytes read(const std::string& file) const {
    std::ifstream stream(folder_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  // What `command` prints, run in the folder.
  std::string run(const std::string& command) const {
    const std::string output = (folder_ / "output").string();
    const std::string line =
        "cd '" + folder_.string() + "' && (" + command + ") >'" + output + "' 2>&1 </dev/null";
    CAPTURE(command);
    CHECK(std::system(line.c_str()) == 0);
    std::ifstream stream(output);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  std::filesystem::path folder_;
};

// A table without what iasl replaces by its own when it compiles: checksum and creator.
Bytes unsigned_table(Bytes table) {
  table.at(9) = 0;
  std::fill(table.begin() + 28, table.begin() + 36, uint8_t{0});
  return table;
}

// Disassembles a table, compiles that, and expects the same bytes and no complaint from either.
void check_round_trip(const Acpica& acpica, const Bytes& table) {
  acpica.write("table.dat", table);
  const std::string disassembly = acpica.run("iasl -d table.dat");
  INFO(disassembly);
  CHECK(disassembly.find("Warning") == std::string::npos);
  CHECK(disassembly.find("Error") == std::string::npos);
  const std::string compilation = acpica.run("iasl -oa table.dsl");
  INFO(compilation);
  CHECK(compilation.find("0 Errors, 0 Warnings, 0 Remarks") != std::string::npos);
  CHECK(unsigned_table(acpica.read("table.aml")) == unsigned_table(table));
}

TEST_CASE("the RSDP is where a scan looks first, with both checksums") {
  const Built acpi(machine_with(2));
  CHECK(acpi.rsdp() == 0xe'0000);
  CHECK(acpi.text(acpi.rsdp(), 8) == "RSD PTR ");
  CHECK(acpi.number(acpi.rsdp() + 15, 1) == 2);
  CHECK(acpi.number(acpi.rsdp() + 20, 4) == 36);
  CHECK(sum(acpi.bytes(acpi.rsdp(), 20)) == 0);
  CHECK(sum(acpi.bytes(acpi.rsdp(), 36)) == 0);
}

TEST_CASE("every ACPI table has its signature, its checksum and a place in the reserved area") {
  const Built acpi(machine_with(64));
  const std::array<std::pair<const char*, uint64_t>, 5> tables{{{"XSDT", acpi.xsdt()},
                                                                {"FACP", acpi.fadt()},
                                                                {"APIC", acpi.madt()},
                                                                {"MCFG", acpi.mcfg()},
                                                                {"DSDT", acpi.dsdt()}}};
  for (const auto& [signature, address] : tables) {
    CAPTURE(signature);
    CHECK(acpi.text(address, 4) == signature);
    CHECK(sum(acpi.table(address)) == 0);
    CHECK(address + acpi.number(address + 4, 4) <= 0x10'0000);
  }
  CHECK(acpi.text(acpi.facs(), 4) == "FACS");
  CHECK(acpi.facs() % 64 == 0);
}

TEST_CASE("the FADT describes a full ACPI machine without SMI, PM timer and sleep button") {
  const Built acpi(machine_with(1));
  const uint64_t fadt = acpi.fadt();
  CHECK(acpi.number(fadt + 46, 2) == 9);        // SCI_INT
  CHECK(acpi.number(fadt + 48, 4) == 0);        // SMI_CMD
  CHECK(acpi.number(fadt + 56, 4) == 0x600);    // PM1a_EVT_BLK
  CHECK(acpi.number(fadt + 64, 4) == 0x604);    // PM1a_CNT_BLK
  CHECK(acpi.number(fadt + 76, 4) == 0);        // PM_TMR_BLK
  CHECK(acpi.number(fadt + 88, 4) == 0x0204);   // PM1_EVT_LEN, PM1_CNT_LEN, PM2, PM_TMR
  CHECK(acpi.number(fadt + 108, 1) == 0x32);    // CENTURY
  CHECK(acpi.number(fadt + 109, 2) == 0x0005);  // legacy devices, no VGA, no 8042
  // WBINVD, PROC_C1, SLP_BUTTON, FIX_RTC, RESET_REG_SUP; PWR_BUTTON clear: there is one.
  CHECK(acpi.number(fadt + 112, 4) == 0x0465);
  CHECK(acpi.bytes(fadt + 116, 13) == Bytes{1, 8, 0, 1, 8, 6, 0, 0, 0, 0, 0, 0, 1});
  CHECK(acpi.bytes(fadt + 148, 12) == Bytes{1, 32, 0, 2, 0, 6, 0, 0, 0, 0, 0, 0});
  CHECK(acpi.bytes(fadt + 172, 12) == Bytes{1, 16, 0, 2, 4, 6, 0, 0, 0, 0, 0, 0});
  CHECK(acpi.number(fadt + 40, 4) == acpi.dsdt());
}

TEST_CASE("the MADT lists processors, IOAPIC, the override of the SCI and the NMI") {
  const Built acpi(machine_with(2));
  const Bytes expected{
      0, 8,  0,    0, 1, 0, 0,    0,                  // UID 0, APIC id 0, enabled
      0, 8,  1,    1, 1, 0, 0,    0,                  // UID 1, APIC id 1, enabled
      1, 12, 0,    0, 0, 0, 0xc0, 0xfe, 0,  0, 0, 0,  // IOAPIC at 0xfec00000, from GSI 0
      2, 10, 0,    9, 9, 0, 0,    0,    13, 0,        // ISA IRQ 9 is GSI 9, level, active high
      4, 6,  0xff, 0, 0, 1                            // NMI at LINT1 of all
  };
  CHECK(madt_entries(acpi) == expected);
  CHECK(acpi.number(acpi.madt() + 36, 4) == 0xfee0'0000);
  CHECK(acpi.number(acpi.madt() + 40, 4) == 1);
}

TEST_CASE("processors whose APIC id needs more than eight bits get x2APIC entries") {
  const Built acpi(AcpiConfig{.apic_ids = {0, 254, 255, 256}, .window64 = kWindow});
  const Bytes entries = madt_entries(acpi);
  const Bytes first(entries.begin(), entries.begin() + 48);
  CHECK(first == Bytes{0, 8,  0, 0,   1,    0, 0, 0,                          //
                       0, 8,  1, 254, 1,    0, 0, 0,                          //
                       9, 16, 0, 0,   0xff, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,  //
                       9, 16, 0, 0,   0,    1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0});
  const Bytes last(entries.end() - 12, entries.end());
  CHECK(last == Bytes{10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0});
}

TEST_CASE("the MCFG gives the ECAM of bus 0") {
  const Built acpi(machine_with(1));
  CHECK(acpi.number(acpi.mcfg() + 4, 4) == 60);
  CHECK(acpi.bytes(acpi.mcfg() + 44, 16) ==
        Bytes{0, 0, 0, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("a legacy device that the machine lacks is in no table") {
  AcpiConfig config = machine_with(1);
  config.has_serial = false;
  config.has_rtc = false;
  config.has_pvpanic = false;
  const Built acpi(config);
  const Bytes dsdt = acpi.table(acpi.dsdt());
  CHECK_FALSE(contains(dsdt, "COM1"));
  CHECK_FALSE(contains(dsdt, "RTC_"));
  CHECK_FALSE(contains(dsdt, "QEMU0001"));
  CHECK(contains(dsdt, "PCI0"));
  CHECK(acpi.number(acpi.fadt() + 108, 1) == 0);       // CENTURY
  CHECK(acpi.number(acpi.fadt() + 109, 2) == 0x0024);  // no VGA, no CMOS RTC
}

TEST_CASE("iasl disassembles and recompiles every table to the same bytes without a remark") {
  const Acpica acpica;
  const uint32_t cpus = GENERATE(1u, 64u, 1024u);
  const Built acpi(machine_with(cpus));
  for (const uint64_t address :
       {acpi.xsdt(), acpi.fadt(), acpi.facs(), acpi.madt(), acpi.mcfg(), acpi.dsdt()}) {
    CAPTURE(cpus, acpi.text(address, 4));
    check_round_trip(acpica, acpi.table(address));
  }
}

TEST_CASE("the DSDT names each device by the identifier that stock kernels look for") {
  const Acpica acpica;
  const Built acpi(machine_with(2));
  acpica.write("dsdt.dat", acpi.table(acpi.dsdt()));
  acpica.run("iasl -d dsdt.dat");
  const Bytes asl = acpica.read("dsdt.dsl");
  CHECK(contains(asl, "Name (_S5, Package (0x04)"));
  CHECK(contains(asl, "Name (_HID, EisaId (\"PNP0A08\")"));
  CHECK(contains(asl, "Name (_CID, EisaId (\"PNP0A03\")"));
  CHECK(contains(asl, "Name (_PRT, Package (0x7C)"));
  CHECK(contains(asl, "0x00000040FFFFFFFF, // Range Maximum"));
  CHECK(contains(asl, "Name (_HID, EisaId (\"PNP0C02\")"));
  CHECK(contains(asl, "Name (_HID, EisaId (\"PNP0501\")"));
  CHECK(contains(asl, "Name (_HID, EisaId (\"PNP0B00\")"));
  CHECK(contains(asl, "Name (_HID, \"QEMU0001\""));
  CHECK(contains(asl, "Name (_STA, 0x0B)"));
  CHECK(contains(asl, "Device (C001)"));
  CHECK(contains(asl, "Name (_HID, \"ACPI0007\""));
}

TEST_CASE("ACPICA's interpreter gets from _OSC what the guest asked for, or a refusal") {
  const Acpica acpica;
  const Built acpi(machine_with(1));
  acpica.write("dsdt.dat", acpi.table(acpi.dsdt()));
  acpica.write("fadt.dat", acpi.table(acpi.fadt()));
  const std::string kCall = R"(execute \_SB.PCI0._OSC)";
  const std::string kRest = " 1 3 (00 00 00 00 1F 00 00 00 1D 00 00 00)";
  const std::string kPciUuid = " (5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66)";
  const std::string kOtherUuid = " (6B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66)";
  const std::string said = acpica.run("acpiexec -b '" + kCall + kPciUuid + kRest + ";" + kCall +
                                      kOtherUuid + kRest + ";quit' dsdt.dat fadt.dat");
  INFO(said);
  CHECK(said.find("1 ACPI AML tables successfully acquired and loaded") != std::string::npos);
  CHECK(said.find("00 00 00 00 1F 00 00 00 1D 00 00 00  ") != std::string::npos);
  CHECK(said.find("04 00 00 00 1F 00 00 00 1D 00 00 00  ") != std::string::npos);
  CHECK(said.find("ACPI Error") == std::string::npos);
}

}  // namespace
}  // namespace ringlet
