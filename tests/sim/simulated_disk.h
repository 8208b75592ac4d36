// One disk of the simulated machine, as the host has it: the device, its transport, its file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kvm/bus.h"
#include "pci/host_bridge.h"
#include "tests/fake/simulated_loop.h"
#include "tests/sim/disk_model.h"
#include "tests/sim/meddler.h"
#include "tests/sim/plan.h"
#include "tests/sim/simulated_irq.h"
#include "virtio/blk.h"
#include "virtio/pci_transport.h"

namespace ringlet {

/// What all disks of a machine share.
struct SimulatedBoard {
  static constexpr PciLayout kLayout{.ecam = {0xc0100000, 1 << 20},
                                     .window32 = {0xd0000000, 1 << 28},
                                     .window64 = {1ULL << 32, 1ULL << 32}};

  SimulatedBoard(const SimulatedLoop::Options& options, const GuestMemory& ram)
      : memory(ram), loop(options), doorbells(loop), bridge(buses, kLayout) {}
  const GuestMemory& memory;
  SimulatedLoop loop;
  SimulatedDoorbells doorbells;
  Buses buses;
  HostBridge bridge;
};

class SimulatedDisk {
 public:
  SimulatedDisk(SimulatedBoard& board, const DiskPlan& plan, int number);

  int number() const { return number_; }
  SimulatedBoard& board() const { return board_; }
  const DiskPlan& plan() const { return plan_; }
  const std::string& serial() const { return serial_; }
  SimulatedInterrupts& interrupts() { return interrupts_; }
  uint64_t merged() const;
  PciTransport& transport() { return transport_; }
  /// Called in the midst of whatever a part of the device does.
  void set_meanwhile(const std::function<void()>& act);
  Bdf bdf() const { return bdf_; }
  DiskModel& model() { return model_; }
  /// Whether its BAR is decoded where it points.
  bool reachable() const { return board_.bridge.mapped_at(bdf_, 0).has_value(); }
  bool owns(IoFile file) const { return file == file_ || file == buffered_; }

  /// Of another machine: the file and what is known of it. That one must not go on.
  void take_over(SimulatedDisk& other);

  /// Operations of the host on its file.
  size_t in_flight() const;
  /// Failures of the host that may show as errors of requests.
  uint64_t host_failures() const { return host_failures_; }
  /// Whether the host failed a flush: none may succeed any more (the host may have lost data).
  bool flush_failed() const { return flush_failed_; }
  /// Takes note of, and judges, an operation that the device asked for.
  void asked_for(const SimRecord& record);
  /// The file against the model: now, and what a power cut would leave.
  void check_file() const;
  void check_stable() const { check_stable(0, plan_.sectors); }
  void check_stable(uint64_t sector, uint64_t sectors) const;

 private:
  std::vector<std::unique_ptr<Blk>> make_blks() const;
  std::vector<std::unique_ptr<Meddler>> make_meddlers() const;
  std::vector<DevicePart> other_parts() const;
  static BlkSettings settings_of(const DiskPlan& plan, const std::string& serial);
  BlkBacking backing_of(const DiskPlan& plan) const;
  SimFile& contents() const { return board_.loop.file(file_); }

  SimulatedBoard& board_;
  const DiskPlan plan_;
  const int number_;
  const std::string serial_;
  const IoFile file_;
  const IoFile buffered_;
  std::vector<std::unique_ptr<Blk>> blks_;  // by part
  std::vector<std::unique_ptr<Meddler>> meddlers_;
  SimulatedInterrupts interrupts_;
  PciTransport transport_;
  const Bdf bdf_;
  DiskModel model_;
  uint64_t host_failures_ = 0;
  bool flush_failed_ = false;
};

}  // namespace ringlet
