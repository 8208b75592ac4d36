// Data tests of the blk guest: what is written in one shape is read back in another.
#pragma once

#include "lib/memory.h"
#include "lib/virtio_blk.h"

namespace guest {

inline constexpr size_t kPage = 4096;
inline constexpr uint64_t kPageSectors = kPage / kSectorBytes;
inline constexpr size_t kManySegments = 100;
inline constexpr size_t kBufferBytes = (kManySegments + 1) * kPage;

extern uint8_t out_buffer[kBufferBytes];
extern uint8_t in_buffer[kBufferBytes];

// Each pattern has a seed of its own, so that stale data never passes for fresh data.
extern uint64_t seed;

void expect_status(BlkStatus got, BlkStatus wanted, const char* what);
void expect_pattern(Span<const uint8_t> bytes, uint64_t wanted_seed, const char* what);

// Every shape is written at every alignment and read back in another shape.
void test_shapes(BlkDriver& blk);
// The device must not care how header, data and status are cut or joined (2.7.4).
void test_framing(BlkDriver& blk);
void test_many_segments(BlkDriver& blk);
void test_batches(BlkDriver& blk);

// `rounds` times: `batch` (up to 64) reads of one sector each, into in_buffer, under one
// notification and completed in any order.
void read_in_batches(BlkDriver& blk, uint16_t queue, size_t batch, size_t rounds);

}  // namespace guest
