// The hostile guest's surroundings: the two disks, the canaries, the second CPU.
#include "hostile.h"
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/interrupts.h"

namespace guest {

extern "C" {
extern const char ap_trampoline[];
extern const char ap_trampoline_end[];
extern uint32_t ap_count;
[[noreturn]] void ap_main();
}

namespace hostile {

alignas(kPage) Arena arena;

namespace {

constexpr uint8_t kGuard = 0xc5;
constexpr uint64_t kCanary = 0x5eed'5eed'0bad'cafe;
constexpr uint64_t kLargePage = 2 << 20;
constexpr uint64_t k4GiB = uint64_t{1} << 32;
constexpr uint64_t kTrampolinePage = 0x10;  // at 64 KiB
constexpr uint32_t kInit = 0x4500;          // Intel SDM volume 3, 11.6.1
constexpr uint32_t kStartUp = 0x4600;
constexpr size_t kChunk = 4096;
constexpr uint64_t kChunkSectors = kChunk / kSectorBytes;
constexpr uint64_t kChunks = 8;
constexpr uint8_t kAllSet = kAcknowledge | kDriver | kFeaturesOk | kDriverOk;

uint8_t* guards[] = {arena.guard0, arena.guard1, arena.guard2, arena.guard3,
                     arena.guard4, arena.guard5, arena.guard6, arena.guard7};

void (*second_job)() = nullptr;
enum : uint32_t { kAbsent, kRunning, kDone };
uint32_t second_state = kAbsent;
uint32_t second_stop = 0;

// RAM behind the image, by 8 bytes.
Span<uint64_t> spare_ram() {
  const uint64_t start = (image_end_address() + kLargePage - 1) & ~(kLargePage - 1);
  return {reinterpret_cast<uint64_t*>(start), (ram_end() - start) / sizeof(uint64_t)};
}

bool all_are(Span<const uint8_t> bytes, uint8_t value) {
  for (const uint8_t byte : bytes) {
    if (byte != value) {
      return false;
    }
  }
  return true;
}

}  // namespace

Place arena_place() {
  return {address_of(arena.descriptors), address_of_volatile(arena.avail),
          address_of_volatile(arena.used)};
}

uint64_t ram_end() {
  uint64_t end = 0;
  for (const MemoryRange& range : start_info().memory) {
    const uint64_t range_end = range.start + range.size;
    if (range.type == MemoryType::Ram && range_end <= k4GiB && range_end > end) {
      end = range_end;
    }
  }
  return end;
}

// ---- Canaries ----------------------------------------------------------------------------------

void set_canaries() {
  for (uint8_t* guard : guards) {
    memset(guard, kGuard, kPage);
  }
  uint64_t value = kCanary;
  for (uint64_t& word : spare_ram()) {
    word = value++;
  }
}

void check_canaries() {
  for (size_t i = 0; i < sizeof(guards) / sizeof(guards[0]); ++i) {
    expect(all_are({guards[i], kPage}, kGuard), "guard page {} was written to", i);
  }
  uint64_t value = kCanary;
  for (const uint64_t& word : spare_ram()) {
    expect(word == value++, "memory at {} was written to", hex(address_of(&word)));
  }
}

// ---- The target --------------------------------------------------------------------------------

void Target::prepare(Features features) {
  device_.reset();
  memset(arena.descriptors, 0, kPage);
  memset(arena.table, 0, kPage);
  memset(const_cast<uint16_t*>(arena.avail), 0, kPage);
  memset(const_cast<uint16_t*>(arena.used), 0, kPage);
  device_.negotiate(features);
}

void Target::place_queue(uint16_t queue, const Place& place) {
  device_.set(common::kQueueSelect, queue);
  device_.set(common::kQueueSize, place.size);
  device_.set(common::kQueueDesc, place.descriptors);
  device_.set(common::kQueueDriver, place.avail);
  device_.set(common::kQueueDevice, place.used);
  device_.set(common::kQueueEnable, uint16_t{1});
}

void Target::start(Features features) {
  prepare(features);
  place_queue(0, arena_place());
  device_.driver_ok();
}

void Target::fill_request(BlkType type, uint64_t sector) {
  const bool read = type == BlkType::In;
  arena.header = {type, 0, sector};
  arena.status = static_cast<uint8_t>(BlkStatus::NotWritten);
  arena.descriptors[0] = {address_of(&arena.header), sizeof(BlkHeader), kNext, 1};
  arena.descriptors[1] = {address_of(arena.data), kPage,
                          static_cast<uint16_t>(kNext | (read ? kWrite : 0)), 2};
  arena.descriptors[2] = {address_of_volatile(&arena.status), 1, kWrite, 0};
}

void Target::offer(std::initializer_list<uint16_t> heads) {
  uint16_t index = arena.avail[1];
  for (const uint16_t head : heads) {
    arena.avail[2 + index++ % kQueueSize] = head;
  }
  __atomic_store_n(&arena.avail[1], index, __ATOMIC_RELEASE);
  kick();
}

const char* Target::wait_for_outcome(uint16_t count) {
  const Deadline deadline;
  while (!needs_reset() && __atomic_load_n(&arena.used[1], __ATOMIC_ACQUIRE) != count) {
    expect(!deadline.passed(), "the device neither answers nor fails");
    cpu_relax();
  }
  if (needs_reset()) {
    return "needs reset";
  }
  switch (static_cast<BlkStatus>(arena.status)) {
    case BlkStatus::Ok: return "ok";
    case BlkStatus::IoError: return "I/O error";
    case BlkStatus::Unsupported: return "unsupported";
    default: return "no status";
  }
}

void expect_usable(Target& target) {
  target.device().find_registers();
  static uint8_t* const bytes = static_cast<uint8_t*>(allocate(kChunk, kPage));
  static BlkDriver blk(target.function());
  blk.find_registers();
  blk.start({.queue_size = kQueueSize});
  memset(bytes, 0x5a, kChunk);
  expect(blk.write(0, {bytes, kChunk}) == BlkStatus::Ok, "device 0 cannot write after a reset");
  memset(bytes, 0, kChunk);
  expect(blk.read(0, {bytes, kChunk}) == BlkStatus::Ok, "device 0 cannot read after a reset");
  expect(all_are({bytes, kChunk}, 0x5a), "device 0 reads wrongly after a reset");
  expect(blk.flush() == BlkStatus::Ok, "device 0 cannot flush after a reset");
  blk.device().reset();
}

// ---- The bystander -----------------------------------------------------------------------------

Bystander::Bystander(const pci::Function& function)
    : blk_(function), buffer_(static_cast<uint8_t*>(allocate(kChunk, kPage))) {
  blk_.start({.queue_size = kQueueSize});
  for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    write(chunk, 0);
  }
}

void Bystander::write(uint64_t chunk, uint8_t value) {
  memset(buffer_, value, kChunk);
  expect(blk_.write(chunk * kChunkSectors, {buffer_, kChunk}) == BlkStatus::Ok,
         "device 1 cannot write");
}

void Bystander::expect_chunk(uint64_t chunk, uint8_t value) {
  memset(buffer_, ~value, kChunk);
  expect(blk_.read(chunk * kChunkSectors, {buffer_, kChunk}) == BlkStatus::Ok,
         "device 1 cannot read");
  expect(all_are({buffer_, kChunk}, value), "device 1 reads wrongly");
}

void Bystander::check() {
  expect_chunk(round_ % kChunks, static_cast<uint8_t>(round_));
  ++round_;
  write(round_ % kChunks, static_cast<uint8_t>(round_));
  expect_chunk(round_ % kChunks, static_cast<uint8_t>(round_));
  expect(device().status() == kAllSet, "device 1 has status {}", hex(device().status()));
}

void Bystander::finish() {
  for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    write(chunk, static_cast<uint8_t>(0xb0 + chunk));
  }
  expect(blk_.flush() == BlkStatus::Ok, "device 1 cannot flush");
}

