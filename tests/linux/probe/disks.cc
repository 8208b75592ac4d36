// The probe's work with disks: what Linux says of them, files, read-only, DISCARD.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "probe.h"

namespace {

constexpr const char* kMountPoint = "/mnt";

std::string node(const std::string& serial) {
  return "/dev/" + disk_of(serial);
}

/// Mounts the disk read-write and writes a file that the host knows, through to the disk.
bool write_files(const std::string& serial) {
  if (::mount(node(serial).c_str(), kMountPoint, "ext4", 0, nullptr) != 0) return false;
  tell("read %s: %s", serial.c_str(), read_line("/mnt/from-host").c_str());
  const int fd = ::open("/mnt/from-guest", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  std::string text;
  constexpr int kLines = 20000;
  for (int i = 1; i <= kLines; ++i) text += std::to_string(i) + '\n';
  const ssize_t written = ::write(fd, text.data(), text.size());
  const bool synced = ::fsync(fd) == 0;
  ::close(fd);
  return synced && written == static_cast<ssize_t>(text.size());
}

}  // namespace

std::string disk_of(const std::string& serial) {
  for (const std::string& disk : list("/sys/block")) {
    if (disk.starts_with("vd") && read_line("/sys/block/" + disk + "/serial") == serial)
      return disk;
  }
  return "";
}

void tell_disks(const std::string& /*argument*/) {
  for (const std::string& disk : list("/sys/block")) {
    if (!disk.starts_with("vd")) continue;
    const std::string folder = "/sys/block/" + disk;
    tell("disk %s serial=%s ro=%s sectors=%s queues=%zu cache=%s", disk.c_str(),
         read_line(folder + "/serial").c_str(), read_line(folder + "/ro").c_str(),
         read_line(folder + "/size").c_str(), list(folder + "/mq").size(),
         read_line(folder + "/cache_type").c_str());
  }
}

/// Reads and writes a file system, and leaves it cleanly.
void use_files(const std::string& serial) {
  if (!write_files(serial)) return tell_error("files " + serial);
  if (::umount(kMountPoint) != 0) return tell_error("umount " + serial);
  tell("wrote %s", serial.c_str());
}

/// The same, but the file system stays mounted until the machine is shut down.
void keep_files(const std::string& serial) {
  if (!write_files(serial)) return tell_error("files " + serial);
  tell("wrote %s", serial.c_str());
}

/// A read-only disk: can be mounted so and read, but neither mounted to write nor written.
void try_readonly(const std::string& serial) {
  const std::string path = node(serial);
  if (::mount(path.c_str(), kMountPoint, "ext4", 0, nullptr) == 0) {
    tell("readonly: mounted to write");
    ::umount(kMountPoint);
  } else {
    tell("readonly: mount to write: %s", strerrorname_np(errno));
  }
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written = fd >= 0 && ::write(fd, "over", 4) == 4 && ::fsync(fd) == 0;
  tell("readonly: write: %s", written ? "written" : strerrorname_np(errno));
  ::close(fd);
  if (::mount(path.c_str(), kMountPoint, "ext4", MS_RDONLY, nullptr) != 0) {
    return tell_error("readonly: mount");
  }
  tell("read %s: %s", serial.c_str(), read_line("/mnt/from-host").c_str());
  ::umount(kMountPoint);
}

/// Discards the second quarter of the disk and writes zeroes to the third.
void try_discard(const std::string& serial) {
  const int fd = ::open(node(serial).c_str(), O_RDWR | O_CLOEXEC);
  uint64_t bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0) return tell_error("discard: size");
  uint64_t second[2] = {bytes / 4, bytes / 4};
  if (::ioctl(fd, BLKDISCARD, second) != 0) return tell_error("discard");
  uint64_t third[2] = {bytes / 2, bytes / 4};
  if (::ioctl(fd, BLKZEROOUT, third) != 0) return tell_error("zero");
  tell("discarded %s", serial.c_str());
}
