// The directory in which bad inputs are tried.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

#include "kvm/error.h"
#include "tests/cli/bad_input.h"
#include "tests/vmm/boot_images.h"

namespace ringlet {
namespace {

std::string text_of(const test::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void make_socket(const std::string& path) {
  const Fd fd(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // By way of the directory's descriptor: the whole path may be too long for a socket's name.
  const auto folder = std::filesystem::path(path).parent_path();
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder);
  std::filesystem::path(path).filename().string().copy(address.sun_path, sizeof address.sun_path);
  check(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  std::filesystem::current_path(before);
}

}  // namespace

Workplace::Workplace() {
  directory_.write("vmlinux", text_of(test::ElfKernel().build()));
  directory_.make_filled_disk("disk.img", 4096);
  directory_.make_filled_disk("fixed.img", 4096);
  directory_.make_filled_disk("odd.img", 1000);
  directory_.write("empty", "");
  directory_.write("secret", "nobody's");
  directory_.make_disk("big", uint64_t{1} << 30);
  directory_.write("vm.json", R"({"kernel": "vmlinux"})");
  check(::mkdir(directory_.path("folder").c_str(), 0700), "mkdir");
  check(::mkfifo(directory_.path("fifo").c_str(), 0600), "mkfifo");
  make_socket(directory_.path("socket"));
  check(::symlink("loop", directory_.path("loop").c_str()), "symlink");
  check(::symlink("nowhere", directory_.path("dangling").c_str()), "symlink");
  check(::chmod(directory_.path("secret").c_str(), 0), "chmod");
  check(::chmod(directory_.path("fixed.img").c_str(), 0400), "chmod");
}

void Workplace::prepare(const BadInput& input) const {
  if (!input.file.empty()) directory_.write(input.file, input.content);
}

std::string Workplace::inventory() const {
  std::string lines;
  for (const std::string& name : directory_.names()) {
    struct stat info {};
    check(::lstat(directory_.path(name).c_str(), &info), "lstat");
    lines +=
        fmt::format("{} {} {:o} {} bytes, {} blocks, changed {}.{:09}, {}.{:09}\n", name,
                    info.st_ino, info.st_mode, info.st_size, info.st_blocks, info.st_mtim.tv_sec,
                    info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
  }
  return lines;
}

}  // namespace ringlet
