// What a fuzz target takes its decisions from: libFuzzer's bytes, read from front to back, so that
// a change of one byte leaves the decisions before it as they were.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ringlet {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  bool empty() const { return rest_.empty(); }

  /// Up to `count` bytes: fewer at the end of the input.
  std::span<const std::byte> bytes(size_t count) {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  /// A little-endian number; bytes behind the end of the input are zero.
  template <std::unsigned_integral T>
  T take() {
    const auto from = bytes(sizeof(T));
    T value = 0;
    if (!from.empty()) std::memcpy(&value, from.data(), from.size());
    return value;
  }
  bool flag() { return (take<uint8_t>() & 1) != 0; }
  /// A number below `limit`, which takes one byte of input up to 256, else two.
  size_t below(size_t limit) { return (limit <= 256 ? take<uint8_t>() : take<uint16_t>()) % limit; }
  template <typename T, size_t N>
  const T& pick(const std::array<T, N>& choices) {
    return choices[below(N)];
  }

 private:
  std::span<const std::byte> rest_;
};

/// The data of one access of the guest's: 1, 2, 4 or 8 bytes, now and then 3, 5, 6 or 7.
class FuzzAccess {
 public:
  explicit FuzzAccess(FuzzInput& input) {
    constexpr std::array<uint8_t, 16> kWidths{1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 4, 3, 5, 6, 7};
    width_ = input.pick(kWidths);
    // The usual numbers are small: a byte is enough for them.
    const bool is_small = input.flag();
    const uint64_t value = is_small ? input.take<uint8_t>() : input.take<uint64_t>();
    std::memcpy(data_.data(), &value, sizeof value);
  }
  size_t width() const { return width_; }
  std::span<std::byte> data() { return std::span(data_).first(width_); }

 private:
  size_t width_;
  std::array<std::byte, 8> data_{};
};

}  // namespace ringlet
