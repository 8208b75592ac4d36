// Opens, locks and measures the host file or block device behind a disk.
#pragma once

#include "kvm/fd.h"
#include "virtio/blk.h"
#include "virtio/blk_config.h"

namespace ringlet {

/// An open disk. The lock lives as long as `file` does.
struct DiskFile {
  Fd file;
  Fd buffered;  ///< the same file without O_DIRECT, when `file` has it
  BlkBacking backing;
};

/// Throws ConfigError when the path does not name a file or block device that can be this disk.
/// Opens nothing.
void check_disk(const BlkConfig& config);

/// The same, and throws ConfigError when another process uses it: one writer, or any number of
/// readers; a block device that is to be written must not be mounted either.
DiskFile open_disk(const BlkConfig& config);

/// The same disk for one more I/O loop, which needs files of its own: of each opening Linux reports
/// a failed write-back once, and who shared one might hear of it from nobody. Throws
/// std::system_error.
DiskFile open_again(const DiskFile& disk);

/// True for a regular file that no name leads to any more: it goes with its last user.
bool is_deleted(const Fd& file) noexcept;

/// What the device model needs besides; `name` is for log lines.
BlkSettings blk_settings(const BlkConfig& config, std::string name);

}  // namespace ringlet
