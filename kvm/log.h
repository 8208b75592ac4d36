// Logging: one line a message, to stderr or a file, bounded, never in anyone's way.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace ringlet {

enum class LogLevel { Debug, Info, Warn, Error, Off };

/// Parses "debug", "info", "warn", "error" or "off"; throws ConfigError otherwise.
LogLevel parse_log_level(std::string_view name);

/// Sets what is kept and where it goes (an empty path: stderr). Call before threads start; throws
/// ConfigError when the file cannot be opened.
void log_setup(LogLevel level, const std::string& path);

/// Messages given up because the reader of the log was too slow. Any thread.
uint64_t log_dropped();

/// Waits, at most `timeout_ms`, until what was logged has been written.
void log_flush(int timeout_ms) noexcept;

/// True when a message of this level would be kept. Any thread, cheap.
bool log_enabled(LogLevel level) noexcept;

/// Queues one message, on one line: control characters and whatever is not ASCII are written as
/// \xNN, and a long text is cut. Any thread; never blocks; drops and counts when the queue is full.
void log_message(LogLevel level, std::string_view text) noexcept;

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (!log_enabled(level)) return;
  try {
    log_message(level, fmt::format(format, std::forward<Args>(args)...));
  } catch (...) {
    log_message(level, "a log message could not be formatted");
  }
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log(LogLevel::Debug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log(LogLevel::Info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log(LogLevel::Warn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log(LogLevel::Error, format, std::forward<Args>(args)...);
}

/// Lets the first kBurst of a kind of message through and then one each kPauseMs: what a guest
/// can make us print is bounded. Any thread.
class LogLimit {
 public:
  /// True when the caller may log now.
  bool allow() noexcept;
  /// The same at a given time, for tests.
  bool allow_at(int64_t now_ms) noexcept;

  static constexpr unsigned kBurst = 3;
  static constexpr int64_t kPauseMs = 10'000;

 private:
  std::atomic<unsigned> used_ = 0;
  std::atomic<int64_t> next_ms_ = 0;
};

}  // namespace ringlet
