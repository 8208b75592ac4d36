// Bad inputs: commands, options, their values.
#include "tests/cli/bad_input.h"

namespace ringlet {
namespace {

const Arguments kRun{"run", "--kernel", "vmlinux"};

/// `ringlet run --kernel vmlinux` with more.
Arguments with(const Arguments& more) {
  Arguments arguments = kRun;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

constexpr const char* kCount = "expected a number from 1 to 64, got ";
constexpr const char* kSize =
    "--memory: expected a size from 16M to 4T such as 512M or 1G (a plain number is in MiB), got ";
constexpr const char* kTime =
    "--grace: expected a time from 0 to 86400s such as 10s or 500ms (a plain number is in "
    "seconds), got ";
constexpr const char* kCpus = "expected CPUs of the host, each from 0 to 1023, such as 2-5,8, got ";
constexpr const char* kExitPort = "--debug-exit: expected an I/O port from 0x1 to 0xfffc, got ";
constexpr const char* kDiskOptions =
    "; expected path, id, readonly, direct, queues, queue-size, serial, discard, writeback";
constexpr const char* kCpuidForm = "; expected FEATURE=on|off or LEAF,SUBLEAF,REGISTER,BIT=on|off";

std::string cpuid(const std::string& why, const std::string& text) {
  return "--cpuid: " + why + ", got \"" + text + "\"" + kCpuidForm;
}

}  // namespace

std::vector<BadInput> bad_arguments() {
  return {
      {{}, "expected a command: run, devices or check (see ringlet --help)"},
      {{""}, "unexpected argument \"\""},
      {{"rum"}, "unexpected argument \"rum\"; did you mean \"run\"?"},
      {{"--verson"}, "unexpected argument \"--verson\"; did you mean \"--version\"?"},
      {{"-k"}, "unexpected argument \"-k\""},
      {{"--", "run"}, "unexpected argument \"--\""},
      {{"a\nb\x1b[2J"}, "unexpected argument \"a?b?[2J\""},
      {{std::string(100'000, 'x')}, "unexpected argument \"" + std::string(80, 'x') + "\"..."},
      {{"run", "check"}, "unexpected argument \"check\""},
      {{"check", "run"}, "unexpected argument \"run\""},
      {{"check", "now"}, "unexpected argument \"now\""},
      {{"check", "--jsn"}, "unexpected argument \"--jsn\"; did you mean \"--json\"?"},
      {{"check", "--json=maybe"}, "--json: expected no value, got \"maybe\""},
      {{"devices", "tape"}, "devices: expected disk, got \"tape\""},
      {{"devices", "disk", "disk"}, "unexpected argument \"disk\""},
      {{"devices", "--markdown=no"}, "--markdown: expected no value, got \"no\""},
      {{"run"}, "--kernel: required, expected a file name"},
      {{"run", "vmlinux"}, "unexpected argument \"vmlinux\""},
      {{"run", "--kernl", "vmlinux"},
       "unexpected argument \"--kernl\"; did you mean \"--kernel\"?"},
      {{"run", "-kernel", "vmlinux"},
       "unexpected argument \"-kernel\"; did you mean \"--kernel\"?"},
      {{"run", "--kernel"}, "--kernel: expected --kernel FILE, got nothing"},
      {{"run", "--kernel", "--cpus", "2"}, "--kernel: expected --kernel FILE, got \"--cpus\""},
      {{"run", "--kernel="}, "--kernel: expected --kernel FILE, got nothing"},
      {{"run", "--kernel", ""}, "--kernel: required, expected a file name"},
      {with({"--kernel", "vmlinux"}), "--kernel: given twice"},
      {with({"--boot-timer", "--boot-timer"}), "--boot-timer: given twice"},
      {with({"--dry-run", "--dry-run"}), "--dry-run: given twice"},
      {with({"--dry-run=x"}), "--dry-run: expected no value, got \"x\""},
      {with({"--memory"}), "--memory: expected --memory SIZE, got nothing"},
      {with({"--disk"}), "--disk: expected --disk LIST, got nothing"},
      {with({"--cpuid"}), "--cpuid: expected --cpuid FEATURE=on|off, got nothing"},
      {with({"--memory", "64M", "128M"}), "unexpected argument \"128M\""},
  };
}

std::vector<BadInput> bad_values() {
  const std::string cpus = std::string("--cpus: ") + kCount;
  return {
      {with({"--cpus", "0"}), cpus + "\"0\""},
      {with({"--cpus", "65"}), cpus + "\"65\""},
      {with({"--cpus", "-1"}), cpus + "\"-1\""},
      {with({"--cpus", "1.5"}), cpus + "\"1.5\""},
      {with({"--cpus", "two"}), cpus + "\"two\""},
      {with({"--cpus", ""}), cpus + "\"\""},
      {with({"--cpus", " 1"}), cpus + "\" 1\""},
      {with({"--cpus", "0x"}), cpus + "\"0x\""},
      {with({"--cpus", "18446744073709551617"}), cpus + "\"18446744073709551617\""},
      {with({"--memory", "0"}), std::string(kSize) + "\"0\""},
      {with({"--memory", "16383K"}), std::string(kSize) + "\"16383K\""},
      {with({"--memory", "5T"}), std::string(kSize) + "\"5T\""},
      {with({"--memory", "512MB"}), std::string(kSize) + "\"512MB\""},
      {with({"--memory", "-1G"}), std::string(kSize) + "\"-1G\""},
      {with({"--memory", "1.5G"}), std::string(kSize) + "\"1.5G\""},
      {with({"--memory", "M"}), std::string(kSize) + "\"M\""},
      {with({"--memory", "18446744073709551615T"}),
       std::string(kSize) + "\"18446744073709551615T\""},
      {with({"--memory", "16777217B"}),
       "--memory: expected a multiple of 4 KiB, got 16777217 bytes"},
      {with({"--memory", "17M", "--huge-pages"}),
       "--memory: expected a multiple of 2 MiB with --huge-pages, got 17825792 bytes"},
      {with({"--memory-backing", "hugetlb"}),
       "--memory-backing: expected anonymous or shared, got \"hugetlb\""},
      {with({"--huge-pages=2M"}), "--huge-pages: expected on or off, got \"2M\""},
      {with({"--pin-vcpus", "0-x"}), std::string("--pin-vcpus: ") + kCpus + "\"0-x\""},
      {with({"--pin-vcpus", ""}), "--pin-vcpus: expected text, got \"\""},
      {with({"--pin-io", "5-2"}), std::string("--pin-io: ") + kCpus + "\"5-2\""},
      {with({"--grace", "soon"}), std::string(kTime) + "\"soon\""},
      {with({"--grace", "-1"}), std::string(kTime) + "\"-1\""},
      {with({"--grace", "2d"}), std::string(kTime) + "\"2d\""},
      {with({"--grace", "86401"}), std::string(kTime) + "\"86401\""},
      {with({"--debug-exit", "0"}), std::string(kExitPort) + "\"0\""},
      {with({"--debug-exit", "0xfffd"}), std::string(kExitPort) + "\"0xfffd\""},
      {with({"--debug-exit", "isa"}), std::string(kExitPort) + "\"isa\""},
      {with({"--debug-exit", "0x3f8"}),
       "--debug-exit: expected an unused port, got 0x3f8, which is the machine's"},
      {with({"--debug-console", "0xcfc"}),
       "--debug-console: expected an unused port, got 0xcfc, which is the machine's"},
      {with({"--debug-exit", "0xf4", "--debug-console", "0xf5"}),
       "--debug-console: expected a port outside of --debug-exit's four, got 0xf5"},
      {with({"--log-level", "loud"}),
       "--log-level: expected debug or info or warn or error or off, got \"loud\""},
      {with({"--log-file", ""}), "--log-file: expected a file name, got \"\""},
      {with({"--serial", ""}), "--serial: expected a file name, got \"\""},
      {with({"--initrd", ""}), "--initrd: expected a file name, got \"\""},
      {with({"--cmdline", "quiet\nro"}),
       "--cmdline: expected printable ASCII, got byte 0x0a at position 5"},
      {with({"--cmdline", "gr\xfc\xdf"}),
       "--cmdline: expected printable ASCII, got byte 0xfc at position 2"},
      {with({"--cmdline", std::string(65'536, 'x')}),
       "--cmdline: expected at most 65535 bytes of text, got \"" + std::string(80, 'x') + "\"..."},
  };
}

std::vector<BadInput> bad_disks() {
  return {
      {with({"--disk", ""}), "--disk: expected path=FILE"},
      {with({"--disk", "readonly"}), "--disk: expected path=FILE"},
      {with({"--disk", "path"}), "--disk path: expected path=FILE"},
      {with({"--disk", "path="}), "--disk path: required, expected a file name"},
      {with({"--disk", "disk.img,path=disk.img"}), "--disk path: given twice"},
      {with({"--disk", "disk.img,readonly,readonly=off"}), "--disk readonly: given twice"},
      {with({"--disk", "disk.img,disk.img"}),
       std::string("--disk: unknown option \"disk.img\"") + kDiskOptions},
      {with({"--disk", "=disk.img"}), std::string("--disk: unknown option \"\"") + kDiskOptions},
      {with({"--disk", "disk.img,read-only"}),
       "--disk: unknown option \"read-only\"; did you mean \"readonly\"?"},
      {with({"--disk", "disk.img,"}),
       "--disk: nothing between two commas of \"disk.img,\" (write a comma in a value twice)"},
      {with({"--disk", "disk.img,,readonly"}),
       "disk 'disk.img,readonly': cannot be opened: No such file or directory"},
      {with({"--disk", "disk.img,readonly=yes"}),
       "--disk readonly: expected on or off, got \"yes\""},
      {with({"--disk", "disk.img,queues"}), "--disk queues: expected queues=N"},
      {with({"--disk", "disk.img,queues=65"}), std::string("--disk queues: ") + kCount + "\"65\""},
      {with({"--disk", "disk.img,queue-size=100"}),
       "--disk queue-size: expected a power of two from 4 to 1024, got \"100\""},
      {with({"--disk", "disk.img,serial=123456789012345678901"}),
       "--disk serial: expected at most 20 printable ASCII characters, got "
       "\"123456789012345678901\""},
      {with({"--disk", "disk.img,id=a b"}),
       "--disk id: expected at most 64 letters, digits, '_' and '-', got \"a b\""},
      {with({"--disk", "disk.img,id=a", "--disk", "fixed.img,id=a"}),
       "--disk id: expected a name of its own, got \"a\" again"},
  };
}

std::vector<BadInput> bad_cpuid() {
  return {
      {with({"--cpuid", ""}), cpuid("no \"=on\" or \"=off\"", "")},
      {with({"--cpuid", "avx"}), cpuid("no \"=on\" or \"=off\"", "avx")},
      {with({"--cpuid", "avx=maybe"}), cpuid("neither \"on\" nor \"off\"", "avx=maybe")},
      {with({"--cpuid", "avx9=on"}), cpuid("no feature is known by that name", "avx9=on")},
      {with({"--cpuid", "avx=on,sse3=on"}),
       cpuid("four fields wanted before \"=\"", "avx=on,sse3=on")},
      {with({"--cpuid", "x,0,ecx,3=on"}),
       cpuid("the leaf or subleaf is not a number", "x,0,ecx,3=on")},
      {with({"--cpuid", "1,0,rcx,3=on"}),
       cpuid("the register is not eax, ebx, ecx or edx", "1,0,rcx,3=on")},
      {with({"--cpuid", "1,0,ecx,32=on"}), cpuid("the bit is not 0 to 31", "1,0,ecx,32=on")},
  };
}

}  // namespace ringlet
