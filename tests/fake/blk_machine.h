// A disk, its transport, the simulated loop and a driver for it: a machine in a test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pci/host_bridge.h"
#include "tests/fake/driver.h"
#include "tests/fake/simulated_loop.h"
#include "virtio/blk.h"
#include "virtio/pci_transport.h"

namespace ringlet {

struct BlkMachineOptions {
  BlkSettings settings{.name = "disk", .serial = "ringlet-serial-00001"};
  SimulatedLoop::Options loop;
  uint64_t disk_bytes = 1 << 20;
  /// With it, the disk stands for one opened with O_DIRECT that demands this much alignment.
  uint32_t direct_alignment = 0;
  /// Another machine's, which this one carries on with.
  std::shared_ptr<GuestMemory> memory;
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

/// A request of virtio-blk as the driver sees it. Header, data and status lie in guest memory.
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

class BlkMachine {
 public:
  /// The status byte before the device wrote it.
  static constexpr uint8_t kNoStatus = 0xee;

  explicit BlkMachine(const BlkMachineOptions& options = {});
  ~BlkMachine();
  BlkMachine(const BlkMachine&) = delete;
  BlkMachine& operator=(const BlkMachine&) = delete;

  SimFile& disk() { return loop.file(disk_file); }
  static Features all_features();

  /// Negotiates, enables every queue with `queue_size` descriptors (MSI-X vector: its index + 1)
  /// and sets DRIVER_OK.
  void start(Features without = {}, uint16_t queue_size = 16);
  void enable_queue(uint16_t queue, uint16_t queue_size);

  /// Writes a request into guest memory and the ring; the device does not see it yet.
  BlkRequest& add(const BlkShape& shape);
  /// Makes what was added available, and kicks if the device wants it. The loop does not turn.
  void kick(uint16_t queue = 0);
  BlkRequest& submit(const BlkShape& shape);
  /// Takes what the device gave back and notes it in the requests.
  void collect();
  /// Turns the loop until it rests, and collects.
  void run();

  uint8_t status_of(const BlkRequest& request) const;
  std::vector<std::byte> data_of(const BlkRequest& request) const;

  std::shared_ptr<GuestMemory> memory;
  GuestHeap heap;
  SimulatedLoop loop;
  IoFile disk_file;
  IoFile buffered_file;
  Blk blk;
  FakeInterrupts interrupts;
  FakeDoorbells doorbells;
  Buses buses;
  HostBridge bridge;
  PciTransport transport;
  Bdf bdf;
  PciDriver driver;
  Features negotiated;
  std::vector<std::unique_ptr<DriverQueue>> queues;
  std::deque<BlkRequest> requests;
};

}  // namespace ringlet
