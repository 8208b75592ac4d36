// The host's side of the serial port: stdin and stdout, served by the I/O loop.
#include "vmm/legacy/console.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "kvm/log.h"

namespace ringlet {

Console::Console(Serial& serial, IoLoop& loop, const Files& files, MachineEvents& events)
    : serial_(serial), loop_(loop), files_(files), events_(events), output_dead_(!files.out) {
  serial_.connect(*this);
  input_ended_ = !files_.in;
}

Console::Console(Serial& serial, IoLoop& loop, int out_fd, int in_fd, bool escape,
                 MachineEvents& events)
    : Console(serial, loop,
              {.out = out_fd < 0 ? IoFile{} : loop.add_file(out_fd),
               .in = in_fd < 0 ? IoFile{} : loop.add_file(in_fd),
               .escape = escape},
              events) {}

// ---- Output ------------------------------------------------------------------------------------

void Console::send(std::byte byte) noexcept {
  const std::lock_guard lock(mutex_);
  if (output_dead_ || output_count_ == kOutputSize) return;
  output_[(output_first_ + output_count_++) % kOutputSize] = byte;
  if (!std::exchange(writing_, true)) loop_.post(write_task_);
}

bool Console::has_room() noexcept {
  const std::lock_guard lock(mutex_);
  return output_dead_ || kOutputSize - output_count_ >= Serial::kFifoSize;
}

bool Console::flush(int timeout_ms) noexcept {
  std::unique_lock lock(mutex_);
  return written_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [this] { return output_count_ == 0 || output_dead_; });
}

// Writes all there is: up to two pieces, as the ring wraps.
void Console::write_more() {
  size_t parts = 0;
  {
    const std::lock_guard lock(mutex_);
    assert(writing_);
    if (output_count_ == 0) {
      writing_ = false;
      written_.notify_all();
      return;
    }
    const size_t first = std::min(output_count_, kOutputSize - output_first_);
    write_parts_[parts++] = {.iov_base = &output_[output_first_], .iov_len = first};
    if (output_count_ > first) {
      write_parts_[parts++] = {.iov_base = &output_[0], .iov_len = output_count_ - first};
    }
  }
  loop_.writev(files_.out, std::span(write_parts_).first(parts), kCurrentPosition, false,
               write_done_);
}

void Console::wrote(int32_t result) {
  if (result == -EAGAIN) return loop_.timeout(kRetryNs, retry_done_);
  if (result == -EINTR) return write_more();
  if (result <= 0) return give_output_up(result);
  {
    const std::lock_guard lock(mutex_);
    const size_t count = static_cast<size_t>(result);
    assert(count <= output_count_);
    output_first_ = (output_first_ + count) % kOutputSize;
    output_count_ -= count;
  }
  serial_.room_again();
  write_more();
}

void Console::retry_write(int32_t result) {
  if (result == -ECANCELED) return give_output_up(result);
  write_more();
}

// Nobody reads any more: the guest goes on as if somebody did.
void Console::give_output_up(int32_t error) {
  if (error != -ECANCELED) {
    log_warn("console output is discarded from now on: {}", std::strerror(-error));
  }
  {
    const std::lock_guard lock(mutex_);
    output_dead_ = true;
    output_count_ = 0;
    writing_ = false;
    written_.notify_all();
  }
  serial_.room_again();
}

// ---- Input -------------------------------------------------------------------------------------

// A terminal is read even when the guest takes nothing, so that its user can always leave; keys
// that then find no room are lost.
void Console::wait_for_input() {
  if (reading_ || input_ended_) return;
  if (input_count_ > 0 && !files_.escape) return;
  reading_ = true;
  loop_.poll_once(files_.in, poll_done_);
}

void Console::input_ready(int32_t result) {
  if (result == -EINVAL) return loop_.timeout(kRetryNs, poll_retry_done_);
  if (result < 0) return input_read(result);
  read_part_ = {.iov_base = read_buffer_.data(), .iov_len = read_buffer_.size()};
  loop_.readv(files_.in, {&read_part_, 1}, kCurrentPosition, read_done_);
}

void Console::retry_poll(int32_t result) {
  if (result == -ECANCELED) return input_read(result);
  reading_ = false;
  wait_for_input();
}

void Console::input_read(int32_t result) {
  // What the kernel answers a job in the background that blocks SIGTTIN, as all of the loop does.
  if (result == -EIO && files_.escape) return loop_.timeout(kBackgroundNs, poll_retry_done_);
  reading_ = false;
  if (result == -EAGAIN || result == -EINTR) return wait_for_input();
  if (result <= 0) {
    if (result < 0 && result != -ECANCELED) {
      log_warn("console input ends: {}", std::strerror(-result));
    }
    input_ended_ = true;
    return;
  }
  for (const std::byte key : std::span(read_buffer_).first(static_cast<size_t>(result))) {
    if (take_key(key)) continue;
    input_ended_ = true;  // the user leaves; what was typed behind is not for the guest
    return;
  }
  feed();
}

// False when the user leaves.
bool Console::take_key(std::byte key) {
  if (!files_.escape) {
    take_input(key);
    return true;
  }
  const EscapeKeys::Result keys = keys_.key(key);
  for (const std::byte byte : std::span(keys.bytes).first(keys.count)) take_input(byte);
  if (keys.leave) events_.guest_request(GuestRequest::UserLeft, 0);
  return !keys.leave;
}

void Console::take_input(std::byte byte) {
  if (input_count_ == kInputSize) return;
  input_[(input_first_ + input_count_++) % kInputSize] = byte;
}

void Console::feed() {
  while (input_count_ > 0) {
    const size_t first = std::min(input_count_, kInputSize - input_first_);
    const size_t taken = serial_.receive(std::span(input_).subspan(input_first_, first));
    input_first_ = (input_first_ + taken) % kInputSize;
    input_count_ -= taken;
    if (taken < first) break;  // it calls can_receive() when there is room
  }
  wait_for_input();
}

}  // namespace ringlet
