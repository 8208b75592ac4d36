// The threads that run the vCPUs: started paused, paused and resumed together, stopped for good.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
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

  /// `vcpus` and `buses` must outlive this. The threads start and wait. With `cpus` each stays on
  /// one CPU of the host, taken in turn. Throws std::system_error.
  VcpuThreads(std::span<const std::unique_ptr<Vcpu>> vcpus, Buses& buses, ExitHandler on_exit,
              const CpuList& cpus = {});
  VcpuThreads(const VcpuThreads&) = delete;
  VcpuThreads& operator=(const VcpuThreads&) = delete;
  /// Stops.
  ~VcpuThreads();

  void resume();
  /// Asks every vCPU to leave the guest; returns at once. Any thread, vCPU threads included.
  void request_pause() noexcept;
  /// Returns when every vCPU has left the guest. Not on a vCPU thread.
  void pause();
  /// Pauses and ends the threads. Not on a vCPU thread.
  void stop();

 private:
  enum class Goal { Pause, Run, Stop };

  void run(Vcpu& vcpu);
  /// Waits until a round after `round` has begun, and notes which; false when the thread is to end.
  bool wait_for_run(uint64_t& round);
  void set_goal(Goal goal) noexcept;

  std::span<const std::unique_ptr<Vcpu>> vcpus_;
  Buses& buses_;
  const ExitHandler on_exit_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Goal goal_ = Goal::Pause;
  size_t outside_ = 0;  // threads that wait here
  uint64_t round_ = 0;  // counts resume()s: a vCPU that left the guest waits for the next one

  std::vector<std::thread> threads_;
};

}  // namespace ringlet
