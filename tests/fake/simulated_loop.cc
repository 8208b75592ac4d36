// The I/O loop without a kernel: turns, fates and the IoLoop interface.
#include "tests/fake/simulated_loop.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <exception>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace ringlet {

SimulatedLoop::SimulatedLoop(const Options& options)
    : options_(options), random_state_(options.seed) {}

SimulatedLoop::~SimulatedLoop() {
  assert((ops_.empty() || std::uncaught_exceptions() > 0) &&
         "operations are still under way: call drain() before their owners die");
}

// splitmix64: small, and good enough to shuffle with.
uint64_t SimulatedLoop::random(uint64_t below) {
  random_state_ += 0x9e3779b97f4a7c15;
  uint64_t z = random_state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (z ^ (z >> 31)) % below;
}

// --- submission -------------------------------------------------------------------------------

SimulatedLoop::Op& SimulatedLoop::submit(SimOp kind, IoFile file, Completion& done) {
  assert(find(done) == nullptr && "this Completion is under way already");
  ++submitted_[index(kind)];
  Op op;
  op.kind = kind;
  if (kind != SimOp::Timeout) op.file = &this->file(file);
  op.slot = file;
  op.done = &done;
  op.sequence = writes_completed_;
  return ops_.emplace_back(std::move(op));
}

SimulatedLoop::Op* SimulatedLoop::find(const Completion& done) {
  const auto at = std::ranges::find(ops_, &done, &Op::done);
  return at == ops_.end() ? nullptr : &*at;
}

// What will become of an operation, drawn once as it is submitted.
void SimulatedLoop::decide(Op& op) {
  const size_t kind = index(op.kind);
  const bool transfers = op.kind == SimOp::Read || op.kind == SimOp::Write;
  const bool may_fail =
      transfers || op.kind == SimOp::Allocate || (op.kind == SimOp::Flush && options_.fail_flushes);
  if (fail_all_[kind] != 0) {
    op.result = fail_all_[kind];
  } else if (!fail_next_[kind].empty()) {
    op.result = fail_next_[kind].front();
    fail_next_[kind].pop_front();
  } else if (draining_) {
    op.result = -ECANCELED;
  } else if (may_fail && random(100) < options_.fail_percent) {
    op.result = -EIO;
  }
  op.performed = op.result != 0;
  if (!shorten_next_[kind].empty()) {
    op.limit = shorten_next_[kind].front();
    shorten_next_[kind].pop_front();
  } else if (transfers && op.length > 1 && random(100) < options_.short_percent) {
    op.limit = 1 + random(op.length - 1);
  }
  if (options_.adversarial) {
    op.early = random(2) == 0;
    op.ready_turn = turn_ + random(kMaxDelayTurns);
  }
  const int32_t fate = op.performed ? op.result : op.limit == 0 ? -EIO : 0;
  history_.push_back({op.kind, op.slot, op.offset, op.length, op.sync, fate});
}

void SimulatedLoop::readv(IoFile file, std::span<const iovec> parts, uint64_t offset,
                          Completion& done) noexcept {
  Op& op = submit(SimOp::Read, file, done);
  op.parts = parts;
  op.parts_then.assign(parts.begin(), parts.end());
  op.offset = offset;
  for (const iovec& part : parts) op.length += part.iov_len;
  decide(op);
}

void SimulatedLoop::writev(IoFile file, std::span<const iovec> parts, uint64_t offset, bool sync,
                           Completion& done) noexcept {
  Op& op = submit(SimOp::Write, file, done);
  op.parts = parts;
  op.parts_then.assign(parts.begin(), parts.end());
  op.offset = offset;
  op.sync = sync;
  for (const iovec& part : parts) op.length += part.iov_len;
  decide(op);
}

void SimulatedLoop::flush(IoFile file, Completion& done) noexcept {
  decide(submit(SimOp::Flush, file, done));
}

void SimulatedLoop::allocate(IoFile file, int mode, uint64_t offset, uint64_t length,
                             Completion& done) noexcept {
  Op& op = submit(SimOp::Allocate, file, done);
  op.mode = mode;
  op.offset = offset;
  op.length = length;
  decide(op);
}

void SimulatedLoop::poll(IoFile file, Completion& done) noexcept {
  Op& op = submit(SimOp::Poll, file, done);
  assert((op.file->kind != SimFile::Kind::Host || op.file->host_is_eventfd) &&
         "of real descriptors only eventfds are simulated here");
  host_events_ = true;
  decide(op);
}

