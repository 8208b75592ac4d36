// The user's terminal: raw while the guest has it, and given back as it was.
#pragma once

namespace ringlet {

/// Puts a terminal into raw mode, so that every key goes to the guest, and restores it: on
/// destruction, and from crash handlers (vmm/crash.h). There is one at a time. Descriptor flags
/// are never touched: they would be shared with the user's shell. Main thread, unless noted.
class Terminal {
 public:
  /// Enters raw mode if `fd` is a terminal that this process has in the foreground. Otherwise does
  /// nothing; a background job gets its terminal by enter(), when it is continued. -1: none.
  explicit Terminal(int fd);
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal();

  /// (Re-)enters raw mode, under the constructor's conditions.
  void enter() noexcept;
  /// Restores what the constructor found. enter() may follow.
  void leave() noexcept;
  bool is_raw() const noexcept;

  /// Restores the terminal of the one Terminal there may be. Any thread, signal handlers too.
  static void restore_from_signal() noexcept;

 private:
  int fd_;
};

}  // namespace ringlet
