// Waiting for what a machine that has just ended, or was killed, still holds.
#pragma once

#include <chrono>
#include <thread>

namespace ringlet {

/// Repeats `attempt` until it returns true, but for a second at most; returns what it returned
/// last, and leaves errno as it left it. A machine holds its locks and its pinned memory a little
/// longer than its process lives: the kernel takes an io_uring apart, and closes the ring's files,
/// in the background.
template <typename Attempt>
bool try_patiently(Attempt attempt) {
  constexpr std::chrono::seconds kPatience{1};
  constexpr std::chrono::milliseconds kInterval{5};
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!attempt()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kInterval);
  }
  return true;
}

}  // namespace ringlet