void SimulatedLoop::poll_once(IoFile file, Completion& done) noexcept {
  decide(submit(SimOp::PollOnce, file, done));
}

void SimulatedLoop::timeout(uint64_t ns, Completion& done) noexcept {
  Op& op = submit(SimOp::Timeout, IoFile{}, done);
  op.offset = now_ns_ + ns;
  decide(op);
}

void SimulatedLoop::cancel(Completion& done) noexcept {
  if (Op* const op = find(done)) op->cancelled = true;
}

void SimulatedLoop::signal(IoFile eventfd) noexcept {
  signals_.push_back(&file(eventfd));
}

void SimulatedLoop::defer(Task& task) noexcept {
  deferred_.push(task);
}

void SimulatedLoop::post(Task& task) noexcept {
  posted_.push(task);
}

// --- turns ------------------------------------------------------------------------------------

// Only the tasks that wait now: one that posts itself again gets its next turn later.
void SimulatedLoop::run_posted() {
  TaskList now = std::exchange(posted_, TaskList{});
  while (Task* const task = now.pop()) task->run();
}

bool SimulatedLoop::step() {
  ++turn_;
  go_to_sleep();
  bool worked = !posted_.empty();
  run_posted();
  absorb_host_events();
  const uint64_t batch = options_.adversarial ? 1 + random(4) : UINT64_MAX;
  for (uint64_t i = 0; i < batch && deliver_one(); ++i) {
    worked = true;
    run_posted();
  }
  worked = poll_watched() || worked;
  TaskList now = std::exchange(deferred_, TaskList{});
  worked = worked || !now.empty() || !signals_.empty();
  while (Task* const task = now.pop()) task->run();
  if (before_submission) before_submission();
  start_submitted();
  return worked || !at_rest();
}

// A busy loop comes to look at its queues sooner or later.
bool SimulatedLoop::poll_watched() {
  return (!options_.adversarial || random(2) == 0) && watched_.poll();
}

// Between two turns: when there is nothing to do, and now and then although there is, as if it had
// come a moment later.
void SimulatedLoop::go_to_sleep() {
  const bool rests = deferred_.empty() && posted_.empty() &&
                     std::ranges::none_of(ops_, [this](Op& op) { return may_complete(op); });
  if (rests || (options_.adversarial && random(4) == 0)) watched_.arm();
}

bool SimulatedLoop::at_rest() {
  const auto comes = [this](Op& op) { return may_complete(op); };
  return deferred_.empty() && posted_.empty() && signals_.empty() && watched_.empty() &&
         std::ranges::none_of(ops_, comes);
}

void SimulatedLoop::run_until_idle() {
  for (uint64_t i = 0; step(); ++i) assert(i < kMaxTurns && "the loop does not come to rest");
}

void SimulatedLoop::advance(uint64_t ns) {
  const uint64_t end = now_ns_ + ns;
  run_until_idle();
  while (true) {
    uint64_t next = end;
    for (const Op& op : ops_) {
      const bool waits = op.kind == SimOp::Timeout && !held_[index(op.kind)];
      if (waits && op.offset > now_ns_) next = std::min(next, op.offset);
    }
    now_ns_ = next;
    run_until_idle();
    if (now_ns_ == end) return;
  }
}

void SimulatedLoop::drain() {
  draining_ = true;
  held_.fill(false);
  run_until_idle();
  for (Op& op : ops_) op.cancelled = true;
  run_until_idle();
  assert(ops_.empty());
  draining_ = false;
}

// The batch goes to the "kernel": signals are executed, data that moves early moves now.
void SimulatedLoop::start_submitted() {
  for (SimFile* const file : signals_) {
    ++file->signals;
    ++file->count;
    ++file->arrivals;
    const uint64_t one = 1;
    if (file->kind == SimFile::Kind::Host) {
      [[maybe_unused]] const auto written = ::write(file->host.get(), &one, sizeof one);
    }
  }
  signals_.clear();
  for (Op& op : ops_) {
    if (std::exchange(op.started, true)) continue;
    if (op.early && !op.performed && op.file != nullptr && op.file->kind == SimFile::Kind::Bytes &&
        (op.kind == SimOp::Read || op.kind == SimOp::Write)) {
      op.result = perform(op);
      op.performed = true;
    }
  }
}

