// The threads that make and run the vCPUs: started paused, paused and resumed together, stopped for
// good.
#include "vmm/vcpu_threads.h"

#include <string>
#include <utility>

#include <pthread.h>

namespace ringlet {

VcpuThreads::VcpuThreads(uint32_t count, Maker make, Buses& buses, ExitHandler on_exit,
                         const CpuList& cpus)
    : make_(std::move(make)), buses_(buses), on_exit_(std::move(on_exit)), vcpus_(count) {
  threads_.reserve(count);
  try {
    for (uint32_t id = 0; id < count; ++id) {
      CpuList own;
      if (!cpus.empty()) own.push_back(cpus[id % cpus.size()]);
      threads_.emplace_back([this, id, own] { make_and_run(id, own); });
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
  const std::scoped_lock lock(mutex_);  // some may be in the making
  for (const auto& vcpu : vcpus_) {
    if (vcpu) vcpu->kick();
  }
}

const std::vector<std::unique_ptr<Vcpu>>& VcpuThreads::vcpus() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return outside_ == threads_.size(); });
  if (failure_) std::rethrow_exception(failure_);
  return vcpus_;
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

void VcpuThreads::make_and_run(uint32_t id, const CpuList& cpus) noexcept {
  try {
    const std::string name = "vcpu" + std::to_string(id);
    ::pthread_setname_np(::pthread_self(), name.c_str());
    pin_this_thread(cpus);
    auto vcpu = make_(id);
    const std::scoped_lock lock(mutex_);
    vcpus_[id] = std::move(vcpu);
  } catch (...) {
    const std::scoped_lock lock(mutex_);
    failure_ = std::current_exception();
    ++outside_;
    changed_.notify_all();
    return;
  }
  run(*vcpus_[id]);
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
