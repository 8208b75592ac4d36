// virtio-blk as it lies in memory: configuration, request header, ranges (virtio 1.3, 5.2).
#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kvm/wire.h"

namespace ringlet {

/// The unit of capacity, offsets and lengths, whatever the block size is (5.2.4).
inline constexpr uint64_t kSector = 512;
inline constexpr size_t kSerialBytes = VIRTIO_BLK_ID_BYTES;

/// struct virtio_blk_config, up to the fields of features that are offered (5.2.4).
struct BlkConfigLayout {
  le64 capacity;  // 512-byte sectors
  le32 size_max;
  le32 seg_max;
  le16 cylinders;
  uint8_t heads;
  uint8_t sectors;
  le32 blk_size;
  uint8_t physical_block_exp;
  uint8_t alignment_offset;
  le16 min_io_size;
  le32 opt_io_size;
  uint8_t writeback;
  uint8_t unused0;
  le16 num_queues;
  le32 max_discard_sectors;
  le32 max_discard_seg;
  le32 discard_sector_alignment;
  le32 max_write_zeroes_sectors;
  le32 max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  std::array<uint8_t, 3> unused1;
};
static_assert(sizeof(BlkConfigLayout) == 60);
static_assert(offsetof(BlkConfigLayout, writeback) == offsetof(virtio_blk_config, wce));
static_assert(offsetof(BlkConfigLayout, num_queues) == offsetof(virtio_blk_config, num_queues));
static_assert(offsetof(BlkConfigLayout, write_zeroes_may_unmap) ==
              offsetof(virtio_blk_config, write_zeroes_may_unmap));

/// What every request starts with (5.2.6).
struct BlkRequestHeader {
  le32 type;
  le32 reserved;
  le64 sector;
};
static_assert(sizeof(BlkRequestHeader) == sizeof(virtio_blk_outhdr));

/// What DISCARD and WRITE_ZEROES carry (5.2.6).
struct BlkRangeLayout {
  le64 sector;
  le32 sectors;
  le32 flags;
};
static_assert(sizeof(BlkRangeLayout) == sizeof(virtio_blk_discard_write_zeroes));

}  // namespace ringlet
