// Tests of the command line.
#include "vmm/cli.h"

#include <cstdlib>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "vmm/config_json.h"
#include "vmm/exit_status.h"

namespace ringlet {
namespace {

using Catch::Contains;
using Catch::Message;

CommandLine parse(const std::vector<const char*>& args) {
  return parse_command_line(args);
}

const BlkConfig& disk(const CommandLine& line, size_t index) {
  return std::get<BlkConfig>(line.machine.devices.at(index));
}

/// A configuration file for the length of a test.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    const Fd fd(::mkstemp(path_.data()));
    REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  ~ConfigFile() { ::unlink(path_.c_str()); }
  const char* path() const { return path_.c_str(); }

 private:
  std::string path_ = "/tmp/ringlet-cli-XXXXXX";
};

TEST_CASE("run takes options with their values behind a space or an equals sign") {
  const auto line = parse({"run", "--kernel", "vmlinux", "--cpus=2", "--memory", "1G", "--cmdline",
                           "console=ttyS0 root=/dev/vda,x"});
  CHECK(line.command == Command::Run);
  CHECK(line.machine.kernel == "vmlinux");
  CHECK(line.machine.cpus == 2);
  CHECK(line.machine.memory == 1'073'741'824);
  CHECK(line.machine.cmdline == "console=ttyS0 root=/dev/vda,x");
}

TEST_CASE("a flag stands alone or says on or off") {
  CHECK(parse({"run", "--kernel", "k", "--boot-timer"}).machine.boot_timer);
  CHECK(parse({"run", "--kernel", "k", "--boot-timer=on"}).machine.boot_timer);
  CHECK_FALSE(parse({"run", "--kernel", "k", "--boot-timer=off"}).machine.boot_timer);
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "k", "--boot-timer=maybe"}), ConfigError,
                       Message("--boot-timer: expected on or off, got \"maybe\""));
  CHECK_THROWS_AS(parse({"run", "--kernel", "k", "--dry-run=off"}), ConfigError);
}

TEST_CASE("devices keep the order of the command line") {
  const auto line = parse({"run", "--disk", "path=b,readonly", "--kernel", "k", "--disk", "a"});
  CHECK(disk(line, 0).path == "b");
  CHECK(disk(line, 0).readonly);
  CHECK(disk(line, 1).path == "a");
  CHECK_FALSE(disk(line, 1).readonly);
}

TEST_CASE("a disk's name may look like a list of CLI11") {
  CHECK(disk(parse({"run", "--kernel", "k", "--disk", "[a]"}), 0).path == "[a]");
}

TEST_CASE("an option of the machine given twice is refused") {
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "a", "--kernel", "b"}), ConfigError,
                       Message("--kernel: given twice"));
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "a", "--boot-timer", "--boot-timer"}), ConfigError,
                       Message("--boot-timer: given twice"));
}

TEST_CASE("wrong values are refused by the name of their option") {
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "k", "--cpus", "65"}), ConfigError,
                       Message("--cpus: expected a number from 1 to 64, got \"65\""));
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "k", "--disk", "a,queues=x"}), ConfigError,
                       Message("--disk queues: expected a number from 1 to 64, got \"x\""));
  CHECK_THROWS_AS(parse({"run", "--kernel", "k", "--cpuid", "avx"}), ConfigError);
  CHECK_THROWS_AS(parse({"run", "--kernel"}), ConfigError);
}

TEST_CASE("run needs a kernel") {
  CHECK_THROWS_MATCHES(parse({"run"}), ConfigError,
                       Message("--kernel: required, expected a file name"));
}

TEST_CASE("what is no option is refused, with the likeliest one") {
  CHECK_THROWS_MATCHES(parse({"run", "--kernl", "k"}), ConfigError,
                       Message("unexpected argument \"--kernl\"; did you mean \"--kernel\"?"));
  CHECK_THROWS_MATCHES(parse({"rum"}), ConfigError,
                       Message("unexpected argument \"rum\"; did you mean \"run\"?"));
  CHECK_THROWS_MATCHES(parse({"run", "--kernel", "k", "stray"}), ConfigError,
                       Message("unexpected argument \"stray\""));
  CHECK_THROWS_AS(parse({}), ConfigError);
}

TEST_CASE("options replace the values of the configuration file and add devices to it") {
  const ConfigFile file(R"({"kernel": "k", "cpus": 2, "memory": "64M", "cpuid": ["avx2=off"],
                            "devices": [{"type": "disk", "path": "first"}]})");
  const auto line = parse({"run", "--cpus", "3", "--disk", "second", "--cpuid", "avx=off",
                           "--config", file.path(), "--dry-run"});
  CHECK(line.command == Command::DryRun);
  CHECK(line.machine.kernel == "k");
  CHECK(line.machine.cpus == 3);
  CHECK(line.machine.memory == 67'108'864);
  CHECK(line.machine.cpuid.size() == 2);
  CHECK(disk(line, 0).path == "first");
  CHECK(disk(line, 1).path == "second");
}

TEST_CASE("a printed machine is a configuration file of the same machine") {
  const auto line = parse({"run", "--kernel", "k", "--memory", "20000K", "--disk", "a,,b,serial=S",
                           "--debug-exit", "0xf4", "--cpuid", "avx=off"});
  const ConfigFile file(machine_to_json(line.machine));
  CHECK(machine_to_json(parse({"run", "--config", file.path()}).machine) ==
        machine_to_json(line.machine));
}

TEST_CASE("help has examples, every option and every exit status") {
  const auto text = parse({"run", "--help"}).text;
  CHECK_THAT(text, Contains("ringlet run --kernel vmlinux --disk root.ext4"));
  CHECK_THAT(text, Contains("--memory SIZE"));
  CHECK_THAT(text, Contains("--disk LIST"));
  CHECK_THAT(text, Contains(exit_statuses_as_columns()));
  CHECK_THAT(parse({"--help"}).text, Contains("run a virtual machine"));
}

TEST_CASE("the version goes to stdout") {
  CHECK(parse({"--version"}).text == "ringlet " RINGLET_VERSION "\n");
}

TEST_CASE("devices lists all types, or one") {
  CHECK_THAT(parse({"devices"}).text, Contains("queue-size=N      256"));
  CHECK(parse({"devices", "disk"}).text == parse({"devices"}).text);
  CHECK_THROWS_MATCHES(parse({"devices", "tape"}), ConfigError,
                       Message("devices: expected disk, got \"tape\""));
}

TEST_CASE("the reference shows options, devices and exit statuses as tables") {
  const auto text = parse({"devices", "--markdown"}).text;
  CHECK_THAT(text, Contains("| `cpus` | N | 1 | number of virtual CPUs |"));
  CHECK_THAT(text, Contains("| `cpuid` | FEATURE=on\\|off |  | switch a feature"));
  CHECK_THAT(text, Contains("| `queues` | N | 1 | number of request queues |"));
  CHECK_THAT(text, Contains("| 2 | wrong usage or configuration |"));
}

TEST_CASE("check prints a table or JSON") {
  CHECK(parse({"check"}).command == Command::Check);
  CHECK_FALSE(parse({"check"}).json);
  CHECK(parse({"check", "--json"}).json);
}

}  // namespace
}  // namespace ringlet
