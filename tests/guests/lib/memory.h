// Memory of the guest: the C functions compilers call, a heap for device memory, mappings.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/span.h"

extern "C" {
void* memcpy(void* to, const void* from, size_t count);
void* memmove(void* to, const void* from, size_t count);
void* memset(void* to, int byte, size_t count);
int memcmp(const void* a, const void* b, size_t count);
}

namespace guest {

// Zeroed memory that is never given back; its address is also what devices are told.
void* allocate(size_t size, size_t alignment);

template <typename T>
Span<T> allocate_array(size_t count, size_t alignment = alignof(T)) {
  return {static_cast<T*>(allocate(count * sizeof(T), alignment)), count};
}

inline uint64_t address_of(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

// Makes [start, start + size) readable and writable at its own address, by 2 MiB pages, anywhere
// below 2^46. The first 4 GiB are mapped from the start.
void map_ram(uint64_t start, uint64_t size);
void map_device(uint64_t start, uint64_t size);

// The image: guests that write to all memory leave it out.
uint64_t image_start_address();
uint64_t image_end_address();

uint32_t crc32(Span<const uint8_t> bytes, uint32_t so_far = 0);

// Bytes that look random and depend on seed and index alone.
void fill_pattern(Span<uint8_t> bytes, uint64_t seed);
// Index of the first byte that differs from the pattern, or bytes.size.
size_t pattern_mismatch(Span<const uint8_t> bytes, uint64_t seed);

}  // namespace guest
