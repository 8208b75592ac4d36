// How set-up code reports that the host, or the user's input, does not allow what was asked.
#pragma once

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace ringlet {

/// The user asked for something that cannot be: a flag, a file, a JSON field. The message is one
/// line that names the culprit and what was expected. Caught once, in main or at the API's edge.
class ConfigError : public std::runtime_error {
 public:
  static constexpr size_t kMaxMessage = 1000;  ///< bytes

  /// Messages quote users and files: what is longer is cut, control characters become '?'.
  explicit ConfigError(std::string message) : std::runtime_error(one_line(std::move(message))) {}

 private:
  static std::string one_line(std::string message) {
    if (message.size() > kMaxMessage) message.replace(kMaxMessage - 3, std::string::npos, "...");
    for (char& c : message) {
      if ((c >= '\0' && c < ' ') || c == '\x7f') c = '?';
    }
    return message;
  }
};

/// The host cannot do what every machine needs, and the user can do something about it: no usable
/// /dev/kvm, io_uring switched off. One line that says what to do.
class HostError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// True for an errno of open() that tells of the host's limits, not of the file.
constexpr bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/// Throws std::system_error built from `errno`; `what` names the call and its object.
[[noreturn]] inline void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

/// Returns `result` unless it is negative, which by the convention of system calls means that
/// errno says why: then throws std::system_error. For set-up code only.
template <typename T>
T check(T result, const char* what) {
  if (result < 0) throw_errno(what);
  return result;
}

}  // namespace ringlet
