// What can be chosen about a virtio-blk disk.
#pragma once

#include <cstdint>
#include <string>

#include "virtio/options.h"

namespace ringlet {

struct BlkConfig {
  std::string path;
  std::string id;
  bool readonly = false;
  bool direct = false;
  uint16_t queues = 1;
  uint16_t queue_size = 256;
  std::string serial;
  bool discard = true;
  bool writeback = true;
};

inline constexpr Option<BlkConfig> kBlkOptions[] = {
    option<&BlkConfig::path>({.name = "path",
                              .doc = "raw image or block device; its size is the disk's",
                              .form = OptionForm::File,
                              .required = true,
                              .implied = true}),
    option<&BlkConfig::id>(
        {.name = "id", .doc = "name of this disk", .form = OptionForm::Name, .max = 64}),
    option<&BlkConfig::readonly>({.name = "readonly", .doc = "the guest cannot write"}),
    option<&BlkConfig::direct>(
        {.name = "direct", .doc = "bypass the host's page cache (O_DIRECT)"}),
    option<&BlkConfig::queues>(
        {.name = "queues", .doc = "number of request queues", .min = 1, .max = 64}),
    option<&BlkConfig::queue_size>({.name = "queue-size",
                                    .doc = "descriptors per queue",
                                    .form = OptionForm::PowerOfTwo,
                                    .min = 4,  // a request has three: header, data, status
                                    .max = 1024}),
    // VIRTIO_BLK_ID_BYTES: virtio 1.3, 5.2.6.
    option<&BlkConfig::serial>({.name = "serial",
                                .doc = "serial number the guest reads (GET_ID)",
                                .form = OptionForm::Ascii,
                                .max = 20}),
    option<&BlkConfig::discard>(
        {.name = "discard", .doc = "offer DISCARD and WRITE_ZEROES, which free host blocks"}),
    option<&BlkConfig::writeback>(
        {.name = "writeback",
         .doc = "start as a write-back cache, made durable by FLUSH; off: every write is durable"}),
};

template <>
inline constexpr DeviceType<BlkConfig> kDeviceType<BlkConfig>{
    .name = "disk",
    .title = "virtio-blk: a disk kept in a raw image file or a block device",
    .example = "--disk path=root.ext4,readonly,serial=root",
    .options = kBlkOptions};

}  // namespace ringlet
