// Logging: one line a message, to stderr or a file, bounded, never in anyone's way.
#include "kvm/log.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet {
namespace {

/// What waits for a slow reader; more is dropped.
constexpr size_t kMaxWaitingBytes = size_t{256} * 1024;
/// A message is cut here: a guest may have had a say in its length.
constexpr size_t kMaxMessageBytes = 1024;
/// How long a change of the log's place waits for the old one.
constexpr int kSwitchPatienceMs = 1000;

std::atomic<LogLevel> g_level = LogLevel::Info;

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::Debug: return spdlog::level::debug;
    case LogLevel::Info: return spdlog::level::info;
    case LogLevel::Warn: return spdlog::level::warn;
    case LogLevel::Error: return spdlog::level::err;
    case LogLevel::Off: return spdlog::level::off;
  }
  return spdlog::level::off;
}

/// Printable ASCII stays; a terminal must not obey what a guest had us print.
std::string sanitised(std::string_view text) {
  std::string clean;
  for (const char c : text.substr(0, kMaxMessageBytes)) {
    if (c >= ' ' && c <= '~') {
      clean += c;
    } else {
      clean += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > kMaxMessageBytes) clean += "...";
  return clean;
}

/// Collects lines; a thread of its own, started by the first, writes them out. The mutex is
/// base_sink's: it guards everything here and is never held during a write.
class QueueSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void write_to(Fd file) {
    const std::lock_guard lock(mutex_);
    file_ = std::move(file);
  }

  uint64_t dropped() {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }

  void wait_until_written(int timeout_ms) {
    std::unique_lock lock(mutex_);
    if (!waiting_.empty() && !started_) return write_without_thread(timeout_ms);
    written_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                      [this] { return !writing_ && waiting_.empty(); });
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    // Most machines never say a word, so not at the start.
    if (!std::exchange(has_pattern_, true)) set_pattern_("%H:%M:%S.%e %-7l %v");
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (waiting_.size() + line.size() > kMaxWaitingBytes) {
      ++dropped_;
      return;
    }
    waiting_.append(line.data(), line.size());
    if (!started_) start();
    arrived_.notify_one();
  }

  void flush_() override {}

 private:
  // The thread is never joined: at exit it may hang in a write to a pipe that nobody reads. It
  // sees no signal, also no SIGPIPE, but those that tell of a fault of its own.
  void start() {
    sigset_t blocked;
    sigset_t before;
    sigfillset(&blocked);
    for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGABRT}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    try {
      std::thread([this] {
        pthread_setname_np(pthread_self(), "log");
        write_forever();
      }).detach();
      started_ = true;
    } catch (const std::system_error&) {
      // No thread to be had now: the next message tries again.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // The host had no thread to give. Once, and only what a reader takes in time: a pipe that is
  // ready takes PIPE_BUF bytes without a wait.
  void write_without_thread(int timeout_ms) {
    const int fd = file_ ? file_.get() : STDERR_FILENO;
    pollfd poll{.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&poll, 1, timeout_ms) != 1) return;
    dropped_ += write_all(fd, std::string_view(waiting_).substr(0, PIPE_BUF));
    waiting_.clear();
  }

  void write_forever() {
    std::string batch;
    std::unique_lock lock(mutex_);
    while (true) {
      arrived_.wait(lock, [this] { return !waiting_.empty(); });
      batch.clear();
      batch.swap(waiting_);
      writing_ = true;
      const int fd = file_ ? file_.get() : STDERR_FILENO;
      lock.unlock();
      const size_t lost = write_all(fd, batch);
      lock.lock();
      dropped_ += lost;
      writing_ = false;
      if (lost == 0 && dropped_ > reported_) report_dropped();
      if (waiting_.empty()) written_.notify_all();
    }
  }

  void report_dropped() {
    const std::string text = fmt::format("{} log messages were dropped", dropped_ - reported_);
    reported_ = dropped_;
    spdlog::memory_buf_t line;
    formatter_->format(spdlog::details::log_msg("", spdlog::level::warn, text), line);
    waiting_.append(line.data(), line.size());
  }

  // Returns how many lines could not be written.
  static size_t write_all(int fd, std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::write(fd, text.data(), text.size());
      if (count >= 0) {
        text.remove_prefix(static_cast<size_t>(count));
      } else if (errno == EAGAIN) {
        pollfd poll{.fd = fd, .events = POLLOUT, .revents = 0};
        ::poll(&poll, 1, -1);
      } else if (errno != EINTR) {
        return static_cast<size_t>(std::ranges::count(text, '\n'));
      }
    }
    return 0;
  }

  std::condition_variable arrived_;
  std::condition_variable written_;
  std::string waiting_;
  Fd file_;  // empty: stderr
  bool has_pattern_ = false;
  bool started_ = false;
  bool writing_ = false;
  uint64_t dropped_ = 0;
  uint64_t reported_ = 0;
};

struct Log {
  std::shared_ptr<QueueSink> sink = std::make_shared<QueueSink>();
  spdlog::logger logger{"ringlet", sink};
};

/// Lives until the very end, as threads may log while the process exits.
Log& the_log() {
  static Log* const log = [] {
    Log* const made = new Log;
    made->logger.set_level(spdlog::level::trace);  // log_enabled() has decided
    return made;
  }();
  return *log;
}

}  // namespace

LogLevel parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::Debug;
  if (name == "info") return LogLevel::Info;
  if (name == "warn") return LogLevel::Warn;
  if (name == "error") return LogLevel::Error;
  if (name == "off") return LogLevel::Off;
  throw ConfigError(fmt::format(
      "log level \"{}\": expected \"debug\", \"info\", \"warn\", \"error\" or \"off\"", name));
}

void log_setup(LogLevel level, const std::string& path) {
  Fd file;
  if (!path.empty()) {
    // A named pipe without a reader is an error then, not a wait.
    constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    file.reset(::open(path.c_str(), kFlags, 0600));
    if (!file && is_shortage(errno)) throw_errno("log-file");
    if (!file) {
      throw ConfigError(fmt::format("log-file '{}': cannot be opened for writing: {}", path,
                                    std::strerror(errno)));
    }
  }
  the_log().sink->wait_until_written(kSwitchPatienceMs);
  the_log().sink->write_to(std::move(file));
  g_level.store(level, std::memory_order_relaxed);
}

uint64_t log_dropped() {
  return the_log().sink->dropped();
}

void log_flush(int timeout_ms) noexcept {
  the_log().sink->wait_until_written(timeout_ms);
}

bool log_enabled(LogLevel level) noexcept {
  return level >= g_level.load(std::memory_order_relaxed) && level != LogLevel::Off;
}

void log_message(LogLevel level, std::string_view text) noexcept {
  if (!log_enabled(level)) return;
  try {
    the_log().logger.log(spdlog_level(level), sanitised(text));
  } catch (...) {
    // No memory for a message: there is nobody to tell.
  }
}

bool LogLimit::allow() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return allow_at(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

bool LogLimit::allow_at(int64_t now_ms) noexcept {
  if (used_.load(std::memory_order_relaxed) < kBurst && used_.fetch_add(1) < kBurst) {
    next_ms_.store(now_ms + kPauseMs, std::memory_order_relaxed);
    return true;
  }
  int64_t next = next_ms_.load(std::memory_order_relaxed);
  return now_ms >= next && next_ms_.compare_exchange_strong(next, now_ms + kPauseMs);
}

}  // namespace ringlet
