// A virtio disk in a test: the device, the machine around it, and requests as a driver makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tests/fake/pci_machine.h"
#include "virtio/blk.h"
#include "virtio/blk_layout.h"

namespace ringlet {

struct BlkMachineOptions {
  BlkSettings settings{.name = "disk", .serial = "ringlet-serial-00001"};
  SimulatedLoop::Options loop{};
  uint64_t disk_bytes = 1 << 20;
  /// With it, the disk stands for one opened with O_DIRECT that demands this much alignment.
  uint32_t direct_alignment = 0;
  /// Another machine's, which this one carries on with.
  GuestMemory* memory = nullptr;
  /// Puts a device of the test's between transport and disk.
  std::function<std::unique_ptr<Device>(Blk&)> wrap{};
};

/// What a request is to look like.
struct BlkShape {
  uint32_t type = 0;
  uint64_t sector = 0;
  /// Lengths of the data descriptors, which lie one behind the other; empty: one for all of it.
  std::vector<uint32_t> parts{};
  /// What the device reads.
  std::vector<std::byte> data{};
  uint16_t queue = 0;
};

/// A request as the driver sees it. Header, data and status lie in guest memory.
struct BlkRequest {
  uint32_t type = 0;
  uint16_t queue = 0;
  uint16_t head = 0;
  GuestAddr header;
  GuestAddr data;
  uint32_t data_bytes = 0;
  GuestAddr status;
  /// The used length, once the device gave it back.
  std::optional<uint32_t> used;
};

/// Bytes that differ from place to place and from seed to seed.
std::vector<std::byte> pattern(size_t bytes, uint8_t seed);

/// The device, which has to exist before its transport.
struct BlkHolder {
  explicit BlkHolder(const BlkMachineOptions& options);
  Device& device() { return wrapped ? *wrapped : blk; }
  Blk blk;
  std::unique_ptr<Device> wrapped;
};

class BlkMachine : public BlkHolder, public PciMachine {
 public:
  /// The status byte before the device wrote it.
  static constexpr uint8_t kNoStatus = 0xee;
  /// No descriptor: the loop has a simulated file in its place.
  static constexpr int kDiskFd = 1'000'000;

  explicit BlkMachine(const BlkMachineOptions& options = {});

  SimFile& disk() { return loop.file(disk_file); }
  std::vector<std::byte> on_disk(uint64_t offset, size_t bytes);

  /// Writes a request into guest memory and the ring; the device does not see it yet.
  BlkRequest& add(const BlkShape& shape);
  /// And makes it available. The loop does not turn.
  BlkRequest& submit(const BlkShape& shape);
  /// Takes what the device gave back and notes it in the requests.
  void collect();
  /// Turns the loop until it rests, and collects.
  void run();
  /// submit(), run(), and the status.
  uint8_t run(const BlkShape& shape);

  uint8_t status_of(const BlkRequest& request) const;
  std::vector<std::byte> data_of(const BlkRequest& request) const;

  IoFile disk_file;
  IoFile buffered_file;
  std::deque<BlkRequest> requests;
};

}  // namespace ringlet
