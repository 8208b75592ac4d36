// The threads that make and run the vCPUs: started paused, paused and resumed together, stopped for
// good.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kvm/affinity.h"
#include "kvm/bus.h"
#include "kvm/vcpu.h"

namespace ringlet {

/// Boot, pause, snapshot and stop are one path: a thread either runs guest code or waits here.
class VcpuThreads {
 public:
  /// Called on a vCPU's thread for each exit that the buses could not answer, but for kicks. The
  /// vCPU waits afterwards until it is resumed or stopped.
  using ExitHandler = std::function<void(Vcpu&, const VcpuExit&)>;

  /// Makes the vCPU of this number, on its thread: KVM wants calls for a vCPU to come from the
  /// thread that made it, and setting one up takes long enough to do other things meanwhile.
  using Maker = std::function<std::unique_ptr<Vcpu>(uint32_t id)>;

  /// Starts `count` threads, which call `make` and wait. What that needs, and `buses`, must outlive
  /// this. With `cpus` each stays on one CPU of the host, taken in turn. Throws std::system_error.
  VcpuThreads(uint32_t count, Maker make, Buses& buses, ExitHandler on_exit,
              const CpuList& cpus = {});
  VcpuThreads(const VcpuThreads&) = delete;
  VcpuThreads& operator=(const VcpuThreads&) = delete;
  /// Stops.
  ~VcpuThreads();

  /// The vCPUs by number, all of them made and waiting for the first resume(). Throws what `make`
  /// threw. Main thread.
  const std::vector<std::unique_ptr<Vcpu>>& vcpus();

  void resume();
  /// Asks every vCPU to leave the guest; returns at once. Any thread, vCPU threads included.
  void request_pause() noexcept;
  /// Returns when every vCPU has left the guest. Not on a vCPU thread.
  void pause();
  /// Pauses and ends the threads. Not on a vCPU thread.
  void stop();

 private:
  enum class Goal { Pause, Run, Stop };

  void make_and_run(uint32_t id, const CpuList& cpus) noexcept;
  void run(Vcpu& vcpu);
  /// Waits until a round after `round` has begun, and notes which; false when the thread is to end.
  bool wait_for_run(uint64_t& round);
  void set_goal(Goal goal) noexcept;

  const Maker make_;
  Buses& buses_;
  const ExitHandler on_exit_;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;  // null: in the making
  std::condition_variable changed_;
  Goal goal_ = Goal::Pause;
  size_t outside_ = 0;  // threads that wait here, or have failed
  std::exception_ptr failure_;
  uint64_t round_ = 0;  // counts resume()s: a vCPU that left the guest waits for the next one

  std::vector<std::thread> threads_;
};

}  // namespace ringlet
