// Memory of the guest: the C functions compilers call, a heap for device memory, mappings.
#include "lib/memory.h"

#include "lib/console.h"

void* memcpy(void* to, const void* from, size_t count) {
  void* result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return result;
}

void* memset(void* to, int byte, size_t count) {
  void* result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
  return result;
}

void* memmove(void* to, const void* from, size_t count) {
  auto* target = static_cast<volatile uint8_t*>(to);
  const auto* source = static_cast<const volatile uint8_t*>(from);
  if (target <= source) {
    return memcpy(to, from, count);
  }
  while (count > 0) {
    --count;
    target[count] = source[count];
  }
  return to;
}

int memcmp(const void* a, const void* b, size_t count) {
  const auto* left = static_cast<const volatile uint8_t*>(a);
  const auto* right = static_cast<const volatile uint8_t*>(b);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t x = left[i];
    const uint8_t y = right[i];
    if (x != y) {
      return x - y;
    }
  }
  return 0;
}

extern "C" {
extern const char image_start[];
extern const char image_end[];
extern uint64_t page_map[512];
}

namespace guest {
namespace {

constexpr size_t kHeapBytes = 4 << 20;
constexpr size_t kSpareTables = 64;
constexpr uint64_t kLargePage = 2 << 20;
constexpr uint64_t kMappable = uint64_t{1} << 46;
constexpr uint64_t kUserTable = 0x07;
constexpr uint64_t kUserPage = 0x87;
constexpr uint64_t kUncached = 0x10;
constexpr uint64_t kAddressBits = 0x000ffffffffff000;

alignas(4096) uint8_t heap[kHeapBytes];
size_t heap_used = 0;

alignas(4096) uint64_t spare_tables[kSpareTables][512];
size_t tables_used = 0;

// The table that entry points to, made when there is none. Entries that were not present are not
// cached by the processor, so nothing needs to be flushed.
uint64_t* table_below(uint64_t& entry) {
  if (entry == 0) {
    expect(tables_used < kSpareTables, "out of page tables");
    entry = address_of(spare_tables[tables_used++]) | kUserTable;
  }
  return reinterpret_cast<uint64_t*>(entry & kAddressBits);
}

void map(uint64_t start, uint64_t size, uint64_t flags) {
  expect(start < kMappable && size <= kMappable - start, "cannot map {} bytes at {}", hex(size),
         hex(start));
  const uint64_t first = start & ~(kLargePage - 1);
  for (uint64_t page = first; page < start + size; page += kLargePage) {
    uint64_t* pointers = table_below(page_map[page >> 39]);
    uint64_t* directory = table_below(pointers[page >> 30 & 511]);
    directory[page >> 21 & 511] = page | flags;
  }
}

// One step of splitmix64.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

uint8_t pattern_byte(uint64_t word, size_t index) {
  return static_cast<uint8_t>(word >> 8 * (index % 8));
}

}  // namespace

void* allocate(size_t size, size_t alignment) {
  const size_t at = (heap_used + alignment - 1) & ~(alignment - 1);
  expect(at <= kHeapBytes && size <= kHeapBytes - at, "out of memory for {} bytes", size);
  heap_used = at + size;
  return heap + at;
}

void map_ram(uint64_t start, uint64_t size) {
  map(start, size, kUserPage);
}
void map_device(uint64_t start, uint64_t size) {
  map(start, size, kUserPage | kUncached);
}

uint64_t image_start_address() {
  return address_of(image_start);
}
uint64_t image_end_address() {
  return address_of(image_end);
}

uint32_t crc32(Span<const uint8_t> bytes, uint32_t so_far) {
  uint32_t crc = ~so_far;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = crc >> 1 ^ (0xedb88320 & (0 - (crc & 1)));
    }
  }
  return ~crc;
}

void fill_pattern(Span<uint8_t> bytes, uint64_t seed) {
  for (size_t i = 0; i < bytes.size; i += 8) {
    const uint64_t word = mix(seed * 0x10000 + i / 8);
    for (size_t j = i; j < i + 8 && j < bytes.size; ++j) {
      bytes[j] = pattern_byte(word, j);
    }
  }
}

size_t pattern_mismatch(Span<const uint8_t> bytes, uint64_t seed) {
  for (size_t i = 0; i < bytes.size; i += 8) {
    const uint64_t word = mix(seed * 0x10000 + i / 8);
    for (size_t j = i; j < i + 8 && j < bytes.size; ++j) {
      if (bytes[j] != pattern_byte(word, j)) {
        return j;
      }
    }
  }
  return bytes.size;
}

}  // namespace guest
