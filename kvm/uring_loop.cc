// The I/O loop on io_uring: its turns, its end, and the thread that runs it.
#include "kvm/uring_loop.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

/// How long a drain waits for something to complete before it cancels again.
constexpr uint64_t kDrainPatienceNs = 50'000'000;
/// How long a driver that polls takes at most to answer what it was just shown.
constexpr uint64_t kAnswerNs = 4'000;
/// With that many requests under way waking up for one costs no time, as the others go on.
constexpr uint64_t kDeep = 4;
/// Looks around between two looks at the clock.
constexpr unsigned kLooksPerClock = 8;
/// Submissions after which it is tried again whether requests complete as they are submitted.
constexpr unsigned kSubmissionsPerTrial = 32;

/// Where sleep after sleep ends with one completion of many that are under way, the loop sleeps for
/// this part of them, or so many, or so long.
constexpr uint64_t kBatchPart = 8;
constexpr uint64_t kLargestBatch = 8;
constexpr uint32_t kBatchPatienceUs = 100;
/// That many single completions in a row bring so many sleeps for several.
constexpr unsigned kLoneCompletions = 4;
constexpr unsigned kBatchSleeps = 64;

/// How long to leave a kernel alone that has no memory for our requests.
constexpr std::chrono::milliseconds kRefusedPause{1};

}  // namespace

UringLoop::UringLoop(const UringOptions& options)
    : ring_(options),
      poll_ns_(options.poll_ns),
      guest_window_(options.poll_ns),
      host_window_(options.poll_ns) {
  timespecs_.resize(ring_.ring().sq.ring_entries);
  free_slots_.reserve(ring_.files());
  wake_file_ = add_file(wake_fd_.fd());
  if (!wake_file_) throw std::system_error(EMFILE, std::generic_category(), "io_uring file table");
  poll(wake_file_, wake_);
}

UringLoop::~UringLoop() {
  assert(state_ == State::SettingUp || state_ == State::Finished);
}

bool UringLoop::on_loop() const {
  const bool owned = state_ == State::Running || state_ == State::Draining;
  return !owned || thread_ == std::this_thread::get_id();
}

// Submits what there is, and sleeps until there are so many completions, or nearly so.
void UringLoop::enter(unsigned completions) {
  ++enters_;
  int result = 0;
  if (completions == 0) {
    result = io_uring_submit_and_get_events(&ring_.ring());
  } else if (completions == 1) {
    result = io_uring_submit_and_wait(&ring_.ring(), 1);
  } else {
    result = ring_.submit_and_wait_for(completions, kBatchPatienceUs);
  }
  if (result >= 0 || result == -EINTR || result == -ETIME) return;
  // EBUSY: too many completions wait; the next turn takes them. What was not submitted stays in
  // the queue and goes with the next call.
  if (result == -EBUSY) return;
  if (log_limit_.allow()) log_error("io_uring_enter: error {}", -result);
  std::this_thread::sleep_for(kRefusedPause);
}

// Whether a system call would bring anything: requests to submit, or completions that the kernel
// shows only to a thread that enters it.
bool UringLoop::has_business_with_kernel() {
  return io_uring_sq_ready(&ring_.ring()) > 0 || kernel_hides_completions();
}

bool UringLoop::kernel_hides_completions() {
  return (IO_URING_READ_ONCE(*ring_.ring().sq.kflags) &
          (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

bool UringLoop::kernel_has_news() {
  return io_uring_cq_ready(&ring_.ring()) > 0 || kernel_hides_completions();
}

// ---- The loop ----------------------------------------------------------------------------------

void UringLoop::run() noexcept {
  assert(state_ == State::SettingUp);
  thread_ = std::this_thread::get_id();
  ring_.enable();
  state_ = State::Running;
  while (!stop_.load(std::memory_order_acquire)) turn();
  drain();
  state_ = State::Finished;
}

void UringLoop::turn() {
  ++turns_;
  signalled_ = false;
  run_posted();
  hand_out_completions();
  watched_.poll();
  batch_ended_ = !deferred_.empty();
  run_deferred();
  batch_ended_ = batch_ended_ && !signalled_;
  if (!backlog_.empty()) move_backlog();
  submit_and_wait();
}

void UringLoop::run_deferred() {
  TaskList batch_end = std::exchange(deferred_, TaskList{});
  while (Task* const task = batch_end.pop()) task->run();
}

// Only the tasks that wait now: one that posts itself again gets its next turn later.
void UringLoop::run_posted() noexcept {
  std::unique_lock lock(mutex_);
  has_posted_.store(false, std::memory_order_relaxed);
  assert(running_.empty());
  running_ = std::exchange(posted_, TaskList{});
  while (Task* const task = running_.pop()) {
    lock.unlock();
    task->run();
    lock.lock();
  }
}

void UringLoop::hand_out_completions() {
  if (kernel_hides_completions()) enter(0);
  // No more than there are now, so that posted and deferred work gets its turn.
  for (unsigned left = io_uring_cq_ready(&ring_.ring()); left > 0; --left) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring_.ring(), &cqe) != 0) return;
    const io_uring_cqe copy = *cqe;
    io_uring_cqe_seen(&ring_.ring(), cqe);
    if (has_posted_.load(std::memory_order_acquire)) run_posted();
    hand_out(copy.user_data, copy.res, (copy.flags & IORING_CQE_F_MORE) != 0);
  }
}

