// The keys that a user types for ringlet and not for the guest.
#pragma once

#include <array>
#include <cstddef>

namespace ringlet {

/// Finds Ctrl-A X in what the user types: a Ctrl-A holds until the next key, X (or x) leaves,
/// Ctrl-A or A (a) sends one Ctrl-A, any other key is sent behind its Ctrl-A. Only for terminals:
/// bytes from a pipe are the guest's as they are.
class EscapeKeys {
 public:
  struct Result {
    std::array<std::byte, 2> bytes{};
    size_t count = 0;  ///< how many of `bytes` go to the guest
    bool leave = false;
  };
  Result key(std::byte byte) noexcept;

 private:
  bool after_ctrl_a_ = false;
};

inline EscapeKeys::Result EscapeKeys::key(std::byte byte) noexcept {
  constexpr std::byte kCtrlA{0x01};
  if (!after_ctrl_a_) {
    after_ctrl_a_ = byte == kCtrlA;
    if (after_ctrl_a_) return {};
    return {.bytes = {byte}, .count = 1};
  }
  after_ctrl_a_ = false;
  switch (static_cast<char>(byte)) {
    case 'x':
    case 'X': return {.leave = true};
    case 'a':
    case 'A':
    case '\x01': return {.bytes = {kCtrlA}, .count = 1};
    default: return {.bytes = {kCtrlA, byte}, .count = 2};
  }
}

}  // namespace ringlet
