// Opening and reading of kernel and initrd files.
#include "vmm/boot/file.h"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "virtio/options.h"

namespace ringlet {

BootFile BootFile::open(const std::string& role, const std::string& path) {
  std::string label = file_label(role, path);
  // O_NONBLOCK: a FIFO nobody writes to would block the open; the constructor refuses it.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && is_shortage(errno)) throw_errno(label);
  if (!fd) {
    throw ConfigError(label + ": cannot be opened: " + std::generic_category().message(errno));
  }
  return BootFile(std::move(label), std::move(fd));
}

BootFile::BootFile(std::string label, Fd fd) : label_(std::move(label)), fd_(std::move(fd)) {
  struct stat info {};
  check(::fstat(fd_.get(), &info), "fstat of a boot file");
  if (S_ISDIR(info.st_mode)) reject("is a directory; expected a file");
  if (!S_ISREG(info.st_mode)) reject("is not a regular file; expected one");
  if (info.st_size <= 0) reject("is empty; expected a file with something in it");
  size_ = static_cast<uint64_t>(info.st_size);
}

void BootFile::read(uint64_t at, std::span<std::byte> to) const {
  if (!contains(at, to.size())) {
    reject("is cut off: {} bytes were expected at offset {}, the file ends at {}", to.size(), at,
           size_);
  }
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno("reading " + label_);
    if (got == 0) reject("became shorter while it was read");
    to = to.subspan(static_cast<size_t>(got));
    at += static_cast<uint64_t>(got);
  }
}

}  // namespace ringlet
