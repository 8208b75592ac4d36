// The I/O loop on io_uring, and the thread that runs it.
//
// Data structures that a request touches: the ring's own entry, the caller's Completion and
// buffers, nothing else; nothing is allocated for one. The Completion's address is the entry's
// user_data. A multishot poll's is the number of its record instead (the lowest bit tells), as
// the kernel may end it early and it is then armed again.
//
// Before it sleeps the loop may look around for a while: at queues that are watched, and at the
// completion queue. A thread takes tens of microseconds to wake, and a kick costs the guest as
// much, so this pays where the next event comes soon; how long it takes each time decides about the
// next.
//
// End of life: stop() makes run() cancel what is under way and return when all of it has
// completed. Only then may devices, buffers and guest memory go. A request that is submitted
// meanwhile completes with -ECANCELED, so nobody may try again after that error.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "kvm/affinity.h"
#include "kvm/fd.h"
#include "kvm/io_loop.h"
#include "kvm/log.h"
#include "kvm/poll_window.h"
#include "kvm/uring_buffers.h"
#include "kvm/uring_setup.h"

namespace ringlet {

class UringLoop final : public IoLoop {
 public:
  /// Throws std::system_error when the host gives no io_uring or no descriptors.
  explicit UringLoop(const UringOptions& options = {});
  /// run() has returned, or was never called.
  ~UringLoop() override;

  /// Pins `areas`, so that the kernel need not look up and take hold of their pages for each
  /// transfer (of one piece; others are done as ever). They must stay until the loop is gone; those
  /// mapped from a file privately are copied. Once, before run(). Throws std::system_error: ENOMEM,
  /// or EFAULT, where there is too little memory or RLIMIT_MEMLOCK allows for less.
  void register_memory(std::span<const std::span<std::byte>> areas,
                       uint64_t buffer_bytes = kLargestUringBuffer);
  /// The same with the memory of `other`, which then is pinned only once. False, with nothing done,
  /// where the kernel cannot. Before either runs.
  bool share_memory_of(const UringLoop& other);
  /// Serves until stop(), then drains. Once in a loop's life, on the thread that owns it from now.
  void run() noexcept;
  /// Makes run() drain and return, also when it starts only later. Any thread.
  void stop() noexcept;

  const UringFeatures& features() const { return ring_.features(); }
  /// Turns of the loop and system calls made so far. On the loop, or after run().
  uint64_t turns() const { return turns_; }
  uint64_t enters() const { return enters_; }

  IoFile add_file(int fd) noexcept override;
  void remove_file(IoFile file) noexcept override;
  void readv(IoFile file, std::span<const iovec> parts, uint64_t offset,
             Completion& done) noexcept override;
  void writev(IoFile file, std::span<const iovec> parts, uint64_t offset, bool sync,
              Completion& done) noexcept override;
  void flush(IoFile file, Completion& done) noexcept override;
  void allocate(IoFile file, int mode, uint64_t offset, uint64_t length,
                Completion& done) noexcept override;
  void poll(IoFile file, Completion& done) noexcept override;
  void poll_once(IoFile file, Completion& done) noexcept override;
  void timeout(uint64_t ns, Completion& done) noexcept override;
  void cancel(Completion& done) noexcept override;
  void signal(IoFile eventfd) noexcept override;
  void defer(Task& task) noexcept override;
  void watch(Poller& poller) noexcept override;
  bool polls() const noexcept override { return poll_ns_ > 0; }
  void post(Task& task) noexcept override;
  uint64_t now_ns() const noexcept override;

 private:
  enum class State : uint8_t { SettingUp, Running, Draining, Finished };

  /// A multishot poll. Free when `done` is null.
  struct Poll {
    Completion* done = nullptr;
    IoFile file;
    bool cancelled = false;
  };
  /// The wake-up eventfd is polled like any other; waking is all that it is for.
  struct Wake final : Completion {
    void completed(int32_t, bool) noexcept override {}
  };

