// Port and memory-mapped I/O: one instruction per access, of exactly the width asked for.
#pragma once

#include <cstdint>

namespace guest {

template <typename T>
T port_in(uint16_t port) {
  T value;
  asm volatile("in %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

template <typename T>
void port_out(uint16_t port, T value) {
  asm volatile("out %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

template <typename T>
T mmio_read(uint64_t address) {
  T value;
  asm volatile("mov (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}

template <typename T>
void mmio_write(uint64_t address, T value) {
  asm volatile("mov %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

inline uint64_t read_tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return uint64_t{high} << 32 | low;
}

inline void cpu_relax() {
  asm volatile("pause" : : : "memory");
}

// Bounds a polling loop without a clock whose rate is known: 2^38 cycles last 1 to 3 minutes.
class Deadline {
 public:
  bool passed() const { return read_tsc() - start_ > uint64_t{1} << 38; }

 private:
  uint64_t start_ = read_tsc();
};

}  // namespace guest
