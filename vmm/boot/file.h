// A kernel or initrd file: opened, measured, and read with every bound checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <fmt/core.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet {

/// A regular file that is not empty. What it holds is anybody's guess until it has been checked;
/// it may even shrink while we read it. For set-up code only.
class BootFile {
 public:
  /// Opens `path`; `role` ("kernel", "initrd") and path name it in messages. Throws ConfigError.
  static BootFile open(const std::string& role, const std::string& path);
  /// Takes an open descriptor; `label` names it in messages. Throws ConfigError unless it is a
  /// regular file that holds something.
  BootFile(std::string label, Fd fd);

  const std::string& label() const { return label_; }
  uint64_t size() const { return size_; }
  /// True when `length` bytes at `at` exist.
  bool contains(uint64_t at, uint64_t length) const { return at <= size_ && length <= size_ - at; }

  /// Fills `to` from offset `at`, in as few system calls as the kernel lets us. Throws ConfigError
  /// when the file ends before that, std::system_error when it cannot be read.
  void read(uint64_t at, std::span<std::byte> to) const;

  template <typename T>
  T read(uint64_t at) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    read(at, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  /// Throws a ConfigError that starts with the file's name.
  template <typename... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) const {
    throw ConfigError(label_ + ": " + fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  std::string label_;
  Fd fd_;
  uint64_t size_ = 0;
};

}  // namespace ringlet
