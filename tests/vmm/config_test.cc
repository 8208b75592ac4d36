// Tests of the machine's configuration: JSON both ways, and the validators.
#include "vmm/config.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/vmm/boot_images.h"
#include "vmm/config_json.h"

namespace ringlet {
namespace {

using Catch::Message;

MachineConfig read(std::string_view json) {
  return machine_from_json(json, "vm.json");
}

MachineConfig smallest() {
  MachineConfig config;
  config.kernel = "vmlinux";
  return config;
}

/// A directory that goes away with everything in it that file() made.
class TemporaryFiles {
 public:
  TemporaryFiles() { REQUIRE(::mkdtemp(directory_.data()) != nullptr); }
  TemporaryFiles(const TemporaryFiles&) = delete;
  TemporaryFiles& operator=(const TemporaryFiles&) = delete;
  ~TemporaryFiles() {
    for (const auto& name : made_) ::unlink(name.c_str());
    ::rmdir(directory_.c_str());
  }
  const std::string& directory() const { return directory_; }
  std::string kernel() {
    auto bytes = test::ElfKernel().build();
    bytes.resize(0x2200);  // whole sectors, so that it may also be a disk
    made_.push_back(directory_ + "/vmlinux");
    std::ofstream(made_.back())
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    return made_.back();
  }
  std::string file(const std::string& name, size_t size) {
    made_.push_back(directory_ + "/" + name);
    std::ofstream(made_.back()) << std::string(size, 'x');
    return made_.back();
  }

 private:
  std::string directory_ = "/tmp/ringlet-config-XXXXXX";
  std::vector<std::string> made_;
};

constexpr std::string_view kFullMachine = R"({
  "kernel": "vmlinux",
  "initrd": "initrd.img",
  "cmdline": "console=ttyS0",
  "cpus": 3,
  "memory": "1G",
  "memory-backing": "shared",
  "huge-pages": true,
  "thp": false,
  "prefault": true,
  "register-memory": true,
  "serial": "out.txt",
  "grace": "1500ms",
  "io-threads": 2,
  "io-poll": "20us",
  "pin-vcpus": "0-1,3",
  "pin-io": "2",
  "boot-timer": true,
  "debug-exit": "0xf4",
  "debug-console": "0xe9",
  "log-level": "debug",
  "log-file": "log.txt",
  "cpuid": [
    "avx512f=off"
  ],
  "devices": [
    {
      "type": "disk",
      "path": "a,b.img",
      "id": "root",
      "readonly": true,
      "direct": true,
      "queues": 4,
      "queue-size": 1024,
      "serial": "S1",
      "discard": false,
      "writeback": false
    }
  ]
}
)";

TEST_CASE("a machine as JSON reads back as the same machine") {
  CHECK(machine_to_json(read(kFullMachine)) == kFullMachine);
}

