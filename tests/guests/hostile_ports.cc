// Attacks by ports: every port by every width, string instructions, floods of what prints or logs.
#include "hostile.h"
#include "lib/apic.h"
#include "lib/interrupts.h"

namespace guest::hostile {
namespace {

constexpr uint16_t kSerial = 0x3f8;

// The debug ports, and those that end the run by design: ACPI sleep, resets, pvpanic.
bool is_end(uint32_t port, uint32_t width) {
  constexpr uint16_t kEnds[] = {0x64, 0xe9, 0xf4, 0xf5, 0xf6, 0xf7, 0x505, 0x604, 0x605, 0x608};
  for (const uint16_t end : kEnds) {
    if (port <= end && end < port + width) {
      return true;
    }
  }
  return false;
}

template <typename T>
void sweep_ports(T value) {
  constexpr uint32_t kPorts = 0x10000;
  constexpr uint32_t kStep = 0x1000;
  for (uint32_t first = 0; first < kPorts; first += kStep) {
    in_ring0([=] {
      for (uint32_t port = first; port < first + kStep; ++port) {
        static_cast<void>(port_in<T>(static_cast<uint16_t>(port)));
        if (!is_end(port, sizeof(T))) {
          port_out<T>(static_cast<uint16_t>(port), value);
        }
      }
    });
  }
}

void quiet_interrupts() {
  // What is written to PIT and PICs must not interrupt this CPU.
  constexpr auto kLint0 = static_cast<apic::Register>(0x35);
  constexpr uint32_t kMasked = 1 << 16;
  apic::write(kLint0, kMasked);
}

enum class Width { Byte, Word, Long };

void string_in(uint16_t port, void* to, size_t count, Width width) {
  switch (width) {
    case Width::Byte:
      asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
      break;
    case Width::Word:
      asm volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
      break;
    case Width::Long:
      asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
      break;
  }
}

void string_out(uint16_t port, const void* from, size_t count, Width width) {
  switch (width) {
    case Width::Byte: asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port)); break;
    case Width::Word: asm volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port)); break;
    case Width::Long: asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port)); break;
  }
}

}  // namespace

void attack_ports(Scene& scene) {
  quiet_interrupts();
  sweep_ports<uint8_t>(0xff);
  scene.bystander.check();
  sweep_ports<uint16_t>(0xffff);
  scene.bystander.check();
  sweep_ports<uint32_t>(0xffff'ffff);
  scene.bystander.check();
  print("reads and writes of every width at every port: ok\n");
}

void attack_strings(Scene& scene) {
  constexpr uint16_t kPorts[] = {0x60,  0x61,  0x70,  0x71,   0x600,
                                 0xcf8, 0xcfc, 0xcff, 0x1234, 0xffff};
  quiet_interrupts();
  memset(arena.data, 0, kPage);
  for (const uint16_t port : kPorts) {
    for (const Width width : {Width::Byte, Width::Word, Width::Long}) {
      const size_t count = kPage >> static_cast<int>(width);
      // Ring 0 may use the last port by more than a byte; no bitmap of a task can say so.
      in_ring0([=] {
        string_in(port, arena.data, count, width);
        memset(arena.data, 0, kPage);
        string_out(port, arena.data, count, width);
        string_out(port, arena.data + 1, 3, width);
      });
    }
    scene.bystander.check();
  }
  check_canaries();
  print("string instructions at ports: ok\n");

  // From registers to registers, and between registers and ports.
  scene.target.start();
  auto* const registers = reinterpret_cast<uint8_t*>(scene.target.bar());
  in_ring0([=] {
    memcpy(arena.data, registers, 0x40);
    memcpy(registers, arena.data, 0x40);
    memset(registers, 0, 0x40);
  });
  scene.bystander.check();
  print("string instructions at registers: ok\n");
}

void attack_floods(Scene& scene) {
  for (int i = 0; i < 5000; ++i) {
    port_out<uint8_t>(0x505, 2);
    port_out<uint8_t>(0x64, 0xd1);
    port_out<uint8_t>(0x60, 0xff);
    static_cast<void>(port_in<uint8_t>(0x64));
  }
  scene.bystander.check();
  print("pvpanic and keyboard controller, 5000 times: ok\n");
  memset(arena.data, 'x', kPage);
  // As much as fits even if nobody takes any of it meanwhile, with what was printed before.
  for (int i = 0; i < 15; ++i) {
    in_ring0([] { string_out(kSerial, arena.data, kPage, Width::Byte); });
  }
  scene.bystander.check();
  print("60 KiB over the serial port: ok\n");
  // What is logged for one must not be logged for each.
  const uint64_t home = scene.target.bar();
  for (int i = 0; i < 300; ++i) {
    scene.target.start();
    scene.target.fill_request();
    arena.descriptors[1].next = 1;
    scene.target.offer({0});
    expect(Text(scene.target.wait_for_outcome()) == Text("needs reset"), "a loop is taken");
    scene.target.device().reset();
    scene.target.device().set(common::kDeviceStatus, kDriverOk);
    scene.target.function().set_bar(0, 0x10'0000);
    scene.target.function().set_bar(0, home);
  }
  scene.bystander.check();
  print("300 failures, skipped steps and misplaced BARs: ok\n");
}

}  // namespace guest::hostile
