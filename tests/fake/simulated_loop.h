// The I/O loop without a kernel: tests own its files, its clock and the fate of every operation.
//
// Single-threaded, and the same each time for the same seed. A test submits through the IoLoop
// interface (or lets a device do so), then lets turns of the loop happen: step(), or
// run_until_idle(). In between it may hold, shorten, fail and release operations:
//
//   SimulatedLoop loop;                           // or SimulatedLoop loop(seed): adversarial
//   IoFile disk = loop.add_bytes(1 << 20);
//   loop.hold(SimOp::Flush);
//   ... the driver asks for a flush ...
//   loop.run_until_idle();                        // nothing completes: the flush is withheld
//   loop.release(SimOp::Flush);
//   loop.run_until_idle();
//
// Misuse ends in an assert: a Completion used twice at a time, iovecs that change under way, a
// file that is not in the table, operations still under way when the loop dies (see drain()).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kvm/fd.h"
#include "kvm/io_loop.h"

namespace ringlet {

enum class SimOp : uint8_t { Read, Write, Flush, Allocate, Poll, PollOnce, Timeout };
inline constexpr size_t kSimOps = 7;

/// A file as the simulation sees it. Which fields matter depends on how it was added; tests may
/// read and change all of them.
struct SimFile {
  enum class Kind : uint8_t { Bytes, Stream, Packets, Event, Host };
  struct Unstable {
    uint64_t offset;
    uint64_t length;
    uint64_t sequence;  ///< of the write that left it behind
  };

  Kind kind = Kind::Bytes;
  // Bytes: a regular file. `stable` is what a power cut now would leave: only a flush, or a write
  // with `sync`, brings data there, and a flush only what had been completed when it was asked.
  std::vector<std::byte> bytes;
  std::vector<std::byte> stable;
  std::vector<Unstable> unstable;
  // Stream and Packets: a pipe, terminal or socket; a tap. A read of Packets takes one whole.
  std::deque<std::vector<std::byte>> input;
  bool end_of_input = false;
  std::vector<std::vector<std::byte>> output;  ///< one entry per write
  size_t room = SIZE_MAX;  ///< bytes that writes may still bring; else they wait
  // Event: an eventfd. Also counts what signal() did to a file of any kind.
  uint64_t count = 0;     ///< the eventfd's counter
  uint64_t signals = 0;   ///< how often signal() was called on it
  uint64_t arrivals = 0;  ///< notices: what wakes a poll
  // Host: a real descriptor, served by the real system calls.
  Fd host;
  bool host_is_eventfd = false;

  bool readable() const;
  /// All of `output` in one piece.
  std::vector<std::byte> written() const;
};

/// A Completion that keeps what it was told.
class CompletionRecord final : public Completion {
 public:
  void completed(int32_t result, bool more) noexcept override {
    results.push_back(result);
    finished = !more;
  }
  bool finished = false;
  std::vector<int32_t> results;
};

/// One operation as it was submitted, for tests that look at order and shape.
struct SimRecord {
  SimOp op;
  IoFile file;
  uint64_t offset;
  uint64_t length;
  bool sync;
  int32_t fate;  ///< 0, or the error that it was given
};

class SimulatedLoop final : public IoLoop {
 public:
  struct Options {
    uint64_t seed = 0;
    /// Completions come back in any order, late, in batches of any size; data moves at the start
    /// or at the end of an operation; a cancelled operation may still happen.
    bool adversarial = false;
    /// Of a hundred reads and writes, how many transfer less than asked.
    unsigned short_percent = 0;
    /// Of a hundred reads, writes, flushes and allocations, how many fail with -EIO.
    unsigned fail_percent = 0;
    /// Flushes among them: a disk whose host has failed one never promises anything again.
    bool fail_flushes = true;
    /// Of a hundred events of a multishot poll, how many end it.
    unsigned end_poll_percent = 0;
    size_t max_files = 1024;
    /// Says that it looks around for work before it sleeps.
    bool polls = true;
    /// Real descriptors are all eventfds, and are looked at after look_at_host_events() only: a
    /// turn then makes no system call.
    bool host_events_on_request = false;
  };

  /// Well-behaved: in order, at once, data moving as the operation completes.
  SimulatedLoop() : SimulatedLoop(Options{}) {}
  /// Adversarial, from a seed.
  explicit SimulatedLoop(uint64_t seed)
      : SimulatedLoop(Options{.seed = seed, .adversarial = true}) {}
  explicit SimulatedLoop(const Options& options);
  /// Asserts that nothing is under way, unless the test is failing already.
  ~SimulatedLoop() override;

  // --- files --------------------------------------------------------------------------------
  IoFile add_bytes(size_t size);
  IoFile add_bytes(std::span<const std::byte> content);
  IoFile add_stream();
  IoFile add_packets();
  IoFile add_event();
  /// A second entry for the same file, as two descriptors of it would have.
  IoFile add_same(IoFile file);
  /// add_file(fd) shall answer with `file`; `fd` may be a number that is no descriptor.
  void stand_in(int fd, IoFile file) { stand_ins_[fd] = file; }
  SimFile& file(IoFile file);
  /// More input for a Stream, or one packet; wakes polls.
  void push_input(IoFile file, std::span<const std::byte> data);
  void push_input(IoFile file, std::string_view text);
  void push_end_of_input(IoFile file);
  /// Adds one to an eventfd as a third party (the guest's doorbell) would.
  void notify(IoFile file);
  /// The same for a real eventfd that is in the table; false, with nothing done, when it is not.
  bool notify_host(int fd);
  /// With `host_events_on_request`: somebody may have written to a real eventfd.
  void look_at_host_events() { host_events_ = true; }
  /// How often the loop's user called signal() on it.
  uint64_t signals(IoFile file) { return this->file(file).signals; }