// ---- The second CPU ----------------------------------------------------------------------------

uint32_t second_cpu() {
  static uint32_t ids[acpi::kMaxCpus];
  expect(acpi::find_cpus(ids) == 2, "there are not two CPUs");
  return ids[0] == apic::id() ? ids[1] : ids[0];
}

void start_second_cpu(void (*job)()) {
  memcpy(reinterpret_cast<void*>(kTrampolinePage << 12), ap_trampoline,
         static_cast<size_t>(ap_trampoline_end - ap_trampoline));
  second_job = job;
  second_stop = 0;
  __atomic_store_n(&second_state, kAbsent, __ATOMIC_SEQ_CST);
  const uint32_t id = second_cpu();
  apic::send_command(id, kInit);
  ap_count = 0;
  apic::send_command(id, kStartUp | kTrampolinePage);
  const Deadline deadline;
  while (__atomic_load_n(&second_state, __ATOMIC_SEQ_CST) == kAbsent) {
    expect(!deadline.passed(), "the second CPU does not start");
    cpu_relax();
  }
}

bool stopping() {
  return __atomic_load_n(&second_stop, __ATOMIC_SEQ_CST) != 0;
}

void stop_second_cpu() {
  __atomic_store_n(&second_stop, 1, __ATOMIC_SEQ_CST);
  const Deadline deadline;
  while (__atomic_load_n(&second_state, __ATOMIC_SEQ_CST) == kRunning) {
    expect(!deadline.passed(), "the second CPU does not stop");
    cpu_relax();
  }
}

}  // namespace hostile

void ap_main() {
  apic::enable_ring0();
  __atomic_store_n(&hostile::second_state, hostile::kRunning, __ATOMIC_SEQ_CST);
  hostile::second_job();
  __atomic_store_n(&hostile::second_state, hostile::kDone, __ATOMIC_SEQ_CST);
  for (;;) {
    asm volatile("cli; hlt" : : : "memory");
  }
}

}  // namespace guest
