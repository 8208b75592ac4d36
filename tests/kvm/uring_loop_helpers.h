// Helpers for tests of the I/O loop on a real io_uring: waiting for it, and files to work on.
#pragma once

#include <sys/mman.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <latch>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "kvm/uring_loop.h"

namespace ringlet {

inline constexpr uint64_t kHourNs = 3'600'000'000'000;

/// Keeps results for another thread to wait for.
class Awaited final : public Completion {
 public:
  void completed(int32_t result, bool more) noexcept override {
    const std::lock_guard lock(mutex_);
    results_.push_back(result);
    finished_ = !more;
    changed_.notify_all();
  }
  /// The first `count` results. Gives up after a time that no working loop needs.
  std::vector<int32_t> wait(size_t count = 1) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(5), [&] { return results_.size() >= count; });
    return results_;
  }
  bool finished() {
    const std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> results_;
  bool finished_ = false;
};

/// Runs a function on the loop and waits until it has.
inline void on_loop(UringLoop& loop, std::function<void()> what) {
  struct Call final : Task {
    void run() noexcept override {
      what();
      done.count_down();
    }
    std::function<void()> what;
    std::latch done{1};
  } call;
  call.what = std::move(what);
  loop.post(call);
  call.done.wait();
}

/// What was asked for before is done as far as the kernel does it at once: it takes requests in
/// their order, and one that was made after them has completed.
inline void next_turn(UringLoop& loop) {
  struct Turn final : Completion {
    void completed(int32_t, bool) noexcept override { done.count_down(); }
    std::latch done{1};
  } turn;
  on_loop(loop, [&] { loop.timeout(1, turn); });
  turn.done.wait();
}

inline Fd temporary_file(size_t size) {
  Fd fd(check(::memfd_create("test", MFD_CLOEXEC), "memfd_create"));
  const std::string zeroes(size, '\0');
  check(::write(fd.get(), zeroes.data(), zeroes.size()), "write");
  return fd;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  Fd read;
  Fd write;
};

inline iovec part_of(std::span<char> data) {
  return {.iov_base = data.data(), .iov_len = data.size()};
}

/// As an old kernel would have it.
inline UringOptions without_features() {
  const UringFeatures none{.share_buffers = false,
                           .single_issuer = false,
                           .coop_taskrun = false,
                           .submit_all = false,
                           .cqe_skip = false,
                           .sparse_files = false,
                           .cancel_any = false,
                           .restrictions = false,
                           .fixed_only = false,
                           .worker_limit = false};
  return {.allow = none};
}

}  // namespace ringlet
