// Opens, locks and measures the host file or block device behind a disk.
#include "vmm/disk_file.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "kvm/error.h"
#include "virtio/blk_layout.h"
#include "vmm/patience.h"

namespace ringlet {
namespace {

[[noreturn]] void reject(const BlkConfig& config, const std::string& why) {
  throw ConfigError(fmt::format("{}: {}", file_label("disk", config.path), why));
}

[[noreturn]] void reject_open(const BlkConfig& config, int error) {
  if (is_shortage(error)) {
    errno = error;
    throw_errno(file_label("disk", config.path));
  }
  if ((error == EROFS || error == EACCES || error == ETXTBSY) && !config.readonly) {
    reject(config, fmt::format("cannot be opened for writing: {}; is 'readonly' missing?",
                               std::strerror(error)));
  }
  if (error == EBUSY) {
    reject(config, "is mounted or in use elsewhere; a writable block device has one user");
  }
  reject(config, fmt::format("cannot be opened: {}", std::strerror(error)));
}

Fd open_file(const BlkConfig& config, int extra_flags) {
  const int flags = (config.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | extra_flags;
  Fd fd;
  try_patiently([&] {
    fd.reset(::open(config.path.c_str(), flags));
    return fd || errno != EBUSY;
  });
  if (fd) return fd;
  if (errno == EINVAL && (extra_flags & O_DIRECT) != 0) {
    reject(config, "its file system does not allow direct I/O; leave out 'direct'");
  }
  reject_open(config, errno);
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a character device";
}

void check_size(const BlkConfig& config, uint64_t size) {
  if (size == 0) reject(config, "is empty; expected at least 512 bytes");
  if (size % kSector == 0) return;
  reject(config,
         fmt::format("its size, {} bytes, is not a multiple of 512; expected a raw image", size));
}

/// Refuses what is no disk before opening it: the open of a FIFO would wait for a writer.
struct stat examine(const BlkConfig& config) {
  struct stat info {};
  if (::stat(config.path.c_str(), &info) != 0) reject_open(config, errno);
  if (S_ISBLK(info.st_mode)) return info;
  if (!S_ISREG(info.st_mode)) {
    reject(config,
           fmt::format("is {}; expected an image or a block device", kind_of(info.st_mode)));
  }
  check_size(config, static_cast<uint64_t>(info.st_size));
  return info;
}

bool is_taken(int error) {
  return error == EAGAIN || error == EACCES;
}

void lock(const BlkConfig& config, const Fd& fd) {
  // A lock of the open file description: it goes with the descriptor, however the process ends,
  // and it also keeps one machine from using a file for two disks.
  struct flock request {};
  request.l_type = config.readonly ? F_RDLCK : F_WRLCK;
  request.l_whence = SEEK_SET;
  bool locked = false;
  try_patiently([&] {
    locked = ::fcntl(fd.get(), F_OFD_SETLK, &request) == 0;
    return locked || !is_taken(errno);
  });
  if (locked) return;
  if (is_taken(errno)) {
    reject(config, config.readonly ? "is open for writing elsewhere; expected readers only"
                                   : "is in use elsewhere; a writable disk has one user");
  }
  // File systems without locks: a lock that cannot be had protects nobody else either.
  log_warn("{}: cannot be locked: {}", file_label("disk", config.path), std::strerror(errno));
}

uint32_t block_ioctl(const Fd& fd, unsigned long request, uint32_t fallback) {
  unsigned value = 0;
  return ::ioctl(fd.get(), request, &value) == 0 && value >= kSector ? value : fallback;
}

void measure(const BlkConfig& config, const struct stat& info, const Fd& fd, BlkBacking& backing) {
  if (S_ISBLK(info.st_mode)) {
    uint64_t size = 0;
    check(::ioctl(fd.get(), BLKGETSIZE64, &size), "BLKGETSIZE64");
    backing.size = size;
    int logical = 0;
    if (::ioctl(fd.get(), BLKSSZGET, &logical) == 0 && logical >= 512) {
      backing.logical_block = static_cast<uint32_t>(logical);
    }
    backing.physical_block = block_ioctl(fd, BLKPBSZGET, backing.logical_block);
    backing.discard_alignment = backing.physical_block;
  } else {
    struct stat now {};
    check(::fstat(fd.get(), &now), "fstat of a disk");
    backing.size = static_cast<uint64_t>(now.st_size);
    backing.physical_block = kPage;
    backing.discard_alignment = kPage;
  }
  check_size(config, backing.size);
}

/// The smallest block that O_DIRECT reads from `fd`. Asked of the file itself, since neither the
/// file system's nor the device's word is had in the same way everywhere.
uint32_t probe_direct_alignment(const BlkConfig& config, const Fd& fd) {
  alignas(kPage) std::array<std::byte, kPage> buffer;
  for (uint32_t block = kSector; block <= kPage; block *= 2) {
    if (::pread(fd.get(), buffer.data(), block, 0) >= 0) return block;
    if (errno != EINVAL) break;
  }
  reject(config, fmt::format("cannot be read directly: {}", std::strerror(errno)));
}

}  // namespace

void check_disk(const BlkConfig& config) {
  examine(config);
  const int mode = config.readonly ? R_OK : R_OK | W_OK;
  if (::faccessat(AT_FDCWD, config.path.c_str(), mode, AT_EACCESS) != 0) reject_open(config, errno);
}

DiskFile open_disk(const BlkConfig& config) {
  const struct stat info = examine(config);
  // The host's kernel knows who else uses a block device: a mounted file system, a volume manager.
  const bool exclusive = S_ISBLK(info.st_mode) && !config.readonly;
  DiskFile disk;
  disk.file = open_file(config, (config.direct ? O_DIRECT : 0) | (exclusive ? O_EXCL : 0));
  lock(config, disk.file);
  measure(config, info, disk.file, disk.backing);
  if (config.direct) {
    disk.buffered = open_file(config, 0);
    disk.backing.offset_alignment = probe_direct_alignment(config, disk.file);
    disk.backing.memory_alignment = disk.backing.offset_alignment;
  }
  disk.backing.fd = disk.file.get();
  disk.backing.buffered_fd = disk.buffered.get();
  return disk;
}

DiskFile open_again(const DiskFile& disk) {
  const auto again = [](const Fd& file) {
    const int flags = check(::fcntl(file.get(), F_GETFL), "F_GETFL") & (O_ACCMODE | O_DIRECT);
    const auto path = fmt::format("/proc/self/fd/{}", file.get());
    return Fd(check(::open(path.c_str(), flags | O_CLOEXEC), "opening a disk again"));
  };
  DiskFile copy;
  copy.file = again(disk.file);
  if (disk.buffered) copy.buffered = again(disk.buffered);
  copy.backing = disk.backing;
  copy.backing.fd = copy.file.get();
  copy.backing.buffered_fd = copy.buffered.get();
  return copy;
}

bool is_deleted(const Fd& file) noexcept {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 0;
}

BlkSettings blk_settings(const BlkConfig& config, std::string name) {
  return {.name = std::move(name),
          .queues = config.queues,
          .queue_size = config.queue_size,
          .readonly = config.readonly,
          .discard = config.discard,
          .writeback = config.writeback,
          .serial = config.serial};
}

}  // namespace ringlet
