// The threads that run the vCPUs: started paused, paused and resumed together, stopped for good.
#include "vmm/vcpu_threads.h"

#include <string>
#include <utility>

#include <pthread.h>

namespace ringlet {

VcpuThreads::VcpuThreads(std::span<const std::unique_ptr<Vcpu>> vcpus, Buses& buses,
                         ExitHandler on_exit, const CpuList& cpus)
    : vcpus_(vcpus), buses_(buses), on_exit_(std::move(on_exit)) {
  threads_.reserve(vcpus.size());
  try {
    for (const auto& vcpu : vcpus) {
      CpuList own;
      if (!cpus.empty()) own.push_back(cpus[vcpu->id() % cpus.size()]);
      threads_.emplace_back([this, &one = *vcpu, own] {
        pin_this_thread(own);
        const std::string name = "vcpu" + std::to_string(one.id());
        ::pthread_setname_np(::pthread_self(), name.c_str());
        run(one);
      });
    }
  } catch (...) {
    stop();
    throw;
  }
}

VcpuThreads::~VcpuThreads() {
  stop();
}

void VcpuThreads::set_goal(Goal goal) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    if (goal_ == Goal::Stop) return;
    goal_ = goal;
    if (goal == Goal::Run) ++round_;
  }
  changed_.notify_all();
  if (goal == Goal::Run) return;
  for (const auto& vcpu : vcpus_) vcpu->kick();
}

void VcpuThreads::resume() {
  set_goal(Goal::Run);
}

void VcpuThreads::request_pause() noexcept {
  set_goal(Goal::Pause);
}

void VcpuThreads::pause() {
  request_pause();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return outside_ == threads_.size(); });
}

void VcpuThreads::stop() {
  set_goal(Goal::Stop);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

bool VcpuThreads::wait_for_run(uint64_t& round) {
  std::unique_lock lock(mutex_);
  ++outside_;
  changed_.notify_all();
  changed_.wait(lock,
                [&] { return goal_ == Goal::Stop || (goal_ == Goal::Run && round_ > round); });
  --outside_;
  round = round_;
  return goal_ == Goal::Run;
}

void VcpuThreads::run(Vcpu& vcpu) {
  const auto paused = [this] {
    const std::scoped_lock lock(mutex_);
    return goal_ != Goal::Run;
  };
  uint64_t round = 0;
  while (wait_for_run(round)) {
    do {
      const VcpuExit exit = vcpu.run(buses_);
      if (exit.kind != VcpuExit::Kind::Interrupted) {
        on_exit_(vcpu, exit);
        break;
      }
    } while (!paused());
  }
}

}  // namespace ringlet