  // user_data: nobody waits; a Completion's address; a poll's number.
  static constexpr uint64_t kNobody = 0;
  static uint64_t user_data_of(const Completion& done) {
    static_assert(alignof(Completion) > 1);
    return reinterpret_cast<uintptr_t>(&done);
  }
  static uint64_t user_data_of_poll(size_t poll) { return (static_cast<uint64_t>(poll) << 1) | 1; }

  /// What the kernel calls a transfer: of one piece, of several, of one piece of a buffer.
  struct TransferOps {
    uint8_t single;
    uint8_t vectored;
    uint8_t registered;
  };

  bool on_loop() const;
  io_uring_sqe transfer(const TransferOps& ops, std::span<const iovec> parts,
                        uint64_t offset) const;
  bool refuse(Completion& done);
  void start(io_uring_sqe& sqe, IoFile file, Completion& done);
  void start_wait(io_uring_sqe& sqe, IoFile file, Completion& done);
  void put_request(io_uring_sqe& sqe, IoFile file, Completion& done);
  void put(const io_uring_sqe& sqe);
  io_uring_sqe* free_entry();
  void fill(io_uring_sqe& entry, const io_uring_sqe& sqe);
  void arm(size_t poll);
  void put_cancel(uint64_t user_data, uint32_t flags);
  void move_backlog();
  void enter(unsigned completions);
  unsigned worth_waking_for();
  void slept_for(unsigned wanted);
  void sleep();

  bool has_business_with_kernel();
  bool kernel_hides_completions();
  bool kernel_has_news();

  void turn();
  void run_deferred();
  void submit_and_wait();
  PollWindow* window();
  uint64_t poll_time();
  bool look_around(uint64_t ns);
  void run_posted() noexcept;
  void hand_out_completions();
  void hand_out(uint64_t user_data, int32_t result, bool more);
  void hand_out_poll(size_t poll, int32_t result, bool more);
  void hand_out_refused();
  bool has_work();
  bool may_sleep() noexcept;
  void drain();
  void cancel_everything();

  UringRing ring_;
  UringBuffers buffers_;
  EventFd wake_fd_;
  IoFile wake_file_;
  Wake wake_;
  std::vector<__kernel_timespec> timespecs_;  // one per submission queue entry
  uint32_t fresh_slots_from_ = 0;             // of the file table: no file has been in these yet
  std::vector<uint32_t> free_slots_;          // and in these there is none any more
  std::vector<Poll> polls_;
  std::vector<io_uring_sqe> backlog_;          // while the queue is full and the kernel unwilling
  std::vector<Completion*> refused_;           // while draining
  std::unordered_set<Completion*> under_way_;  // only where the kernel has no cancel-any
  TaskList deferred_;
  PollerList watched_;
  const uint64_t poll_ns_;
  PollWindow guest_window_;         // with no I/O under way: only the guest can bring work
  PollWindow host_window_;          // with little under way
  bool batch_ended_ = false;        // in this turn, without a signal: the driver may be polling
  bool signalled_ = false;          // in this turn
  bool completes_at_once_ = false;  // what was submitted last did, as reads of cached pages do
  unsigned submissions_ = 0;        // since that was last found out
  unsigned lone_completions_ = 0;   // in a row that ended a sleep alone
  unsigned batch_sleeps_ = 0;       // to come that are for several
  State state_ = State::SettingUp;
  std::thread::id thread_;
  uint64_t in_flight_ = 0;
  uint64_t waits_ = 0;  // of those: polls and timeouts, which keep nobody busy
  uint64_t turns_ = 0;
  uint64_t enters_ = 0;
  LogLimit log_limit_;

  std::atomic<bool> stop_ = false;
  std::atomic<bool> has_posted_ = false;
  std::mutex mutex_;  // guards what follows and the links of the tasks in these lists
  TaskList posted_;
  TaskList running_;
  bool sleeping_ = false;
};

/// The thread that runs a loop. Ending it stops the loop and waits until that has drained.
class IoThread {
 public:
  /// `name`: at most 15 characters, as the kernel shows them. `cpus`: where it may run; empty for
  /// wherever its maker may. Throws std::system_error.
  IoThread(UringLoop& loop, const std::string& name, const CpuList& cpus = {});
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

 private:
  UringLoop& loop_;
  std::thread thread_;
};

}  // namespace ringlet