TEST_CASE("every field of the JSON reaches the configuration") {
  const auto config = read(kFullMachine);
  CHECK(config.kernel == "vmlinux");
  CHECK(config.initrd == "initrd.img");
  CHECK(config.cmdline == "console=ttyS0");
  CHECK(config.cpus == 3);
  CHECK(config.memory == 1'073'741'824);
  CHECK(config.memory_backing == MemoryBacking::Kind::Memfd);
  CHECK(config.huge_pages);
  CHECK(config.serial == "out.txt");
  CHECK(config.grace_ms == 1500);
  CHECK(config.io_threads == 2);
  CHECK(config.io_poll_us == 20);
  CHECK_FALSE(config.thp);
  CHECK(config.prefault);
  CHECK(config.register_memory);
  CHECK(config.pin_vcpus == "0-1,3");
  CHECK(config.pin_io == "2");
  CHECK(config.boot_timer);
  CHECK(config.debug_exit == 0xf4);
  CHECK(config.debug_console == 0xe9);
  CHECK(config.log_level == LogLevel::Debug);
  CHECK(config.log_file == "log.txt");
  REQUIRE(config.cpuid.size() == 1);
  CHECK_FALSE(config.cpuid[0].on);
  REQUIRE(config.devices.size() == 1);
  const auto& disk = std::get<BlkConfig>(config.devices[0]);
  CHECK(disk.path == "a,b.img");
  CHECK(disk.id == "root");
  CHECK(disk.readonly);
  CHECK(disk.direct);
  CHECK(disk.queues == 4);
  CHECK(disk.queue_size == 1024);
  CHECK(disk.serial == "S1");
  CHECK_FALSE(disk.discard);
  CHECK_FALSE(disk.writeback);
}

TEST_CASE("what JSON leaves out keeps its default, and is printed") {
  const auto config = read(R"({"kernel": "k", "devices": [{"type": "disk", "path": "d"}]})");
  CHECK(config.memory == 268'435'456);
  CHECK_FALSE(config.cmdline.has_value());
  CHECK(machine_to_json(config).find(R"("memory": "256M")") != std::string::npos);
  CHECK(machine_to_json(config).find("cmdline") == std::string::npos);
}

TEST_CASE("an empty command line is not the default one") {
  const auto config = read(R"({"kernel": "k", "cmdline": ""})");
  CHECK(config.cmdline == "");
  CHECK(read(machine_to_json(config)).cmdline == "");
}

TEST_CASE("the order of devices is kept") {
  const auto config = read(R"({"devices": [{"type": "disk", "path": "b"},
                                           {"type": "disk", "path": "a"}]})");
  CHECK(std::get<BlkConfig>(config.devices.at(0)).path == "b");
  CHECK(std::get<BlkConfig>(config.devices.at(1)).path == "a");
}

TEST_CASE("JSON of a wrong type or range is refused with its path") {
  CHECK_THROWS_MATCHES(
      read(R"({"devices": [{"type": "disk", "path": "a"}, {"type": "disk", "queues": "x"}]})"),
      ConfigError,
      Message("vm.json: devices[1].queues: expected a number from 1 to 64, got \"x\""));
  CHECK_THROWS_MATCHES(read(R"({"cpus": 65})"), ConfigError,
                       Message("vm.json: cpus: expected a number from 1 to 64, got 65"));
  CHECK_THROWS_MATCHES(read(R"({"cpus": -1})"), ConfigError,
                       Message("vm.json: cpus: expected a number from 1 to 64, got -1"));
  CHECK_THROWS_MATCHES(read(R"({"cpus": 1.5})"), ConfigError,
                       Message("vm.json: cpus: expected a number from 1 to 64, got 1.5"));
  CHECK_THROWS_MATCHES(read(R"({"boot-timer": null})"), ConfigError,
                       Message("vm.json: boot-timer: expected true or false, got null"));
  CHECK_THROWS_MATCHES(read(R"({"boot-timer": "on"})"), ConfigError,
                       Message("vm.json: boot-timer: expected true or false, got \"on\""));
  CHECK_THROWS_MATCHES(read(R"({"kernel": ["a"]})"), ConfigError,
                       Message("vm.json: kernel: expected a file name, got an array"));
  CHECK_THROWS_MATCHES(read(R"({"devices": {}})"), ConfigError,
                       Message("vm.json: devices: expected an array, got an object"));
  CHECK_THROWS_MATCHES(read(R"({"devices": [7]})"), ConfigError,
                       Message("vm.json: devices[0]: expected an object, got 7"));
  CHECK_THROWS_MATCHES(read("[]"), ConfigError,
                       Message("vm.json: expected an object, got an array"));
  CHECK_THROWS_AS(read(R"({"cpuid": "avx"})"), ConfigError);
  CHECK_THROWS_AS(read(R"({"cpuid": [1]})"), ConfigError);
  CHECK_THROWS_AS(read(R"({"cpuid": ["avx"]})"), ConfigError);
}

