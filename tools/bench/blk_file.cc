// The file that is measured, and what of it is in the host's page cache.
#include "tools/bench/blk_file.h"

#include <sys/stat.h>

#include <random>
#include <stdexcept>
#include <vector>

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet::bench {

namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kStatBlock = 512;  // of st_blocks

bool is_complete(const std::string& path, uint64_t bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  return static_cast<uint64_t>(status.st_size) == bytes &&
         static_cast<uint64_t>(status.st_blocks) * kStatBlock >= bytes;
}

Fd open_synced(const std::string& path) {
  Fd file(check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str()));
  check(::fdatasync(file.get()), "fdatasync");
  return file;
}

}  // namespace

void make_blk_file(const std::string& path, uint64_t bytes) {
  if (is_complete(path, bytes)) return;
  const Fd file(
      check(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), path.c_str()));
  std::mt19937_64 random(1);
  std::vector<uint64_t> piece(kPiece / sizeof(uint64_t));
  for (uint64_t& word : piece) word = random();
  for (uint64_t at = 0; at < bytes; at += kPiece) {
    piece[0] = at;  // no two pieces are alike, should the file system look for that
    const size_t length = std::min<uint64_t>(kPiece, bytes - at);
    const ssize_t written = check(::write(file.get(), piece.data(), length), path.c_str());
    if (static_cast<size_t>(written) != length) {
      throw std::runtime_error(fmt::format("{}: the file system is full", path));
    }
  }
  check(::fsync(file.get()), "fsync");
}

void warm_page_cache(const std::string& path) {
  const Fd file = open_synced(path);
  std::vector<char> piece(kPiece);
  while (check(::read(file.get(), piece.data(), piece.size()), path.c_str()) > 0) {
  }
}

void drop_page_cache(const std::string& path) {
  const Fd file = open_synced(path);
  if (const int error = ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED); error != 0) {
    throw std::system_error(error, std::generic_category(), "posix_fadvise");
  }
}

}  // namespace ringlet::bench
