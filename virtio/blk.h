// virtio-blk: a disk on a host file or block device (virtio 1.3, 5.2).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvm/log.h"
#include "virtio/device.h"

namespace ringlet {

enum class BlkFeature : uint8_t {
  SegMax = 2,
  ReadOnly = 5,
  BlkSize = 6,
  Flush = 9,
  Topology = 10,
  ConfigWce = 11,
  MultiQueue = 12,
  Discard = 13,
  WriteZeroes = 14,
};
template <>
inline constexpr bool kIsFeature<BlkFeature> = true;

/// The host's side of a disk: opened, locked and measured by vmm/.
struct BlkBacking {
  int fd = -1;
  /// With O_DIRECT on `fd`: the same file without it, for what O_DIRECT cannot take. Else -1.
  int buffered_fd = -1;
  uint64_t size = 0;                  ///< bytes; a multiple of 512
  uint32_t memory_alignment = 1;      ///< what `fd` demands of buffers; 1 without O_DIRECT
  uint32_t offset_alignment = 1;      ///< and of offsets and lengths
  uint32_t logical_block = 512;       ///< bytes
  uint32_t physical_block = 512;      ///< bytes
  uint32_t discard_alignment = 4096;  ///< bytes
};

struct BlkSettings {
  std::string name;  ///< for the log
  uint16_t queues = 1;
  uint16_t queue_size = 256;
  bool readonly = false;
  bool discard = true;
  bool writeback = true;
  std::string serial{};  ///< up to 20 bytes
};

class Blk final : public Device {
 public:
  /// Written by the loop, read by any thread.
  struct Counters {
    std::atomic<uint64_t> reads{0};
    std::atomic<uint64_t> read_bytes{0};
    std::atomic<uint64_t> writes{0};
    std::atomic<uint64_t> written_bytes{0};
    std::atomic<uint64_t> merged{0};  ///< reads and writes done by the operation of a neighbour
    std::atomic<uint64_t> flushes{0};
    std::atomic<uint64_t> discards{0};
    std::atomic<uint64_t> guest_errors{0};  ///< requests that the guest got wrong
    std::atomic<uint64_t> host_errors{0};   ///< requests that the host could not do
  };

  /// The backing's descriptors must stay open until attach(). `first` is the first part of the same
  /// disk, on another I/O loop, and outlives this: once a flush has failed for one, none succeeds
  /// for any.
  Blk(const BlkSettings& settings, const BlkBacking& backing, Blk* first = nullptr);
  ~Blk() override;

  const Counters& counters() const { return counters_; }

  const DeviceTraits& traits() const noexcept override { return traits_; }
  void attach(DeviceHost& host) noexcept override;
  void activate(Features features) noexcept override;
  void handle(Chain chain) noexcept override;
  void batch_end(QueueIndex queue) noexcept override;
  void config_written(std::span<const std::byte> config) noexcept override;
  void cancel(QueueIndex queue) noexcept override;
  void reset() noexcept override;

 private:
  class Request;
  struct Run;
  struct Lane;

  DeviceTraits make_traits() const;
  Lane& lane_of(const Chain& chain) noexcept;
  void set_writeback(bool on) noexcept;
  bool in_range(uint64_t sector, uint64_t sectors) const noexcept;
  bool fits_direct(std::span<const iovec> parts, uint64_t offset) const noexcept;
  IoFile file_for(std::span<const iovec> parts, uint64_t offset) const noexcept;
  bool write_through() const noexcept;

  // Each starts a request, or finishes it with its status.
  void start(Request& request) noexcept;
  void start_transfer(Request& request, uint64_t sector) noexcept;
  void start_ranges(Request& request, BlkFeature needed) noexcept;
  uint8_t read_ranges(Request& request) noexcept;
  void start_range(Request& request) noexcept;
  void start_identify(Request& request) noexcept;
  void start_flush(Request& request) noexcept;
  void submit_transfer(Request& request) noexcept;
  void submit(Request& request, std::span<const iovec> parts, IoFile file) noexcept;
  void submit_range(Request& request) noexcept;
  void submit_zeroes(Request& request) noexcept;
  void advance(Request& request, size_t bytes) noexcept;
  // Neighbours: virtio/blk_merge.cc.
  void collect(Request& request) noexcept;
  void submit_run(Lane& lane) noexcept;
  void cancel_run(Lane& lane) noexcept;
  void joined_done(Request& first, int32_t result) noexcept;
  // Each takes the result of one operation.
  void transfer_done(Request& request, int32_t result) noexcept;
  void range_done(Request& request, int32_t result) noexcept;
  void flush_done(Request& request, int32_t result) noexcept;
  void note_flush(int32_t result) noexcept;
  void operation_done(Request& request, int32_t result) noexcept;
  void finish(Request& request, uint8_t status) noexcept;
  void host_error(Request& request, int32_t result) noexcept;

  const BlkSettings settings_;
  const BlkBacking backing_;
  DeviceTraits traits_;
  DeviceHost* host_ = nullptr;
  IoFile file_;
  IoFile buffered_file_;
  Features features_;
  bool writeback_;
  std::atomic<bool> own_flush_failed_ = false;
  std::atomic<bool>& flush_failed_;  // for good; the first part's own
  std::vector<Lane> lanes_;          // by queue
  LogLimit log_limit_;
  Counters counters_;
};

}  // namespace ringlet
