// Tests of logging: what a line looks like, and that a slow reader stops nobody.
#include "kvm/log.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet {
namespace {

std::string path_of(const Fd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

std::string content_of(const Fd& fd) {
  std::string content(65536, '\0');
  content.resize(
      static_cast<size_t>(check(::pread(fd.get(), content.data(), content.size(), 0), "pread")));
  return content;
}

/// What a pipe brings until `end` was read, or until nothing comes any more.
std::string read_until(const Fd& fd, std::string_view end) {
  std::string text;
  std::array<char, 4096> piece{};
  pollfd poll{.fd = fd.get(), .events = POLLIN, .revents = 0};
  while (text.find(end) == std::string::npos && ::poll(&poll, 1, 300'000) == 1) {
    text.append(piece.data(),
                static_cast<size_t>(check(::read(fd.get(), piece.data(), piece.size()), "read")));
  }
  return text;
}

/// Sends the log to a file in memory while it lives.
struct LogToMemory {
  explicit LogToMemory(LogLevel level) : file(check(::memfd_create("log", 0), "memfd_create")) {
    log_setup(level, path_of(file));
  }
  ~LogToMemory() { log_setup(LogLevel::Info, ""); }
  std::string text() const {
    log_flush(10'000);
    return content_of(file);
  }
  Fd file;
};

TEST_CASE("a message is one line with its time and level") {
  const LogToMemory log(LogLevel::Info);
  log_warn("{} of {}", 1, 2);
  const std::string text = log.text();
  REQUIRE(text.size() == 28);
  CHECK(text.substr(2, 1) == ":");
  CHECK(text.substr(5, 1) == ":");
  CHECK(text.substr(8, 1) == ".");
  CHECK(text.substr(12) == " warning 1 of 2\n");
}

TEST_CASE("messages below the level are not kept") {
  const LogToMemory log(LogLevel::Warn);
  log_info("not this");
  log_error("but this");
  const std::string text = log.text();
  CHECK(text.find("not this") == std::string::npos);
  CHECK(text.find("but this") != std::string::npos);
  CHECK_FALSE(log_enabled(LogLevel::Info));
  CHECK(log_enabled(LogLevel::Warn));
}

TEST_CASE("a log that is off keeps nothing") {
  const LogToMemory log(LogLevel::Off);
  log_error("not this");
  CHECK(log.text().empty());
  CHECK_FALSE(log_enabled(LogLevel::Off));
}

TEST_CASE("control characters and long texts cannot harm whoever reads the log") {
  const LogToMemory log(LogLevel::Info);
  log_info("{}", "a\x1b[2Jb\nc\x9b");
  CHECK(log.text().substr(12) == " info    a\\x1b[2Jb\\x0ac\\x9b\n");
  log_info("{}", std::string(5000, 'x'));
  CHECK(log.text().size() < 1200);
}

TEST_CASE("a full pipe stops nobody; what is dropped is counted and told of later") {
  std::array<int, 2> ends{};
  check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
  const Fd read_end(ends[0]);
  const Fd write_end(ends[1]);
  // Full before the first message: none can be written until somebody reads.
  check(::fcntl(write_end.get(), F_SETFL, O_NONBLOCK), "fcntl(F_SETFL)");
  const std::string filler(4096, '.');
  while (::write(write_end.get(), filler.data(), filler.size()) > 0) {
  }
  const uint64_t before = log_dropped();
  log_setup(LogLevel::Info, path_of(write_end));
  for (int i = 0; i < 20'000; ++i) log_info("message number {:08}", i);
  CHECK(log_dropped() - before > 5'000);
  const std::string text = read_until(read_end, "log messages were dropped\n");
  const uint64_t dropped = log_dropped() - before;
  CHECK(std::ranges::count(text, '\n') == static_cast<ptrdiff_t>(20'000 - dropped + 1));
  CHECK(text.find(std::to_string(dropped) + " log messages were dropped") != std::string::npos);
  log_setup(LogLevel::Info, "");
}

TEST_CASE("messages of several threads stay whole") {
  const LogToMemory log(LogLevel::Info);
  {
    std::array<std::jthread, 3> threads;
    for (std::jthread& thread : threads) {
      thread = std::jthread([] {
        for (int i = 0; i < 100; ++i) log_info("0123456789");
      });
    }
  }
  std::istringstream lines(log.text());
  size_t whole = 0;
  for (std::string line; std::getline(lines, line);) whole += line.substr(20) == " 0123456789";
  CHECK(whole == 300);
}

TEST_CASE("log levels are parsed by name, and others refused with what was expected") {
  CHECK(parse_log_level("debug") == LogLevel::Debug);
  CHECK(parse_log_level("off") == LogLevel::Off);
  CHECK_THROWS_WITH(parse_log_level("loud"), Catch::Contains("\"loud\"") && Catch::Contains("off"));
}

TEST_CASE("a log file that cannot be opened is named") {
  CHECK_THROWS_MATCHES(log_setup(LogLevel::Info, "/nonexistent/log"), ConfigError,
                       Catch::Message("log-file '/nonexistent/log': cannot be opened for writing: "
                                      "No such file or directory"));
}

TEST_CASE("a limited message comes three times, then once in ten seconds") {
  LogLimit limit;
  CHECK(limit.allow_at(0));
  CHECK(limit.allow_at(1));
  CHECK(limit.allow_at(2));
  CHECK_FALSE(limit.allow_at(3));
  CHECK_FALSE(limit.allow_at(10'001));
  CHECK(limit.allow_at(10'002));
  CHECK_FALSE(limit.allow_at(10'003));
  CHECK(limit.allow_at(20'002));
}

}  // namespace
}  // namespace ringlet
