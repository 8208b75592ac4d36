// Attacks by BARs: over RAM, over each other, over everything else, and moved while in use.
#include "hostile.h"
#include "lib/interrupts.h"

namespace guest::hostile {
namespace {

constexpr uint32_t kBar = 0;
constexpr uint64_t kBarBytes = 0x8000;
constexpr uint64_t kEcam = 0xe000'0000;
constexpr uint64_t kIoApic = 0xfec0'0000;
constexpr uint64_t kLocalApic = 0xfee0'0000;

// A live device's BAR goes to a place where it has no business, and comes back. `unharmed` looks
// at what is there.
void move_to(Scene& scene, const char* name, uint64_t to, bool (*unharmed)(uint64_t)) {
  Target& target = scene.target;
  const uint64_t home = target.bar();
  target.start();
  target.fill_request();
  target.offer({0});
  target.function().set_bar(kBar, to);
  expect(unharmed(to), "{}: what was there has changed", name);
  scene.bystander.check();
  target.function().set_bar(kBar, home);
  expect(target.bar() == home, "{}: no way back", name);
  print("{}: {}\n", name, target.wait_for_outcome());
  scene.bystander.check();
}

uint64_t spare_page() {
  return ram_end() - kBarBytes;
}

bool is_ram(uint64_t at) {
  auto* const word = reinterpret_cast<volatile uint64_t*>(at);
  const uint64_t before = *word;
  *word = ~before;
  const bool changed = *word == ~before;
  *word = before;
  return changed;
}
bool is_bridge(uint64_t at) {
  return mmio_read<uint16_t>(at) == 0x1b36 && mmio_read<uint16_t>(at + 2) == 0x0008;
}
bool is_io_apic(uint64_t at) {
  mmio_write<uint32_t>(at, 1);
  return ((mmio_read<uint32_t>(at + 0x10) >> 16) & 0xff) == 23;
}
bool is_local_apic(uint64_t at) {
  static uint64_t place;
  place = at;
  return in_ring0([] { return (mmio_read<uint32_t>(place + 0x30) & 0xf0) == 0x10; });
}
bool is_nothing(uint64_t at) {
  map_device(at, kBarBytes);
  return mmio_read<uint32_t>(at) == ~uint32_t{0};
}
bool is_unmappable(uint64_t) {
  return true;
}

// Two BARs at one place: the device in the lower slot is decoded there. The other one is out of
// reach for as long as that lasts, and keeps its state.
void cover(Scene& scene, uint64_t other) {
  Target& target = scene.target;
  const uint64_t home = target.bar();
  target.start();
  target.function().set_bar(kBar, other);
  target.device().find_registers();
  target.fill_request();
  target.offer({0});
  print("over the other device's BAR: {}", target.wait_for_outcome());
  target.function().set_bar(kBar, home);
  target.device().find_registers();
  scene.bystander.check();
  print(", and the other one goes on afterwards\n");
}

}  // namespace

void attack_bars(Scene& scene) {
  const uint64_t other = scene.bystander.bar();
  const uint64_t home = scene.target.bar();
  move_to(scene, "over RAM", spare_page(), is_ram);
  move_to(scene, "over the end of RAM", ram_end() & ~(kBarBytes - 1), is_nothing);
  move_to(scene, "at 0", 0, is_ram);
  move_to(scene, "over ECAM", kEcam, is_bridge);
  move_to(scene, "over the I/O APIC", kIoApic, is_io_apic);
  move_to(scene, "over the local APIC", kLocalApic, is_local_apic);
  move_to(scene, "over the boot timer", 0xc000'0000, is_nothing);
  move_to(scene, "just before the 32-bit window", 0xc800'0000 - kBarBytes, is_nothing);
  move_to(scene, "just behind the 32-bit window", 0xe010'0000, is_nothing);
  move_to(scene, "just before the 64-bit window", (home & ~uint64_t{0x3fff'ffff}) - kBarBytes,
          is_nothing);
  move_to(scene, "at the top of 64 bits", ~(kBarBytes - 1), is_unmappable);
  move_to(scene, "at 2^63", uint64_t{1} << 63, is_unmappable);
  cover(scene, other);

  // The other way round, the other device is where it should not be, and alone is hurt by it.
  scene.target.start();
  scene.bystander.device().function().set_bar(kBar, home);
  expect(scene.target.device().status() == 0xf, "the other device has taken the place");
  scene.bystander.device().function().set_bar(kBar, other);
  scene.bystander.check();
  print("the other device's BAR over this one's: stays out\n");
}

// Decoding goes on and off, and the BAR to and fro, while requests and doorbells are under way.
void attack_toggle(Scene& scene) {
  static Target* target;
  target = &scene.target;
  static uint64_t home;
  home = target->bar();
  static uint64_t away;
  away = home + 16 * kBarBytes;
  map_device(away, kBarBytes);
  start_second_cpu([] {
    while (!stopping()) {
      mmio_write<uint16_t>(home + 0x3000, 0);
      mmio_write<uint16_t>(away + 0x3000, 0);
      static_cast<void>(mmio_read<uint32_t>(home));
      mmio_write<uint32_t>(home + 0x4000, 0xfee0'0000);
    }
  });
  const pci::Function& function = target->function();
  for (int round = 0; round < 10; ++round) {
    target->start();
    target->fill_request();
    for (uint16_t i = 1; i <= 10; ++i) {
      target->offer({0});
      function.set_command(0, pci::kCommandMemory);
      function.set_bar(kBar, away);
      function.set_command(pci::kCommandMemory);
      function.set_command(0, pci::kCommandBusMaster);
      function.set_bar(kBar, home);
      function.set_command(pci::kCommandBusMaster);
      expect(Text(target->wait_for_outcome(i)) == Text("ok"), "a request fails under moves");
    }
    scene.bystander.check();
  }
  stop_second_cpu();
  print("100 moves of a busy device: ok\n");
}

}  // namespace guest::hostile
