// The probe's main program: mounts, the table of steps, the ways to end.
#include "probe.h"

#include <linux/input.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

void tell(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::putchar('\n');
}

void tell_error(const std::string& what) {
  tell("error %s: %s", what.c_str(), std::strerror(errno));
}

std::string read_all(const std::string& path) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  char buffer[4096];
  size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof buffer, file)) != 0) text.append(buffer, got);
  std::fclose(file);
  return text;
}

std::string read_line(const std::string& path) {
  const std::string text = read_all(path);
  return text.substr(0, text.find('\n'));
}

std::vector<std::string> list(const std::string& path) {
  std::vector<std::string> names;
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return names;
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  ::closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

void tell_system(const std::string& /*argument*/) {
  struct sysinfo info {};
  ::sysinfo(&info);
  tell("memory_mib %lu", info.totalram * info.mem_unit >> 20);
  tell("cpus %ld", ::sysconf(_SC_NPROCESSORS_ONLN));
  tell("uptime %ld", info.uptime);
}

/// The kernel's messages of level "warning" and worse.
void tell_messages(const std::string& /*argument*/) {
  constexpr int kReadAll = 3;
  std::string log(1 << 18, '\0');
  const int length = ::klogctl(kReadAll, log.data(), static_cast<int>(log.size()));
  if (length < 0) return tell_error("klogctl");
  log.resize(static_cast<size_t>(length));
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string line = log.substr(at, end - at);  // "<4>[    0.123456] text"
    if (line.size() > 2 && line[1] <= '4') tell("message %s", line.c_str() + line.find(']') + 2);
    at = end + 1;
  }
  tell("messages end");
}

void tell_interrupts(const std::string& /*argument*/) {
  const std::string table = read_all("/proc/interrupts");
  for (size_t at = 0; at < table.size();) {
    const size_t end = std::min(table.find('\n', at), table.size());
    const std::string line = table.substr(at, end - at);
    for (const char* name : {"virtio", "ttyS0", "acpi", "rtc0"}) {
      if (line.find(name) != std::string::npos) tell("interrupt %s", line.c_str());
    }
    at = end + 1;
  }
}

namespace {

void mount_all() {
  ::mkdir("/proc", 0755);
  ::mkdir("/sys", 0755);
  ::mkdir("/mnt", 0755);
  ::mount("proc", "/proc", "proc", 0, nullptr);
  ::mount("sysfs", "/sys", "sysfs", 0, nullptr);
  ::mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);  // a root disk has it mounted already
}

/// All that was told has left through the serial port.
void drain() {
  std::fflush(stdout);
  ::tcdrain(STDOUT_FILENO);
}

void leave_by(int how) {
  ::umount("/mnt");
  ::mount("", "/", "", MS_REMOUNT | MS_RDONLY, nullptr);
  ::sync();
  drain();
  ::reboot(how);
  tell_error("reboot");
}

void power_off(const std::string& /*argument*/) {
  leave_by(RB_POWER_OFF);
}
void restart(const std::string& /*argument*/) {
  leave_by(RB_AUTOBOOT);
}

void panic(const std::string& /*argument*/) {
  drain();
  const int trigger = ::open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
  if (::write(trigger, "c", 1) != 1) tell_error("sysrq");
}

void wait_for_button(const std::string& /*argument*/) {
  const int input = ::open("/dev/input/event0", O_RDONLY | O_CLOEXEC);
  if (input < 0) return tell_error("input");
  tell("waiting");
  drain();
  input_event event{};
  while (::read(input, &event, sizeof event) == sizeof event) {
    if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) break;
  }
  tell("button pressed");
}

struct Step {
  const char* name;
  void (*run)(const std::string&);
};

constexpr Step kSteps[] = {
    {"system", tell_system},    {"messages", tell_messages}, {"interrupts", tell_interrupts},
    {"pci", tell_pci},          {"bar", tell_bar},           {"ports", tell_ports},
    {"disks", tell_disks},      {"files", use_files},        {"keep", keep_files},
    {"readonly", try_readonly}, {"discard", try_discard},    {"button", wait_for_button},
    {"poweroff", power_off},    {"restart", restart},        {"panic", panic},
};

void run_step(const std::string& word) {
  const size_t colon = std::min(word.find(':'), word.size());
  const std::string name = word.substr(0, colon);
  const std::string argument = colon < word.size() ? word.substr(colon + 1) : "";
  for (const Step& step : kSteps) {
    if (name == step.name) return step.run(argument);
  }
  tell("error no step %s", word.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kConsoleOff = 6;
  ::klogctl(kConsoleOff, nullptr, 0);  // nothing in the middle of our lines
  mount_all();
  tell("probe begins");
  for (int i = 1; i < argc; ++i) {
    run_step(argv[i]);
    std::fflush(stdout);
  }
  drain();
  return 0;  // and the kernel panics: process 1 must not end
}
