// What the attacks of the hostile guest share: the disk they attack, the one that must not notice,
// memory with guards around it, and a second CPU.
#pragma once

#include <cstdint>

#include "lib/guest.h"
#include "lib/virtio.h"
#include "lib/virtio_blk.h"

namespace guest::hostile {

// struct virtq_desc (2.7.5) and its flags.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);
inline constexpr uint16_t kNext = 1;
inline constexpr uint16_t kWrite = 2;
inline constexpr uint16_t kIndirect = 4;

inline constexpr size_t kPage = 4096;
inline constexpr uint16_t kQueueSize = 16;
inline constexpr Features kFeatures =
    Features{}.with(Feature::Version1).with(Feature::IndirectDescriptors).with(Feature::RingReset);

// All memory that the attacked device is given, in pages of their own.
struct Arena {
  uint8_t guard0[kPage];
  Descriptor descriptors[kPage / sizeof(Descriptor)];
  uint8_t guard1[kPage];
  Descriptor table[kPage / sizeof(Descriptor)];  // for indirect descriptors
  uint8_t guard2[kPage];
  volatile uint16_t avail[kPage / 2];  // flags, index, heads
  uint8_t guard3[kPage];
  volatile uint16_t used[kPage / 2];  // flags, index, elements of four
  uint8_t guard4[kPage];
  BlkHeader header;
  uint8_t header_rest[kPage - sizeof(BlkHeader)];
  uint8_t guard5[kPage];
  uint8_t data[kPage];
  uint8_t guard6[kPage];
  volatile uint8_t status;
  uint8_t status_rest[kPage - 1];
  uint8_t guard7[kPage];
};
extern Arena arena;

inline uint64_t address_of_volatile(const volatile void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

// Where the three parts of a queue are.
struct Place {
  uint64_t descriptors;
  uint64_t avail;
  uint64_t used;
  uint16_t size = kQueueSize;
};
Place arena_place();

// The first address behind the RAM below 4 GiB.
uint64_t ram_end();

// The disk under attack: virtio-blk device 0, without a driver's good manners.
class Target {
 public:
  explicit Target(const pci::Function& function) : device_(function) {}

  VirtioPci& device() { return device_; }
  const pci::Function& function() const { return device_.function(); }
  uint64_t bar() const { return device_.function().bar(device_.common_bar()).address; }

  // Resets it, empties the arena's rings and negotiates, up to FEATURES_OK.
  void prepare(Features features = kFeatures);
  void place_queue(uint16_t queue, const Place& place);
  // Prepares it with one queue in the arena, and sets DRIVER_OK.
  void start(Features features = kFeatures);

  // A read of the disk's first 4 KiB, in descriptors 0 to 2.
  void fill_request(BlkType type = BlkType::In, uint64_t sector = 0);
  // Makes heads available, and rings queue 0's doorbell.
  void offer(std::initializer_list<uint16_t> heads);
  void kick() { mmio_write<uint16_t>(device_.notify_address(), 0); }

  bool needs_reset() const { return (device_.status() & kNeedsReset) != 0; }
  // Waits until the device has used `count` heads or fails. Returns "needs reset", or the status
  // byte's meaning.
  const char* wait_for_outcome(uint16_t count = 1);

 private:
  VirtioPci device_;
};

// Another disk: what happens to the target must not concern it. Virtio-blk device 1.
class Bystander {
 public:
  explicit Bystander(const pci::Function& function);
  // Writes a chunk, and reads back this and the one before. Fails the run if anything is wrong.
  void check();
  // Leaves the content that the test expects: chunk n holds bytes 0xb0 + n.
  void finish();
  VirtioPci& device() { return blk_.device(); }
  uint64_t bar() { return device().function().bar(device().common_bar()).address; }

 private:
  void write(uint64_t chunk, uint8_t value);
  void expect_chunk(uint64_t chunk, uint8_t value);

  BlkDriver blk_;
  uint8_t* buffer_;
  uint64_t round_ = 0;
};

// Everything outside the image, and the arena's guards, hold a pattern that nobody may change.
void set_canaries();
void check_canaries();

// Takes the target back into use as a good driver would: it must work.
void expect_usable(Target& target);

// Runs `job` in ring 0 of the second CPU, until stop() is asked for; the job looks at stopping().
// Fails the run when there is no such CPU.
void start_second_cpu(void (*job)());
bool stopping();
void stop_second_cpu();
// The APIC id of the second CPU.
uint32_t second_cpu();

struct Scene {
  Target& target;
  Bystander& bystander;
};

// The attacks; each prints what it saw.
void attack_chains(Scene& scene);
void attack_indirect(Scene& scene);
void attack_heads(Scene& scene);
void attack_queues(Scene& scene);
void attack_overlays(Scene& scene);
void attack_status(Scene& scene);
void attack_registers(Scene& scene);
void attack_mmio(Scene& scene);
void attack_bars(Scene& scene);
void attack_toggle(Scene& scene);
void attack_doorbells(Scene& scene);
void attack_msi(Scene& scene);
void attack_ports(Scene& scene);
void attack_strings(Scene& scene);
void attack_floods(Scene& scene);
void attack_halted(Scene& scene);
void attack_ipis(Scene& scene);
void attack_triplefault(Scene& scene);

}  // namespace guest::hostile