void UringLoop::hand_out(uint64_t user_data, int32_t result, bool more) {
  if (user_data == kNobody) return;
  if ((user_data & 1) != 0) return hand_out_poll(static_cast<size_t>(user_data >> 1), result, more);
  Completion* const done = reinterpret_cast<Completion*>(static_cast<uintptr_t>(user_data));
  --in_flight_;
  if (done->waits_) --waits_;
  if (!features().cancel_any) under_way_.erase(done);
  done->completed(result, false);
}

// The kernel may end a multishot poll without an error, for instance when completions overflow.
void UringLoop::hand_out_poll(size_t poll, int32_t result, bool more) {
  Completion& done = *polls_[poll].done;
  if (more) return done.completed(result, true);
  if (result >= 0) {
    if (polls_[poll].cancelled || state_ == State::Draining) {
      result = -ECANCELED;
    } else if (!polls_[poll].file) {
      result = -EBADF;
    } else {
      arm(poll);
      return done.completed(result, true);
    }
  }
  polls_[poll] = Poll{};
  --in_flight_;
  --waits_;
  done.completed(result, false);
}

// ---- Waiting -----------------------------------------------------------------------------------

// One system call in most turns: it submits what the turn has brought and waits for what comes
// next. Two where the loop looks around for work in between.
void UringLoop::submit_and_wait() {
  if (has_work() || kernel_hides_completions()) {
    if (has_business_with_kernel()) enter(0);
    return;
  }
  const uint64_t poll_ns = poll_time();
  if (io_uring_sq_ready(&ring_.ring()) > 0) {
    const bool trial = ++submissions_ >= kSubmissionsPerTrial;
    if (poll_ns > 0 || completes_at_once_ || trial) {
      submissions_ = 0;
      enter(0);
      completes_at_once_ = kernel_has_news();
      if (completes_at_once_) return;
    }
  }
  if (poll_ns > 0 && look_around(poll_ns)) return;
  sleep();
}

// The window for what the loop would wait for now; null when a wait tells nothing.
PollWindow* UringLoop::window() {
  const uint64_t under_way = in_flight_ - waits_;
  if (under_way == 0) return &guest_window_;
  return under_way < kDeep ? &host_window_ : nullptr;
}

uint64_t UringLoop::poll_time() {
  if (in_flight_ == waits_ && watched_.empty()) return 0;
  const PollWindow* const adaptive = window();
  const uint64_t answer = batch_ended_ ? std::min(kAnswerNs, poll_ns_) : 0;
  return std::max(adaptive != nullptr ? adaptive->ns() : 0, answer);
}

// True when there is work now.
bool UringLoop::look_around(uint64_t ns) {
  PollWindow* const adaptive = window();
  const uint64_t start = now_ns();
  while (true) {
    for (unsigned i = 0; i < kLooksPerClock; ++i) {
      if (watched_.poll() || kernel_has_news() || has_work()) {
        if (adaptive != nullptr) adaptive->waited(now_ns() - start);
        return true;
      }
      __builtin_ia32_pause();
    }
    if (now_ns() - start >= ns) return false;
  }
}

void UringLoop::sleep() {
  if (!watched_.arm() || !may_sleep()) return;
  PollWindow* const adaptive = poll_ns_ > 0 ? window() : nullptr;
  const uint64_t start = adaptive != nullptr ? now_ns() : 0;
  const unsigned wanted = worth_waking_for();
  enter(wanted);
  slept_for(wanted);
  if (adaptive != nullptr) adaptive->waited(now_ns() - start);
  const std::lock_guard lock(mutex_);
  sleeping_ = false;
}

