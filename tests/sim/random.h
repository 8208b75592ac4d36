// The simulation's source of chance: all of a lifetime follows from one seed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringlet {

/// splitmix64: small, fast, and good enough to shuffle with.
class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// 0 to `count` - 1; `count` is not 0.
  template <typename T>
  T below(T count) {
    return static_cast<T>(next() % static_cast<uint64_t>(count));
  }
  /// `first` to `last`.
  template <typename T>
  T between(T first, T last) {
    return static_cast<T>(first +
                          static_cast<T>(next() % (static_cast<uint64_t>(last - first) + 1)));
  }
  bool percent(unsigned chance) { return chance > 0 && next() % 100 < chance; }
  template <typename List>
  const auto& pick(const List& list) {
    return list[below(static_cast<size_t>(list.size()))];
  }

 private:
  uint64_t state_;
};

}  // namespace ringlet
