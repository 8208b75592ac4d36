// Attacks by descriptors and rings' contents: every chain that virtio 1.3, 2.7 forbids.
#include "hostile.h"

namespace guest::hostile {
namespace {

constexpr uint64_t kHole = 0xc800'0000;
constexpr uint64_t kLocalApic = 0xfee0'0000;
constexpr uint64_t kSpareSector = 64;  // where writes must never arrive

struct Case {
  const char* name;
  void (*change)(Target& target);
};

// Each case starts with a good request, spoils it, and waits for the device's answer.
void run_cases(Scene& scene, Span<const Case> cases, BlkType type, Features features = kFeatures) {
  for (const Case& one : cases) {
    scene.target.start(features);
    scene.target.fill_request(type, kSpareSector);
    one.change(scene.target);
    scene.target.offer({0});
    print("{}: {}\n", one.name, scene.target.wait_for_outcome());
    scene.bystander.check();
  }
}

void set_buffer(uint64_t address, uint32_t length) {
  arena.descriptors[1].address = address;
  arena.descriptors[1].length = length;
}

constexpr Case kChains[] = {
    {"a descriptor that is its own next", [](Target&) { arena.descriptors[1].next = 1; }},
    {"a chain that returns to its head",
     [](Target&) {
       arena.descriptors[2].flags |= kNext;
       arena.descriptors[2].next = 0;
     }},
    {"a chain over the whole table and round again",
     [](Target&) {
       for (uint16_t i = 1; i < kQueueSize; ++i) {
         const auto next = static_cast<uint16_t>((i + 1) % kQueueSize);
         arena.descriptors[i] = {address_of(arena.data), 512, kNext | kWrite, next};
       }
       arena.descriptors[0].next = 1;
     }},
    {"a next field just outside the table",
     [](Target&) { arena.descriptors[1].next = kQueueSize; }},
    {"a next field far outside the table", [](Target&) { arena.descriptors[1].next = 0xffff; }},
    {"a buffer over the end of RAM", [](Target&) { set_buffer(ram_end() - 512, 1024); }},
    {"a buffer behind RAM", [](Target&) { set_buffer(ram_end(), 512); }},
    {"a buffer in the hole", [](Target&) { set_buffer(kHole, 512); }},
    {"a buffer in the local APIC", [](Target&) { set_buffer(kLocalApic, 512); }},
    {"a buffer in the device's own registers",
     [](Target& target) { set_buffer(target.bar(), 512); }},
    {"a buffer in the device's MSI-X table",
     [](Target& target) { set_buffer(target.bar() + 0x4000, 512); }},
    {"a buffer at 2^63", [](Target&) { set_buffer(uint64_t{1} << 63, 512); }},
    {"a buffer whose end wraps round", [](Target&) { set_buffer(~uint64_t{511}, 1024); }},
    {"a buffer of 2^32 - 1 bytes", [](Target&) { set_buffer(0x10'0000, ~uint32_t{0}); }},
    {"a header behind RAM", [](Target&) { arena.descriptors[0].address = ram_end(); }},
    {"a header that wraps round", [](Target&) { arena.descriptors[0].address = ~uint64_t{0}; }},
    {"a status byte behind RAM", [](Target&) { arena.descriptors[2].address = ram_end(); }},
    {"a status byte at the very end", [](Target&) { arena.descriptors[2].address = ~uint64_t{0}; }},
    {"no status byte", [](Target&) { arena.descriptors[2].length = 0; }},
    {"a header of 15 bytes, and nothing else",
     [](Target&) {
       arena.descriptors[0].length = 15;
       arena.descriptors[0].next = 2;
     }},
    {"a header only", [](Target&) { arena.descriptors[0].flags = 0; }},
    {"a header that the device may write",
     [](Target&) { arena.descriptors[0].flags = kNext | kWrite; }},
    {"a chain of empty descriptors",
     [](Target&) {
       for (int i = 0; i < 3; ++i) {
         arena.descriptors[i].length = 0;
       }
     }},
};

// These are for requests that read the disk.
constexpr Case kReads[] = {
    {"a readable descriptor behind a writable one",
     [](Target&) { arena.descriptors[2].flags = 0; }},
    {"a sector behind the disk", [](Target&) { arena.header.sector = 1 << 20; }},
    {"sector 2^64 - 1", [](Target&) { arena.header.sector = ~uint64_t{0}; }},
    {"sector 2^55, at byte 2^64", [](Target&) { arena.header.sector = uint64_t{1} << 55; }},
    {"half a sector", [](Target&) { arena.descriptors[1].length = 256; }},
    {"an unknown request", [](Target&) { arena.header.type = BlkType{0x4711}; }},
    {"a header inside the buffer it fills",
     [](Target&) {
       memcpy(arena.data, &arena.header, sizeof(BlkHeader));
       arena.descriptors[0].address = address_of(arena.data);
     }},
};

// ---- Indirect ----------------------------------------------------------------------------------

// The good request's descriptors, moved to the table that descriptor 0 now refers to.
void make_indirect(uint32_t length = 3 * sizeof(Descriptor)) {
  memcpy(arena.table, arena.descriptors, 3 * sizeof(Descriptor));
  arena.descriptors[0] = {address_of(arena.table), length, kIndirect, 0};
}

constexpr Case kNotNegotiated[] = {
    {"an indirect table that was not negotiated", [](Target&) { make_indirect(); }},
};

constexpr Case kIndirectCases[] = {
    {"an indirect table inside an indirect table",
     [](Target&) {
       make_indirect();
       arena.table[1] = {address_of(&arena.table[8]), 16, kIndirect, 0};
     }},
    {"an indirect table that refers to itself",
     [](Target&) {
       make_indirect();
       arena.table[0] = {address_of(arena.table), 16, kIndirect, 0};
     }},
    {"an indirect descriptor with a next one",
     [](Target&) {
       make_indirect();
       arena.descriptors[0].flags = kIndirect | kNext;
       arena.descriptors[0].next = 1;
     }},
    {"an indirect table of no bytes", [](Target&) { make_indirect(0); }},
    {"an indirect table of half a descriptor", [](Target&) { make_indirect(8); }},
    {"an indirect table of 3 descriptors and a byte", [](Target&) { make_indirect(49); }},
    {"an indirect table longer than the queue",
     [](Target&) { make_indirect((kQueueSize + 1) * 16); }},
    {"an indirect table of 4 GiB", [](Target&) { make_indirect(0xffff'fff0); }},
    {"an indirect table behind RAM",
     [](Target&) {
       make_indirect();
       arena.descriptors[0].address = ram_end();
     }},
    {"an indirect table over the end of RAM",
     [](Target&) {
       make_indirect();
       arena.descriptors[0].address = ram_end() - 16;
     }},
    {"an indirect table in the device's registers",
     [](Target& target) {
       make_indirect();
       arena.descriptors[0].address = target.bar();
     }},
    {"an indirect table that loops",
     [](Target&) {
       make_indirect();
       arena.table[1].next = 1;
     }},
    {"a next field outside the indirect table",
     [](Target&) {
       make_indirect();
       arena.table[1].next = 3;
     }},
    {"an indirect table that is the descriptor table",
     [](Target&) {
       make_indirect();
       arena.descriptors[0].address = address_of(arena.descriptors);
     }},
};

// 255 buffers of nearly all RAM: together more than a length can say.
void offer_too_much(Scene& scene) {
  constexpr uint16_t kLargeQueue = 256;
  constexpr uint32_t kStart = 0x10'0000;
  Target& target = scene.target;
  target.prepare();
  target.fill_request();
  Place place = arena_place();
  place.size = kLargeQueue;
  target.place_queue(0, place);
  target.device().driver_ok();
  make_indirect(kLargeQueue * sizeof(Descriptor));
  const auto length = static_cast<uint32_t>(ram_end() - kStart);
  for (uint16_t i = 1; i < kLargeQueue; ++i) {
    arena.table[i] = {kStart, length, kNext | kWrite, static_cast<uint16_t>(i + 1)};
  }
  arena.table[kLargeQueue - 1].flags = kWrite;
  target.offer({0});
  print("255 buffers of nearly all RAM: {}\n", target.wait_for_outcome());
  scene.bystander.check();
}

// ---- Heads and the avail index -----------------------------------------------------------------

void jump(Scene& scene, const char* name, uint16_t by) {
  scene.target.start();
  scene.target.fill_request();
  arena.avail[1] = by;
  scene.target.kick();
  print("{}: {}\n", name, scene.target.wait_for_outcome());
  scene.bystander.check();
}

void offer_heads(Scene& scene, const char* name, std::initializer_list<uint16_t> heads) {
  scene.target.start();
  scene.target.fill_request();
  scene.target.offer(heads);
  print("{}: {}\n", name,
        scene.target.wait_for_outcome(static_cast<uint16_t>(heads.end() - heads.begin())));
  scene.bystander.check();
}

}  // namespace

void attack_chains(Scene& scene) {
  run_cases(scene, kReads, BlkType::In);
  run_cases(scene, kChains, BlkType::Out);
}

void attack_indirect(Scene& scene) {
  run_cases(scene, kNotNegotiated, BlkType::Out, kFeatures.without(Feature::IndirectDescriptors));
  run_cases(scene, kIndirectCases, BlkType::Out);
  offer_too_much(scene);
}

void attack_heads(Scene& scene) {
  offer_heads(scene, "a head just outside the table", {kQueueSize});
  offer_heads(scene, "head 65535", {0xffff});
  offer_heads(scene, "a head that is in use", {0, 0});
  offer_heads(scene, "a head that is in use, sixteen times",
              {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  jump(scene, "an avail index one too far", kQueueSize + 1);
  jump(scene, "an avail index far away", 0x8000);
  jump(scene, "an avail index that goes back", 0xffff);
  // What is broken stays so: nothing that follows is looked at.
  memset(const_cast<uint16_t*>(arena.used), 0, kPage);
  for (int i = 0; i < 1000; ++i) {
    arena.avail[1] = static_cast<uint16_t>(arena.avail[1] + 1);
    scene.target.kick();
  }
  scene.bystander.check();
  expect(arena.used[1] == 0, "a broken queue goes on");
  print("a thousand kicks of a broken queue: ignored\n");
}

}  // namespace guest::hostile
