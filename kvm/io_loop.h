// The I/O loop: one thread, one io_uring, and on it every device.
//
// A turn of the loop: run what other threads posted; hand each completion to its owner; look at the
// queues that are being watched; run what all those deferred to the end of the batch (publishing
// used rings, signalling interrupts); then one system call submits everything new and waits.
// Nothing that runs on the loop may block.
//
// IoLoop is the seam for tests: UringLoop (kvm/uring_loop.h) talks to the kernel, the simulated
// twin in tests/fake/ answers from a seed.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace ringlet {

/// A file in the loop's registered-file table.
struct IoFile {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t slot = kNone;
  explicit operator bool() const { return slot != kNone; }
  bool operator==(const IoFile&) const = default;
};

/// What a loop keeps in a completion.
class CompletionLink {
 private:
  friend class UringLoop;
  bool waits_ = false;  // for others to do something, not for the host's I/O
};

/// Who is told of an operation's end. Belongs to its request and stays put, with all buffers and
/// iovecs it names, until completed() was called.
class Completion : public CompletionLink {
 public:
  /// On the loop. `result` is what the system call would return: bytes, or -errno (-ECANCELED
  /// after cancel()). `more` is set while a multishot operation goes on.
  virtual void completed(int32_t result, bool more) noexcept = 0;

 protected:
  ~Completion() = default;
};

class Task;

/// What a TaskList keeps in a task: no allocation is needed to wait in one.
class TaskLink {
 private:
  friend class TaskList;
  Task* next_ = nullptr;
  bool queued_ = false;  // guarded by its list
};

/// Work for the loop.
class Task : public TaskLink {
 public:
  /// On the loop.
  virtual void run() noexcept = 0;

 protected:
  Task() = default;
  virtual ~Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
};

/// A first-in first-out list of tasks; a task that is in it already is not added again.
class TaskList {
 public:
  bool empty() const { return head_ == nullptr; }
  /// False when `task` is in a list already.
  bool push(Task& task) noexcept {
    if (task.queued_) return false;
    task.queued_ = true;
    task.next_ = nullptr;
    (tail_ != nullptr ? tail_->next_ : head_) = &task;
    tail_ = &task;
    return true;
  }
  Task* pop() noexcept {
    Task* const task = head_;
    if (task == nullptr) return nullptr;
    head_ = task->next_;
    if (head_ == nullptr) tail_ = nullptr;
    task->queued_ = false;
    return task;
  }

 private:
  Task* head_ = nullptr;
  Task* tail_ = nullptr;
};

class Poller;

/// What a loop keeps in a poller.
class PollerLink {
 private:
  friend class PollerList;
  Poller* next_ = nullptr;
  bool watched_ = false;
};

/// Work that shows itself in memory, whether or not anybody tells of it: chains in a virtqueue.
class Poller : public PollerLink {
 public:
  /// Takes what has come; false when there was nothing. On the loop, at any time, often.
  virtual bool poll() noexcept = 0;
  /// The loop is about to sleep: from now on new work has to wake it, by a completion or post().
  /// False when some came meanwhile, which poll() must take first. On the loop.
  virtual bool arm() noexcept = 0;

 protected:
  Poller() = default;
  ~Poller() = default;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
};

/// The pollers that a loop watches: those whose work need not wake it.
class PollerList {
 public:
  bool empty() const { return head_ == nullptr; }
  /// Does nothing when `poller` is in the list already.
  void add(Poller& poller) noexcept {
    if (poller.watched_) return;
    poller.watched_ = true;
    poller.next_ = head_;
    head_ = &poller;
  }
  /// Polls each. True when there was work.
  bool poll() noexcept {
    bool worked = false;
    for (Poller* each = head_; each != nullptr; each = each->next_) worked |= each->poll();
    return worked;
  }
  /// Arms each, and keeps those that found work. True when none did.
  bool arm() noexcept {
    Poller** link = &head_;
    while (Poller* const each = *link) {
      if (!each->arm()) {
        link = &each->next_;
        continue;
      }
      *link = each->next_;
      each->watched_ = false;
    }
    return head_ == nullptr;
  }

 private:
  Poller* head_ = nullptr;
};

/// Everything but post() is for the loop's own thread, or for set-up before the loop runs.
class IoLoop {
 public:
  virtual ~IoLoop() = default;

  /// Enters `fd` into the file table; the caller may close it then. An empty IoFile when the
  /// table is full or the kernel refuses (logged).
  virtual IoFile add_file(int fd) noexcept = 0;
  /// Operations on it that are under way carry on.
  virtual void remove_file(IoFile file) noexcept = 0;

  /// Offsets in bytes. `parts` must stay put until completion. `sync`: the data is on stable
  /// storage before the completion (RWF_DSYNC).
  virtual void readv(IoFile file, std::span<const iovec> parts, uint64_t offset,
                     Completion& done) noexcept = 0;
  virtual void writev(IoFile file, std::span<const iovec> parts, uint64_t offset, bool sync,
                      Completion& done) noexcept = 0;
  /// fdatasync.
  virtual void flush(IoFile file, Completion& done) noexcept = 0;
  /// fallocate(2) with its mode.
  virtual void allocate(IoFile file, int mode, uint64_t offset, uint64_t length,
                        Completion& done) noexcept = 0;
  /// Multishot: completes, with `more`, each time the file becomes readable, until cancelled.
  /// An eventfd that is polled so need not be read: each signal wakes the poll anew.
  virtual void poll(IoFile file, Completion& done) noexcept = 0;
  /// Completes once, when the file is readable (or has an error or end of file).
  virtual void poll_once(IoFile file, Completion& done) noexcept = 0;
  /// Completes once with -ETIME after `ns` nanoseconds.
  virtual void timeout(uint64_t ns, Completion& done) noexcept = 0;
  /// Asks for the operation of `done` to end early. It still completes exactly once.
  virtual void cancel(Completion& done) noexcept = 0;
  /// Adds one to an eventfd, together with the batch's other operations.
  virtual void signal(IoFile eventfd) noexcept = 0;

  /// Runs `task` after the last completion of this batch, before the batch is submitted.
  virtual void defer(Task& task) noexcept = 0;
  /// From now on polls `poller` in each turn, until the next sleep, before which it is armed.
  virtual void watch(Poller& poller) noexcept = 0;
  /// Whether the loop looks around before it sleeps, so that work which is watched for, and comes
  /// soon, need not wake it.
  virtual bool polls() const noexcept = 0;
  /// Runs `task` on the loop soon, ahead of completions not yet handed out. Any thread; does
  /// nothing while the task waits already. What the caller wrote before is visible to the task.
  virtual void post(Task& task) noexcept = 0;
  /// CLOCK_MONOTONIC in nanoseconds (simulated time in the twin).
  virtual uint64_t now_ns() const noexcept = 0;
};

}  // namespace ringlet