TEST_CASE("unknown keys are refused, with the likeliest known one") {
  CHECK_THROWS_MATCHES(read(R"({"kernal": "a"})"), ConfigError,
                       Message("vm.json: kernal: unknown key; did you mean \"kernel\"?"));
  CHECK_THROWS_MATCHES(
      read(R"({"devices": [{"type": "disk", "read-only": true}]})"), ConfigError,
      Message("vm.json: devices[0].read-only: unknown key; did you mean \"readonly\"?"));
}

TEST_CASE("a device without a known type is refused") {
  CHECK_THROWS_MATCHES(read(R"({"devices": [{"path": "a"}]})"), ConfigError,
                       Message("vm.json: devices[0].type: expected disk, got nothing"));
  CHECK_THROWS_MATCHES(read(R"({"devices": [{"type": "tape"}]})"), ConfigError,
                       Message("vm.json: devices[0].type: expected disk, got \"tape\""));
}

TEST_CASE("a key given twice is refused with its path") {
  CHECK_THROWS_MATCHES(read(R"({"cpus": 1, "cpus": 2})"), ConfigError,
                       Message("vm.json: cpus: given twice"));
  CHECK_THROWS_MATCHES(
      read(R"({"devices": [{"type": "disk"}, {"path": "a", "type": "disk", "path": "b"}]})"),
      ConfigError, Message("vm.json: devices[1].path: given twice"));
}

TEST_CASE("text that is not JSON is refused with its place") {
  CHECK_THROWS_WITH(read("{\n  \"cpus\": }"),
                    Catch::StartsWith("vm.json: parse error at line 2, column 11: "));
  CHECK_THROWS_AS(read(""), ConfigError);
  CHECK_THROWS_AS(read(R"({"cpus": 1} x)"), ConfigError);
}

TEST_CASE("a text that is not UTF-8 is not printed as JSON") {
  auto config = smallest();
  config.initrd = "\xff";
  CHECK_THROWS_AS(machine_to_json(config), ConfigError);
}

TEST_CASE("the configuration file must be there and a file") {
  CHECK_THROWS_MATCHES(machine_from_file("/nonexistent/vm.json"), ConfigError,
                       Message("--config '/nonexistent/vm.json': No such file or directory"));
  CHECK_THROWS_MATCHES(machine_from_file("/tmp"), ConfigError,
                       Message("--config '/tmp': Is a directory"));
  CHECK_THROWS_MATCHES(machine_from_file("/dev/zero"), ConfigError,
                       Message("--config '/dev/zero': expected less than 1 MiB of JSON"));
}

TEST_CASE("the validator holds a machine filled by other means to the tables") {
  auto config = smallest();
  CHECK_NOTHROW(validate(config));
  config.cpus = 0;
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("--cpus: expected a number from 1 to 64, got 0"));
  config = smallest();
  config.cmdline = "quiet\nro";
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("--cmdline: expected printable ASCII, got byte 0x0a at position 5"));
  config = smallest();
  config.devices = {BlkConfig{}};
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("--disk path: required, expected a file name"));
  CHECK_THROWS_MATCHES(validate(MachineConfig{}), ConfigError,
                       Message("--kernel: required, expected a file name"));
}

TEST_CASE("memory is whole pages, huge ones with huge pages") {
  auto config = smallest();
  config.memory = 16'777'217;
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("--memory: expected a multiple of 4 KiB, got 16777217 bytes"));
  config.memory = 17'825'792;  // 17 MiB
  CHECK_NOTHROW(validate(config));
  config.huge_pages = true;
  CHECK_THROWS_AS(validate(config), ConfigError);
}

TEST_CASE("a machine has 31 slots for devices") {
  auto config = smallest();
  BlkConfig disk;
  disk.path = "a";
  config.devices.assign(31, disk);
  CHECK_NOTHROW(validate(config));
  config.devices.push_back(disk);
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("devices: expected at most 31, got 32"));
}

