// Attacks by where queues are placed: outside RAM, over registers, over each other.
#include "hostile.h"

namespace guest::hostile {
namespace {

constexpr uint64_t kHole = 0xc800'0000;
constexpr uint64_t kEcam = 0xe000'0000;
constexpr uint64_t kIoApic = 0xfec0'0000;
constexpr uint64_t kLocalApic = 0xfee0'0000;
constexpr uint64_t kMsixTable = 0x4000;  // in the device's BAR

// Puts one part of the queue elsewhere after the other, and prints what the device says.
void place_everywhere(Scene& scene, const char* name, uint64_t address) {
  constexpr uint64_t Place::*kParts[] = {&Place::descriptors, &Place::avail, &Place::used};
  print("{}:", name);
  for (const auto part : kParts) {
    scene.target.prepare();
    scene.target.fill_request();
    Place place = arena_place();
    place.*part = address;
    scene.target.place_queue(0, place);
    scene.target.device().driver_ok();
    scene.target.offer({0});
    print(" {},", scene.target.wait_for_outcome());
    scene.bystander.check();
  }
  print(" bystander ok\n");
}

// One queue whose parts share memory. What comes of it is the guest's own affair, as long as it
// ends: the device takes some of it for a request, or fails.
void overlay(Scene& scene, const char* name, const Place& place) {
  Target& target = scene.target;
  target.prepare(kFeatures.with(Feature::EventIndex));
  target.fill_request();
  target.place_queue(0, place);
  target.device().driver_ok();
  for (uint16_t i = 0; i < 100; ++i) {
    // Index, heads and flags keep changing where the device writes its own.
    reinterpret_cast<volatile uint16_t*>(place.avail)[1] = i;
    reinterpret_cast<volatile uint16_t*>(place.avail)[2 + i % kQueueSize] = i % 3;
    target.kick();
  }
  scene.bystander.check();
  target.device().reset();
  print("{}: reset is confirmed\n", name);
  scene.bystander.check();
}

}  // namespace

void attack_queues(Scene& scene) {
  const uint64_t end = ram_end();
  place_everywhere(scene, "behind RAM", end);
  place_everywhere(scene, "over the end of RAM", end - 16);
  place_everywhere(scene, "in the hole", kHole);
  place_everywhere(scene, "in ECAM", kEcam);
  place_everywhere(scene, "in the I/O APIC", kIoApic);
  place_everywhere(scene, "in the local APIC", kLocalApic);
  place_everywhere(scene, "in the device's registers", scene.target.bar());
  place_everywhere(scene, "in the device's MSI-X table", scene.target.bar() + kMsixTable);
  place_everywhere(scene, "in the other device's registers", scene.bystander.bar());
  place_everywhere(scene, "at 2^63", uint64_t{1} << 63);
  place_everywhere(scene, "over the end of all", ~uint64_t{15});
  place_everywhere(scene, "not aligned", address_of(arena.data) + 1);
}

void attack_overlays(Scene& scene) {
  const Place good = arena_place();
  overlay(scene, "all three at one place", {good.avail, good.avail, good.avail});
  overlay(scene, "used over avail", {good.descriptors, good.avail, good.avail});
  overlay(scene, "used over descriptors", {good.descriptors, good.avail, good.descriptors});
  overlay(scene, "avail over descriptors", {good.descriptors, good.descriptors, good.used});
  overlay(scene, "used half over avail", {good.descriptors, good.avail, good.avail + 4});
  overlay(scene, "used over the request",
          {good.descriptors, good.avail, address_of(&arena.header)});

  // Data that the device reads from the disk lands in its own rings and in its own descriptors.
  for (const uint64_t address : {good.descriptors, good.avail, good.used}) {
    scene.target.start();
    scene.target.fill_request();
    arena.descriptors[1].address = address;
    scene.target.offer({0, 0});
    scene.bystander.check();
    scene.target.device().reset();
    scene.bystander.check();
  }
  print("disk data over the rings: reset is confirmed\n");

  // Two queues that are one and the same.
  scene.target.prepare(kFeatures.with(Feature::BlkMultiQueue));
  scene.target.fill_request();
  scene.target.place_queue(0, good);
  scene.target.place_queue(1, good);
  scene.target.device().driver_ok();
  for (uint16_t i = 0; i < 100; ++i) {
    scene.target.offer({0});
    mmio_write<uint16_t>(scene.target.device().notify_address() + 4, 1);
  }
  scene.bystander.check();
  scene.target.device().reset();
  print("two queues at one place: reset is confirmed\n");
}

}  // namespace guest::hostile
