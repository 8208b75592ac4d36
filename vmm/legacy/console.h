// The host's side of the serial port: stdin and stdout, served by the I/O loop.
//
// Output: vCPU threads put bytes into a ring of bounded size; the loop writes what is there, one
// write at a time, so that order is kept and a burst costs few system calls. Input: the loop waits
// until the file is readable, reads, and hands on what the serial port has room for; it reads no
// more before that is gone.
#pragma once

#include <sys/uio.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "kvm/io_loop.h"
#include "vmm/escape_keys.h"
#include "vmm/events.h"
#include "vmm/legacy/serial.h"

namespace ringlet {

class Console final : public SerialPeer {
 public:
  /// What a guest may have printed without anybody reading it.
  static constexpr size_t kOutputSize = size_t{64} * 1024;

  /// What a user may paste into a terminal before the guest takes it.
  static constexpr size_t kInputSize = size_t{64} * 1024;

  /// How long flush() waits by default: a reader that is only slow gets all, a hung one delays the
  /// end of the process no longer than its user would.
  static constexpr int kFlushPatienceMs = 2000;

  struct Files {
    IoFile out;           ///< empty: output is discarded
    IoFile in;            ///< empty: there is no input
    bool escape = false;  ///< input is a terminal: Ctrl-A X leaves
  };

  /// Connects itself to `serial`. Before the loop runs; the references outlive this, and this
  /// outlives the loop's run.
  Console(Serial& serial, IoLoop& loop, const Files& files, MachineEvents& events);
  /// The same with descriptors, -1 for none. They may be closed then.
  Console(Serial& serial, IoLoop& loop, int out_fd, int in_fd, bool escape, MachineEvents& events);

  /// Starts to read input. Any thread.
  void start() noexcept { loop_.post(feed_task_); }
  /// Prints one byte in order with the serial port's output; lost when there is no room. Any
  /// thread; never blocks.
  void write_debug(std::byte byte) noexcept { send(byte); }
  /// Waits until all output has been written; false when that took longer than `timeout_ms`. Any
  /// thread but the loop's, which must be running.
  bool flush(int timeout_ms = kFlushPatienceMs) noexcept;

  // SerialPeer
  void send(std::byte byte) noexcept override;
  bool has_room() noexcept override;
  void can_receive() noexcept override { loop_.post(feed_task_); }

 private:
  static constexpr size_t kReadSize = 1024;
  static constexpr uint64_t kCurrentPosition = UINT64_MAX;  // pipes and terminals have no other
  /// What is asked again after this time: a terminal that another program made non-blocking, and
  /// one whose settings were changed, on which kernels end a poll with EINVAL (6.18 does: woken
  /// for nothing, it fails to join the second of a terminal's two wait queues again).
  static constexpr uint64_t kRetryNs = 5'000'000;
  /// How often a job in the background looks whether it may read its terminal again.
  static constexpr uint64_t kBackgroundNs = 1'000'000'000;

  template <void (Console::*kRun)()>
  class Call final : public Task {
   public:
    explicit Call(Console& console) : console_(console) {}
    void run() noexcept override { (console_.*kRun)(); }

   private:
    Console& console_;
  };
  template <void (Console::*kCompleted)(int32_t)>
  class Done final : public Completion {
   public:
    explicit Done(Console& console) : console_(console) {}
    void completed(int32_t result, bool) noexcept override { (console_.*kCompleted)(result); }

   private:
    Console& console_;
  };

  void write_more();
  void wrote(int32_t result);
  void retry_write(int32_t result);
  void give_output_up(int32_t error);
  void wait_for_input();
  void input_ready(int32_t result);
  void retry_poll(int32_t result);
  void input_read(int32_t result);
  bool take_key(std::byte key);
  void take_input(std::byte byte);
  void feed();

  Serial& serial_;
  IoLoop& loop_;
  const Files files_;
  MachineEvents& events_;

  std::mutex mutex_;  // guards the output
  std::condition_variable written_;
  std::array<std::byte, kOutputSize> output_;
  size_t output_first_ = 0;
  size_t output_count_ = 0;
  bool writing_ = false;  // the loop is at it: it looks for more by itself
  bool output_dead_ = false;

  // The I/O loop's own.
  std::array<iovec, 2> write_parts_{};
  iovec read_part_{};
  std::array<std::byte, kReadSize> read_buffer_;
  std::array<std::byte, kInputSize> input_;  // waits for the serial port
  size_t input_first_ = 0;
  size_t input_count_ = 0;
  bool reading_ = false;
  bool input_ended_ = false;
  EscapeKeys keys_;

  Call<&Console::write_more> write_task_{*this};
  Call<&Console::feed> feed_task_{*this};
  Done<&Console::wrote> write_done_{*this};
  Done<&Console::retry_write> retry_done_{*this};
  Done<&Console::input_ready> poll_done_{*this};
  Done<&Console::retry_poll> poll_retry_done_{*this};
  Done<&Console::input_read> read_done_{*this};
};

}  // namespace ringlet