TEST_CASE("two devices cannot have the same name") {
  auto config = smallest();
  BlkConfig disk;
  disk.path = "a";
  disk.id = "data";
  config.devices.assign(2, disk);
  CHECK_THROWS_MATCHES(validate(config), ConfigError,
                       Message("--disk id: expected a name of its own, got \"data\" again"));
}

TEST_CASE("debug ports keep off the machine's own and off each other") {
  auto config = smallest();
  config.debug_exit = 0xf4;
  config.debug_console = 0xe9;
  CHECK_NOTHROW(validate(config));
  config.debug_console = 0xf7;
  CHECK_THROWS_AS(validate(config), ConfigError);
  config.debug_console = 0x3ff;
  CHECK_THROWS_MATCHES(
      validate(config), ConfigError,
      Message("--debug-console: expected an unused port, got 0x3ff, which is the machine's"));
  config.debug_console = 0x400;
  CHECK_NOTHROW(validate(config));
  config.debug_exit = 0x3f5;
  CHECK_THROWS_AS(validate(config), ConfigError);
}

TEST_CASE("files must be there, of the right kind and size") {
  TemporaryFiles files;
  auto config = smallest();
  config.kernel = files.kernel();
  CHECK_NOTHROW(validate_on_host(config));
  BlkConfig disk;
  disk.path = files.file("disk", 1024);
  config.devices = {disk};
  CHECK_NOTHROW(validate_on_host(config));
  disk.path = files.file("odd", 1000);
  config.devices = {disk};
  CHECK_THROWS_MATCHES(validate_on_host(config), ConfigError,
                       Message("disk '" + disk.path +
                               "': its size, 1000 bytes, is not a multiple of 512; expected a raw "
                               "image"));
  disk.path = files.directory();
  config.devices = {disk};
  CHECK_THROWS_MATCHES(
      validate_on_host(config), ConfigError,
      Message("disk '" + disk.path + "': is a directory; expected an image or a block device"));
  config.kernel = files.directory() + "/none";
  CHECK_THROWS_MATCHES(
      validate_on_host(config), ConfigError,
      Message("kernel '" + config.kernel + "': cannot be opened: No such file or directory"));
}

TEST_CASE("an output cannot be a file that the machine uses otherwise") {
  TemporaryFiles files;
  auto config = smallest();
  config.kernel = files.kernel();
  BlkConfig disk;
  disk.path = files.file("disk", 1024);
  config.devices = {disk};
  config.serial = files.file("output", 0);
  config.log_file = "/dev/null";
  CHECK_NOTHROW(validate_on_host(config));
  config.serial = files.directory() + "/.//disk";
  CHECK_THROWS_MATCHES(
      validate_on_host(config), ConfigError,
      Message("serial '" + config.serial + "': expected a file of its own, this is also disk '" +
              disk.path + "'"));
  config.serial = "/dev/null";
  CHECK_NOTHROW(validate_on_host(config));
  config.log_file = config.kernel;
  CHECK_THROWS_MATCHES(
      validate_on_host(config), ConfigError,
      Message("log-file '" + config.kernel +
              "': expected a file of its own, this is also kernel '" + config.kernel + "'"));
}

TEST_CASE("a file is two disks only if the guest cannot write either") {
  TemporaryFiles files;
  auto config = smallest();
  config.kernel = files.kernel();
  BlkConfig disk;
  disk.path = files.file("disk", 1024);
  disk.readonly = true;
  config.devices = {disk, disk};
  CHECK_NOTHROW(validate_on_host(config));
  disk.readonly = false;
  config.devices = {config.devices[0], disk};
  CHECK_THROWS_MATCHES(
      validate_on_host(config), ConfigError,
      Message("disk '" + disk.path + "': expected a file of its own, this is also disk '" +
              disk.path + "'"));
  disk.path = config.kernel;
  config.devices = {disk};
  CHECK_NOTHROW(validate_on_host(config));
}

}  // namespace
}  // namespace ringlet
