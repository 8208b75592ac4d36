// Bad inputs: configuration files.
#include <string_view>

#include "tests/cli/bad_input.h"

namespace ringlet {
namespace {

using namespace std::string_literals;

/// A configuration file and what is said about it; `rest` follows "vm.json: ".
BadInput json(std::string content, const std::string& rest) {
  return {{"run", "--config", "vm.json"}, "vm.json: " + rest, "vm.json", std::move(content)};
}

/// The same, where the machine is judged and not the file.
BadInput machine(std::string content, const std::string& line) {
  return {{"run", "--config", "vm.json"}, line, "vm.json", std::move(content)};
}

std::string repeated(std::string_view text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

/// A machine with `member` in addition.
std::string with(const std::string& member) {
  return R"({"kernel": "vmlinux", )" + member + "}";
}
std::string with_disk(const std::string& member) {
  return with(R"("devices": [{"type": "disk", )" + member + "}]");
}

constexpr const char* kKeys =
    "; expected cpuid, devices, kernel, initrd, cmdline, cpus, memory, memory-backing, huge-pages, "
    "thp, prefault, register-memory, serial, grace, io-threads, io-poll, pin-vcpus, pin-io, "
    "boot-timer, debug-exit, debug-console, log-level, log-file";
constexpr const char* kDiskKeys =
    "; expected type, path, id, readonly, direct, queues, queue-size, serial, discard, writeback";

}  // namespace

std::vector<BadInput> bad_json() {
  const std::string at = "parse error at line 1, column ";
  const std::string value = ": syntax error while parsing value - ";
  const std::string key = ": syntax error while parsing object key - ";
  return {
      json("", "expected a JSON object, got nothing"),
      json("\n\n{", "parse error at line 3, column 2" + key +
                        "unexpected end of input; expected string literal"),
      json(R"({"kernel"})", at + "10: syntax error while parsing object separator - unexpected "
                                 "'}'; expected ':'"),
      json(R"({"kernel": "vmlinux",})",
           at + "22" + key + "unexpected '}'; expected string literal"),
      json(R"({"kernel": "vmlinux"} x)", at + "23" + value +
                                             "invalid literal; last read: '\"vmlinux\"} x'; "
                                             "expected end of input"),
      json("{'kernel': 'vmlinux'}",
           at + "2" + key + "invalid literal; last read: '{''; expected string literal"),
      json("// a comment\n{}", at + "1" + value + "invalid literal; last read: '/'"),
      json(R"({"cpus": NaN})", at + "10" + value + "invalid literal; last read: '\"cpus\": N'"),
      json(R"({"cpus": 1e999})", "expected smaller numbers: number overflow parsing '1e999'"),
      json("{\"kernel\": \"vm\nlinux\"}",
           "parse error at line 2, column 0" + value +
               "invalid string: control character U+000A (LF) must be escaped to \\u000A or \\n; "
               "last read: '\"vm<U+000A>'"),
      json("{\"kernel\": \"\xff\"}", at + "13" + value +
                                         "invalid string: ill-formed UTF-8 byte; last read: "
                                         "'\"\xff'"),
      json(R"({"kernel": "\ud800"})",
           at + "19" + value +
               "invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF; last "
               "read: '\"\\ud800\"'"),
      json("\xff\xfe{}", at + "1" + value + "invalid literal; last read: '\xff'"),
      json("{\0\"\0k\0"s, "expected JSON, got a NUL byte at offset 1"),
      json(R"({"kernel": "vmlinux"})"s + "\0"s, "expected JSON, got a NUL byte at offset 21"),
      json(repeated("[", 1'000'000),
           "[0][0][0][0][0][0][0][0]: expected at most 8 levels of nesting"),
      json(repeated(R"({"a":)", 100'000), "a.a.a.a.a.a.a.a: expected at most 8 levels of nesting"),
      machine(R"({"kernel": "vmlinux"})" + std::string(1 << 20, ' '),
              "--config 'vm.json': expected less than 1 MiB of JSON"),
  };
}

std::vector<BadInput> bad_json_machines() {
  const std::string count = "expected a number from 1 to 64, got ";
  const std::string size =
      "memory: expected a size from 16M to 4T such as 512M or 1G (a plain number is in MiB), got ";
  return {
      json("null", "expected an object, got null"),
      json("7", "expected an object, got 7"),
      json("[]", "expected an object, got an array"),
      machine("{}", "--kernel: required, expected a file name"),
      json(R"({"kernel": ""})", "kernel: required, expected a file name"),
      json(R"({"kernel": 7})", "kernel: expected a file name, got 7"),
      json(R"({"kernel": ["vmlinux"]})", "kernel: expected a file name, got an array"),
      json(R"({"kernel": "vm\u0000linux"})", "kernel: expected a file name, got \"vm?linux\""),
      machine(R"({"kernel": "none"})",
              "kernel 'none': cannot be opened: No such file or directory"),
      json(R"({"kernal": "vmlinux"})", "kernal: unknown key; did you mean \"kernel\"?"),
      json(with(R"("": 1)"), std::string("\"\": unknown key") + kKeys),
      json(with(R"("\u001b[2J\n": 1)"), std::string("\"?[2J?\": unknown key") + kKeys),
      json(with("\"" + std::string(3000, 'x') + "\": 1"),
           "\"" + std::string(80, 'x') + "\"...: unknown key" + kKeys),
      json(with(R"("type": "disk")"), std::string("type: unknown key") + kKeys),
      json(with(R"("kernel": "vmlinux")"), "kernel: given twice"),
      json(with(R"("cpus": "2")"), "cpus: " + count + "\"2\""),
      json(with(R"("cpus": -1)"), "cpus: " + count + "-1"),
      json(with(R"("cpus": 1.0)"), "cpus: " + count + "1.0"),
      json(with(R"("cpus": 18446744073709551617)"), "cpus: " + count + "1.8446744073709552e+19"),
      json(with(R"("cpus": null)"), "cpus: " + count + "null"),
      json(with(R"("cpus": {})"), "cpus: " + count + "an object"),
      json(with(R"("memory": "lots")"), size + "\"lots\""),
      json(with(R"("memory": true)"), size + "true"),
      json(with(R"("memory": 18446744073709551615)"), size + "18446744073709551615"),
      json(with(R"("boot-timer": 1)"), "boot-timer: expected true or false, got 1"),
      json(with(R"("boot-timer": "on")"), "boot-timer: expected true or false, got \"on\""),
      json(with(R"("log-level": 3)"),
           "log-level: expected debug or info or warn or error or off, got 3"),
      machine(with(R"("cmdline": "a\nb")"),
              "--cmdline: expected printable ASCII, got byte 0x0a at position 1"),
      json(with(R"("cpuid": "avx=off")"), "cpuid: expected an array, got \"avx=off\""),
      json(with(R"("cpuid": ["avx=off", 1])"),
           "cpuid[1]: expected text like \"avx512f=off\", got 1"),
      json(with(R"("cpuid": ["avx"])"),
           "cpuid[0]: no \"=on\" or \"=off\", got \"avx\"; expected FEATURE=on|off or "
           "LEAF,SUBLEAF,REGISTER,BIT=on|off"),
      json(with(R"("devices": {})"), "devices: expected an array, got an object"),
      json(with(R"("devices": [[]])"), "devices[0]: expected an object, got an array"),
      json(with(R"("devices": [{}])"), "devices[0].type: expected disk, got nothing"),
      json(with(R"("devices": [{"type": "tape"}])"),
           "devices[0].type: expected disk, got \"tape\""),
      json(with(R"("devices": [{"type": "disk"}])"),
           "devices[0].path: required, expected a file name"),
      json(with_disk(R"("path": "disk.img", "path": "a")"), "devices[0].path: given twice"),
      json(with_disk(R"("path": "disk.img", "cpuid": [])"),
           std::string("devices[0].cpuid: unknown key") + kDiskKeys),
      json(with_disk(R"("path": "disk.img", "queues": 65)"), "devices[0].queues: " + count + "65"),
      machine(with_disk(R"("path": "none")"),
              "disk 'none': cannot be opened: No such file or directory"),
  };
}

}  // namespace ringlet