  // --- fates --------------------------------------------------------------------------------
  /// Operations of this kind, under way or to come, do not complete, cancelled or not.
  void hold(SimOp op);
  /// Ends hold().
  void release(SimOp op);
  /// Lets the oldest `count` held operations of this kind complete; the hold stays.
  void release_oldest(SimOp op, size_t count = 1);
  /// The next operation of this kind to be submitted completes with `result` and moves no data.
  void fail_next(SimOp op, int32_t result);
  /// All of this kind do, until `result` is 0.
  void fail_all(SimOp op, int32_t result);
  /// The next read or write to be submitted moves no more than `bytes`.
  void shorten_next(SimOp op, size_t bytes);

  // --- time and turns -----------------------------------------------------------------------
  /// One turn of the loop; false when it had nothing to do.
  bool step();
  /// Nothing happens any more but by held operations, polls and timeouts.
  bool at_rest();
  /// Turns until only held operations, polls and timeouts are left. Asserts that this comes to
  /// an end within `kMaxTurns`.
  void run_until_idle();
  /// Moves the clock on, timeout by timeout, running until idle at each.
  void advance(uint64_t ns);
  /// Ends everything as UringLoop does before its thread ends: holds are lifted, everything under
  /// way is cancelled and completed, and so is what gets submitted meanwhile.
  void drain();

  /// Runs in each turn when its batch is complete and has not yet gone to the "kernel".
  std::function<void()> before_submission;

  // --- looking ------------------------------------------------------------------------------
  size_t in_flight() const { return ops_.size(); }
  size_t in_flight(SimOp op) const;
  size_t in_flight(IoFile file) const;
  /// Whether an operation under way may still read or write some of these bytes.
  bool touches(std::span<const std::byte> bytes) const;
  size_t files() const { return files_.size(); }
  uint64_t submitted(SimOp op) const { return submitted_[index(op)]; }
  const std::vector<SimRecord>& history() const { return history_; }
  void clear_history() { history_.clear(); }
  uint64_t turns() const { return turn_; }

  // --- IoLoop -------------------------------------------------------------------------------
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
  void watch(Poller& poller) noexcept override { watched_.add(poller); }
  bool polls() const noexcept override { return options_.polls; }
  void post(Task& task) noexcept override;
  uint64_t now_ns() const noexcept override { return now_ns_; }

 private:
  static constexpr uint64_t kMaxTurns = 1'000'000;
  static constexpr uint64_t kMaxDelayTurns = 6;

  struct Op {
    SimOp kind{};
    SimFile* file = nullptr;
    IoFile slot;
    std::span<const iovec> parts;
    std::vector<iovec> parts_then;  // to notice a change
    uint64_t offset = 0;            // a deadline for timeouts
    uint64_t length = 0;
    int mode = 0;
    bool sync = false;
    Completion* done = nullptr;
    // fate
    bool cancelled = false;
    bool released = false;
    bool performed = false;
    bool early = false;  // its data moves when it is submitted
    bool started = false;
    int32_t result = 0;
    size_t limit = SIZE_MAX;
    uint64_t ready_turn = 0;
    uint64_t seen = 0;      // arrivals that a poll has told of
    uint64_t sequence = 0;  // the last completed write when it was submitted
  };

  static constexpr size_t index(SimOp op) { return static_cast<size_t>(op); }
  IoFile add(std::unique_ptr<SimFile> file);
  IoFile enter(SimFile& file);
  Op& submit(SimOp kind, IoFile file, Completion& done);
  Op* find(const Completion& done);
  void decide(Op& op);
  void start_submitted();
  void run_posted();
  bool poll_watched();
  void go_to_sleep();
  bool may_complete(Op& op);
  bool is_due(Op& op);
  bool deliver_one();
  void finish(size_t at);
  int32_t perform(Op& op);
  int32_t perform_on_bytes(Op& op);
  int32_t perform_on_stream(Op& op);
  int32_t perform_on_host(Op& op);
  int32_t perform_allocate(Op& op);
  void settle(Op& op);
  void absorb_host_events();
  uint64_t random(uint64_t below);

  const Options options_;
  uint64_t random_state_;
  uint64_t now_ns_ = 1'000'000'000;
  uint64_t turn_ = 0;
  uint64_t writes_completed_ = 0;
  bool draining_ = false;
  std::vector<std::unique_ptr<SimFile>> files_;
  std::vector<SimFile*> slots_;
  std::map<int, IoFile> stand_ins_;
  std::map<int, SimFile*> hosts_;  // by the descriptor that add_file() was given
  bool host_events_ = false;
  std::vector<SimFile*> signals_;  // of this batch
  std::vector<Op> ops_;            // in the order of submission
  std::vector<size_t> due_;        // deliver_one()'s, kept for its capacity
  TaskList deferred_;
  PollerList watched_;
  TaskList posted_;
  std::array<bool, kSimOps> held_{};
  std::array<int32_t, kSimOps> fail_all_{};
  std::array<std::deque<int32_t>, kSimOps> fail_next_;
  std::array<std::deque<size_t>, kSimOps> shorten_next_;
  std::array<uint64_t, kSimOps> submitted_{};
  std::vector<SimRecord> history_;
};

}  // namespace ringlet