// Completions of a kernel worker come one by one, at its pace: with many under way one of them is
// not worth a wake-up, a system call and an interrupt. A disk's own come in bunches anyway.
unsigned UringLoop::worth_waking_for() {
  const uint64_t part = (in_flight_ - waits_) / kBatchPart;
  if (part < 2) lone_completions_ = batch_sleeps_ = 0;
  if (batch_sleeps_ == 0) return 1;
  return static_cast<unsigned>(std::min(part, kLargestBatch));
}

void UringLoop::slept_for(unsigned wanted) {
  const unsigned got = io_uring_cq_ready(&ring_.ring());
  if (wanted > 1) {
    // What comes that slowly is better taken one by one; others that wait are not held up either.
    batch_sleeps_ = got < wanted ? 0 : batch_sleeps_ - 1;
    return;
  }
  lone_completions_ = got == 1 ? lone_completions_ + 1 : 0;
  if (lone_completions_ < kLoneCompletions || !features().min_wait) return;
  lone_completions_ = 0;
  batch_sleeps_ = kBatchSleeps;
}

bool UringLoop::has_work() {
  return !deferred_.empty() || !backlog_.empty() || !refused_.empty() ||
         io_uring_cq_ready(&ring_.ring()) > 0 || has_posted_.load(std::memory_order_acquire) ||
         stop_.load(std::memory_order_acquire);
}

// True when nothing was posted; from then on post() wakes us.
bool UringLoop::may_sleep() noexcept {
  const std::lock_guard lock(mutex_);
  if (!posted_.empty() || stop_.load(std::memory_order_relaxed)) return false;
  sleeping_ = true;
  return true;
}

void UringLoop::watch(Poller& poller) noexcept {
  assert(on_loop());
  watched_.add(poller);
}

void UringLoop::defer(Task& task) noexcept {
  assert(on_loop());
  deferred_.push(task);
}

void UringLoop::post(Task& task) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!posted_.push(task)) return;
    has_posted_.store(true, std::memory_order_release);
    if (!std::exchange(sleeping_, false)) return;
  }
  wake_fd_.signal();
}

void UringLoop::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_release);
    if (!std::exchange(sleeping_, false)) return;
  }
  wake_fd_.signal();
}

uint64_t UringLoop::now_ns() const noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

// ---- The end -----------------------------------------------------------------------------------

void UringLoop::drain() {
  state_ = State::Draining;
  while (true) {
    run_posted();
    hand_out_refused();
    hand_out_completions();
    run_deferred();
    if (!refused_.empty() || !deferred_.empty()) continue;
    if (in_flight_ == 0) break;
    cancel_everything();
    move_backlog();
    // What cannot be cancelled, such as a disk's I/O, ends in its own time. Something may also
    // have slipped past the cancelling while it changed hands in the kernel: ask again.
    __kernel_timespec patience{.tv_sec = 0, .tv_nsec = kDrainPatienceNs};
    io_uring_cqe* cqe = nullptr;
    ++enters_;
    io_uring_submit_and_wait_timeout(&ring_.ring(), &cqe, 1, &patience, nullptr);
  }
  if (io_uring_sq_ready(&ring_.ring()) > 0) enter(0);  // the last signals
}

void UringLoop::hand_out_refused() {
  for (Completion* const done : std::exchange(refused_, {})) done->completed(-ECANCELED, false);
}

void UringLoop::cancel_everything() {
  if (features().cancel_any) {
    return put_cancel(0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
  }
  for (size_t poll = 0; poll < polls_.size(); ++poll) {
    if (polls_[poll].done != nullptr) put_cancel(user_data_of_poll(poll), 0);
  }
  for (const Completion* const done : under_way_) put_cancel(user_data_of(*done), 0);
}

IoThread::IoThread(UringLoop& loop, const std::string& name, const CpuList& cpus) : loop_(loop) {
  // Signals are for the main thread, except those that tell of a fault of the thread itself. A
  // thread starts with its maker's mask.
  sigset_t for_main;
  sigset_t before;
  sigfillset(&for_main);
  for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) {
    sigdelset(&for_main, fault);
  }
  pthread_sigmask(SIG_SETMASK, &for_main, &before);
  try {
    thread_ = std::thread([&loop, name, cpus] {
      pin_this_thread(cpus);
      pthread_setname_np(pthread_self(), name.c_str());
      loop.run();
    });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

IoThread::~IoThread() {
  loop_.stop();
  thread_.join();
}

}  // namespace ringlet