// Nothing stands in the way of its completion but time.
bool SimulatedLoop::may_complete(Op& op) {
  if (held_[index(op.kind)] && !op.released) return false;
  if (op.cancelled || op.performed) return true;
  const SimFile* const file = op.file;
  switch (op.kind) {
    case SimOp::Timeout: return now_ns_ >= op.offset;
    case SimOp::Poll: return file->arrivals != op.seen;
    case SimOp::PollOnce: return file->readable();
    case SimOp::Read: return file->kind == SimFile::Kind::Bytes || file->readable();
    case SimOp::Write: return op.length == 0 || file->room > 0;
    case SimOp::Flush:
    case SimOp::Allocate: return true;
  }
  return false;
}

bool SimulatedLoop::is_due(Op& op) {
  return op.started && op.ready_turn <= turn_ && may_complete(op);
}

bool SimulatedLoop::deliver_one() {
  due_.clear();
  for (size_t i = 0; i < ops_.size(); ++i) {
    if (!is_due(ops_[i])) continue;
    due_.push_back(i);
    if (!options_.adversarial) break;
  }
  if (due_.empty()) return false;
  finish(due_[random(due_.size())]);
  return true;
}

// Completes operation `at`, or tells of one event of a multishot poll.
void SimulatedLoop::finish(size_t at) {
  Op& op = ops_[at];
  const bool bytes = op.file != nullptr && op.file->kind == SimFile::Kind::Bytes;
  if (!op.performed) {
    // A kernel rarely gets hold of file I/O that is under way: it then happens all the same.
    const bool happens = bytes && (!options_.adversarial || random(2) == 0);
    if (op.cancelled && !happens) {
      op.result = -ECANCELED;
    } else if (op.kind == SimOp::Poll) {
      op.seen = op.file->arrivals;
      op.ready_turn = options_.adversarial ? turn_ + random(kMaxDelayTurns) : turn_;
      const unsigned percent = options_.end_poll_percent;
      const bool ends = percent > 0 && random(100) < percent;
      Completion* const poll = op.done;
      if (ends) ops_.erase(ops_.begin() + static_cast<ptrdiff_t>(at));
      poll->completed(1, !ends);  // POLLIN
      return;
    } else {
      op.result = perform(op);
    }
  }
  if (op.result != -ECANCELED) settle(op);
  for (size_t i = 0; i < op.parts.size(); ++i) {
    assert(op.parts[i].iov_base == op.parts_then[i].iov_base &&
           op.parts[i].iov_len == op.parts_then[i].iov_len && "iovecs changed under way");
  }
  Completion* const done = op.done;
  const int32_t result = op.result;
  ops_.erase(ops_.begin() + static_cast<ptrdiff_t>(at));
  done->completed(result, false);
}

// --- fates ------------------------------------------------------------------------------------

void SimulatedLoop::hold(SimOp op) {
  held_[index(op)] = true;
  for (Op& each : ops_) {
    if (each.kind == op) each.released = false;
  }
}

void SimulatedLoop::release(SimOp op) {
  held_[index(op)] = false;
}

void SimulatedLoop::release_oldest(SimOp op, size_t count) {
  for (Op& each : ops_) {
    if (count == 0) return;
    if (each.kind != op || each.released) continue;
    each.released = true;
    --count;
  }
  assert(count == 0 && "fewer operations are held");
}

void SimulatedLoop::fail_next(SimOp op, int32_t result) {
  assert(result < 0);
  fail_next_[index(op)].push_back(result);
}

void SimulatedLoop::fail_all(SimOp op, int32_t result) {
  assert(result <= 0);
  fail_all_[index(op)] = result;
}

void SimulatedLoop::shorten_next(SimOp op, size_t bytes) {
  assert(op == SimOp::Read || op == SimOp::Write);
  shorten_next_[index(op)].push_back(bytes);
}

size_t SimulatedLoop::in_flight(SimOp op) const {
  return static_cast<size_t>(std::ranges::count(ops_, op, &Op::kind));
}

size_t SimulatedLoop::in_flight(IoFile file) const {
  return static_cast<size_t>(std::ranges::count(ops_, file, &Op::slot));
}

bool SimulatedLoop::touches(std::span<const std::byte> bytes) const {
  const auto overlaps = [bytes](const iovec& part) {
    const auto* const base = static_cast<const std::byte*>(part.iov_base);
    return base < bytes.data() + bytes.size() && bytes.data() < base + part.iov_len;
  };
  return std::ranges::any_of(ops_,
                             [&](const Op& op) { return std::ranges::any_of(op.parts, overlaps); });
}

}  // namespace ringlet
