// The I/O loop on io_uring: its files and memory, and requests on their way into the ring.
#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>

#include <poll.h>

#include "kvm/uring_loop.h"

namespace ringlet {
namespace {

/// The most that Linux transfers at once (MAX_RW_COUNT).
constexpr size_t kMaxTransfer = 0x7fff'f000;
/// What signal() writes. The kernel reads it at submission.
constexpr uint64_t kOne = 1;

uint64_t address(const void* data) {
  return reinterpret_cast<uintptr_t>(data);
}

}  // namespace

// ---- Memory and files --------------------------------------------------------------------------

void UringLoop::register_memory(std::span<const std::span<std::byte>> areas,
                                uint64_t buffer_bytes) {
  assert(state_ == State::SettingUp);
  UringBuffers buffers(areas, buffer_bytes);
  ring_.register_buffers(buffers.table());
  buffers_ = std::move(buffers);
}

bool UringLoop::share_memory_of(const UringLoop& other) {
  assert(state_ == State::SettingUp && other.state_ == State::SettingUp);
  if (!ring_.share_buffers_of(other.ring_)) return false;
  buffers_ = other.buffers_;
  return true;
}

IoFile UringLoop::add_file(int fd) noexcept {
  assert(on_loop());
  if (state_ == State::Finished) return {};
  const bool fresh = free_slots_.empty();
  if (fresh && fresh_slots_from_ == ring_.files()) {
    if (log_limit_.allow()) {
      log_error("the I/O loop's file table is full ({} files)", ring_.files());
    }
    return {};
  }
  const uint32_t slot = fresh ? fresh_slots_from_ : free_slots_.back();
  const int result = io_uring_register_files_update(&ring_.ring(), slot, &fd, 1);
  if (result != 1) {
    if (log_limit_.allow()) log_error("the kernel refuses to register a file: error {}", -result);
    return {};
  }
  if (fresh) {
    ++fresh_slots_from_;
  } else {
    free_slots_.pop_back();
  }
  return IoFile{slot};
}

void UringLoop::remove_file(IoFile file) noexcept {
  assert(on_loop());
  if (!file || state_ == State::Finished) return;
  // Requests for it that the kernel has not seen yet would find another file in its place.
  if (state_ != State::SettingUp && io_uring_sq_ready(&ring_.ring()) > 0) enter(0);
  for (Poll& poll : polls_) {
    if (poll.done != nullptr && poll.file == file) poll.file = {};
  }
  const int none = -1;
  const int result = io_uring_register_files_update(&ring_.ring(), file.slot, &none, 1);
  if (result != 1) {
    log_error("the kernel refuses to forget a file: error {}", -result);
    return;  // the slot stays taken
  }
  free_slots_.push_back(file.slot);
}

// ---- Requests ----------------------------------------------------------------------------------

io_uring_sqe UringLoop::transfer(const TransferOps& ops, std::span<const iovec> parts,
                                 uint64_t offset) const {
  io_uring_sqe sqe{};
  sqe.off = offset;
  if (parts.size() != 1) {
    sqe.opcode = ops.vectored;
    sqe.addr = address(parts.data());
    sqe.len = static_cast<uint32_t>(parts.size());
    return sqe;
  }
  const std::optional<uint16_t> buffer = buffers_.holding(parts[0]);
  sqe.opcode = buffer ? ops.registered : ops.single;
  sqe.buf_index = buffer.value_or(0);
  sqe.addr = address(parts[0].iov_base);
  sqe.len = static_cast<uint32_t>(std::min(parts[0].iov_len, kMaxTransfer));
  return sqe;
}

void UringLoop::readv(IoFile file, std::span<const iovec> parts, uint64_t offset,
                      Completion& done) noexcept {
  io_uring_sqe sqe = transfer(
      {.single = IORING_OP_READ, .vectored = IORING_OP_READV, .registered = IORING_OP_READ_FIXED},
      parts, offset);
  start(sqe, file, done);
}

void UringLoop::writev(IoFile file, std::span<const iovec> parts, uint64_t offset, bool sync,
                       Completion& done) noexcept {
  io_uring_sqe sqe = transfer({.single = IORING_OP_WRITE,
                               .vectored = IORING_OP_WRITEV,
                               .registered = IORING_OP_WRITE_FIXED},
                              parts, offset);
  sqe.rw_flags = sync ? RWF_DSYNC : 0;
  start(sqe, file, done);
}

void UringLoop::flush(IoFile file, Completion& done) noexcept {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_FSYNC;
  sqe.fsync_flags = IORING_FSYNC_DATASYNC;
  start(sqe, file, done);
}

void UringLoop::allocate(IoFile file, int mode, uint64_t offset, uint64_t length,
                         Completion& done) noexcept {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_FALLOCATE;
  sqe.len = static_cast<uint32_t>(mode);
  sqe.off = offset;
  sqe.addr = length;
  start(sqe, file, done);
}

void UringLoop::poll_once(IoFile file, Completion& done) noexcept {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.poll32_events = POLLIN;
  start_wait(sqe, file, done);
}

void UringLoop::timeout(uint64_t ns, Completion& done) noexcept {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_TIMEOUT;
  sqe.len = 1;
  sqe.addr = ns;  // until fill() has a place for the time
  start_wait(sqe, {}, done);
}

void UringLoop::start(io_uring_sqe& sqe, IoFile file, Completion& done) {
  assert(file);
  done.waits_ = false;
  put_request(sqe, file, done);
}

void UringLoop::start_wait(io_uring_sqe& sqe, IoFile file, Completion& done) {
  done.waits_ = true;
  put_request(sqe, file, done);
}

void UringLoop::put_request(io_uring_sqe& sqe, IoFile file, Completion& done) {
  if (refuse(done)) return;
  if (file) sqe.fd = static_cast<int32_t>(file.slot);
  sqe.user_data = user_data_of(done);
  ++in_flight_;
  if (done.waits_) ++waits_;
  if (!features().cancel_any) under_way_.insert(&done);
  put(sqe);
}

// While the loop drains nothing new begins: true, and `done` will hear of it on the next turn.
bool UringLoop::refuse(Completion& done) {
  assert(on_loop());
  assert(state_ != State::Finished);
  if (state_ != State::Draining) return false;
  refused_.push_back(&done);
  return true;
}

void UringLoop::poll(IoFile file, Completion& done) noexcept {
  assert(file);
  if (refuse(done)) return;
  auto record = std::ranges::find(polls_, nullptr, &Poll::done);
  if (record == polls_.end()) record = polls_.emplace(polls_.end());
  *record = Poll{.done = &done, .file = file};
  ++in_flight_;
  ++waits_;
  arm(static_cast<size_t>(record - polls_.begin()));
}

void UringLoop::arm(size_t poll) {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.fd = static_cast<int32_t>(polls_[poll].file.slot);
  sqe.len = IORING_POLL_ADD_MULTI;
  sqe.poll32_events = POLLIN;
  sqe.user_data = user_data_of_poll(poll);
  put(sqe);
}

void UringLoop::cancel(Completion& done) noexcept {
  assert(on_loop());
  if (state_ == State::Finished) return;
  const auto record = std::ranges::find(polls_, &done, &Poll::done);
  if (record == polls_.end()) return put_cancel(user_data_of(done), 0);
  record->cancelled = true;
  put_cancel(user_data_of_poll(static_cast<size_t>(record - polls_.begin())), 0);
}

// That there is nothing to cancel any more is no error: the request completes on its own.
void UringLoop::put_cancel(uint64_t user_data, uint32_t flags) {
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_ASYNC_CANCEL;
  sqe.addr = user_data;
  sqe.cancel_flags = flags;
  sqe.user_data = kNobody;
  if (features().cqe_skip) sqe.flags = IOSQE_CQE_SKIP_SUCCESS;
  put(sqe);
}

void UringLoop::signal(IoFile eventfd) noexcept {
  assert(on_loop());
  assert(eventfd);
  if (state_ == State::Finished) return;
  io_uring_sqe sqe{};
  sqe.opcode = IORING_OP_WRITE;
  sqe.fd = static_cast<int32_t>(eventfd.slot);
  sqe.addr = address(&kOne);
  sqe.len = sizeof kOne;
  signalled_ = true;
  sqe.user_data = kNobody;  // it fails only where the counter is full: enough to wake up for
  if (features().cqe_skip) sqe.flags = IOSQE_CQE_SKIP_SUCCESS;
  put(sqe);
}

void UringLoop::put(const io_uring_sqe& sqe) {
  io_uring_sqe* const entry = backlog_.empty() ? free_entry() : nullptr;
  if (entry == nullptr) {
    backlog_.push_back(sqe);
  } else {
    fill(*entry, sqe);
  }
}

// Null when the queue is full and the kernel takes nothing from it now.
io_uring_sqe* UringLoop::free_entry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_.ring());
  if (entry != nullptr || state_ == State::SettingUp) return entry;
  enter(0);
  return io_uring_get_sqe(&ring_.ring());
}

void UringLoop::fill(io_uring_sqe& entry, const io_uring_sqe& sqe) {
  entry = sqe;
  const bool no_file = sqe.opcode == IORING_OP_TIMEOUT || sqe.opcode == IORING_OP_ASYNC_CANCEL;
  // The restrictions want the flag of every request; older kernels do not take it without a file.
  if (!no_file || features().fixed_only) entry.flags |= IOSQE_FIXED_FILE;
  if (sqe.opcode != IORING_OP_TIMEOUT) return;
  // The kernel copies the time as it takes the entry: until then the two live together.
  __kernel_timespec& time = timespecs_[static_cast<size_t>(&entry - ring_.ring().sq.sqes)];
  time.tv_sec = static_cast<int64_t>(sqe.addr / kNsPerSecond);
  time.tv_nsec = static_cast<long long>(sqe.addr % kNsPerSecond);
  entry.addr = address(&time);
}

void UringLoop::move_backlog() {
  auto next = backlog_.begin();
  for (; next != backlog_.end(); ++next) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_.ring());
    if (entry == nullptr) break;
    fill(*entry, *next);
  }
  backlog_.erase(backlog_.begin(), next);
}

}  // namespace ringlet
