// Attacks by numbers, most with two CPUs: doorbells, message interrupts, INIT and start-up IPIs.
#include "hostile.h"
#include "lib/apic.h"
#include "lib/interrupts.h"

namespace guest::hostile {

extern "C" uint32_t ap_count;

namespace {

constexpr uint64_t kNotifyPage = 0x1000;
constexpr uint32_t kInit = 0x4500;
constexpr uint32_t kStartUp = 0x4600;
constexpr uint64_t kMsixTable = 0x4000;
constexpr uint64_t kMsixPending = 0x5000;
constexpr uint8_t kVector = 0x60;

uint64_t notify = 0;
uint64_t table = 0;
uint64_t pending = 0;
uint32_t interrupts_seen = 0;

void on_any_interrupt(uint8_t) {
  __atomic_fetch_add(&interrupts_seen, 1, __ATOMIC_SEQ_CST);
}

// Every doorbell there is and is not, by every width.
void ring_all() {
  for (uint64_t at = 0; at < kNotifyPage; at += 4) {
    mmio_write<uint16_t>(notify + at, static_cast<uint16_t>(at));
  }
  for (int i = 0; i < 200; ++i) {
    mmio_write<uint8_t>(notify, 0);
    mmio_write<uint16_t>(notify, 0xffff);
    mmio_write<uint32_t>(notify, 0xffff'ffff);
    mmio_write<uint64_t>(notify, 0);
    mmio_write<uint16_t>(notify + 4, 1);
    mmio_write<uint16_t>(notify + 1, 0);
  }
}

// Requests of the target, one after the other, each waited for.
void do_requests(Target& target, int count) {
  target.start();
  target.fill_request();
  for (int i = 1; i <= count; ++i) {
    target.offer({0});
    expect(Text(target.wait_for_outcome(static_cast<uint16_t>(i))) == Text("ok"),
           "request {} in the storm fails", i);
  }
}

// MSI-X messages to addresses and with data that make no sense. None may be an NMI or INIT for a
// CPU that exists, which would be this guest's own end.
struct Message {
  uint64_t address;
  uint32_t data;
};
constexpr Message kMessages[] = {
    {0, kVector},
    {0x1234'5678, kVector},
    {~uint64_t{3}, kVector},
    {0xfee0'0000 | uint64_t{0xff} << 32, kVector},
    {0xfee3'f000, 0x0200 | kVector},  // SMI for a CPU that is not there
    {0xfee3'f000, 0x0400},            // NMI
    {0xfee3'f000, 0x0500},            // INIT
    {0xfee3'f000, 0x0700},            // ExtINT
    {0xfee3'f000, 0},                 // vector 0
    {0xfee3'f00c, 0xffff'ffff},
    {0xfec0'0000, kVector},
    {0x1f0'0000, kVector},  // RAM: a message is no way to write there
};

void write_message(const Message& message) {
  mmio_write<uint64_t>(table + 16, message.address);
  mmio_write<uint32_t>(table + 24, message.data);
}

// The second CPU's part: masks, messages and pending bits, without an end.
void spoil_msix() {
  size_t i = 0;
  while (!stopping()) {
    mmio_write<uint32_t>(table + 28, 1);
    write_message(kMessages[i++ % (sizeof(kMessages) / sizeof(kMessages[0]))]);
    mmio_write<uint32_t>(table + 28, 0);
    mmio_write<uint8_t>(table + 28, 1);
    mmio_write<uint16_t>(table + 26, 0);
    mmio_write<uint8_t>(table + 28, 0);
    mmio_write<uint64_t>(pending, ~uint64_t{0});
    static_cast<void>(mmio_read<uint64_t>(pending));
    static_cast<void>(mmio_read<uint32_t>(table + 28));
    // Not while it counts: halves of two messages could make an INIT for this machine's CPUs.
    mmio_write<uint32_t>(table + 28, 1);
    write_message({0xfee0'0000, kVector});
    mmio_write<uint32_t>(table + 28, 0);
  }
}

}  // namespace

void attack_doorbells(Scene& scene) {
  notify = scene.target.device().notify_address();
  start_second_cpu([] {
    while (!stopping()) {
      ring_all();
    }
  });
  for (int round = 0; round < 5; ++round) {
    do_requests(scene.target, 100);
    in_ring0([] { ring_all(); });
    scene.bystander.check();
  }
  // With every kick there is a new request that is none.
  scene.target.start();
  for (uint16_t i = 0; i < 2000; ++i) {
    scene.target.offer({static_cast<uint16_t>(i % kQueueSize)});
  }
  scene.bystander.check();
  // And while the device is reset.
  for (int i = 0; i < 100; ++i) {
    scene.target.device().reset();
  }
  stop_second_cpu();
  print("doorbells of all queues, by two CPUs: ok\n");
}

void attack_msi(Scene& scene) {
  for (unsigned vector = 32; vector < 255; ++vector) {
    set_handler(static_cast<uint8_t>(vector), on_any_interrupt);
  }
  table = scene.target.bar() + kMsixTable;
  pending = scene.target.bar() + kMsixPending;
  pci::Msix msix(scene.target.function());
  msix.set_entry(1, apic::msi_address(apic::id()), kVector);
  msix.enable(true);
  start_second_cpu(spoil_msix);
  for (int round = 0; round < 20; ++round) {
    scene.target.prepare();
    scene.target.place_queue(0, arena_place());
    scene.target.device().set(common::kQueueMsixVector, uint16_t{1});
    scene.target.device().set(common::kConfigMsixVector, uint16_t{0xfffe});
    scene.target.device().driver_ok();
    scene.target.fill_request();
    for (uint16_t i = 1; i <= 50; ++i) {
      scene.target.offer({0});
      expect(Text(scene.target.wait_for_outcome(i)) == Text("ok"), "a request fails");
      msix.mask_all(i % 3 == 0);
      msix.enable(i % 5 != 0);
    }
    scene.bystander.check();
  }
  stop_second_cpu();
  msix.mask_all(false);
  msix.enable(true);

  // Interrupts still arrive when all is well again.
  scene.target.start();
  scene.target.fill_request();
  msix.set_entry(1, apic::msi_address(apic::id()), kVector);
  scene.target.device().set(common::kQueueSelect, uint16_t{0});
  scene.target.device().set(common::kQueueMsixVector, uint16_t{1});
  const uint32_t before = __atomic_load_n(&interrupts_seen, __ATOMIC_SEQ_CST);
  scene.target.offer({0});
  const Deadline deadline;
  while (__atomic_load_n(&interrupts_seen, __ATOMIC_SEQ_CST) == before) {
    expect(!deadline.passed(), "no interrupt after the storm");
    cpu_relax();
  }
  msix.enable(false);
  print("masks, messages and pending bits at random under 1000 requests: ok\n");
}

// A CPU that is halted for good holds nobody up.
void attack_halted(Scene& scene) {
  start_second_cpu([] {
    for (;;) {
      asm volatile("cli; hlt" : : : "memory");
    }
  });
  for (int round = 0; round < 20; ++round) {
    do_requests(scene.target, 20);
    scene.bystander.check();
  }
  print("the second CPU halted with interrupts off: ok\n");
}

void attack_ipis(Scene& scene) {
  start_second_cpu([] {
    while (!stopping()) {
      cpu_relax();
    }
  });
  const uint32_t id = second_cpu();
  for (uint32_t i = 0; i < 500; ++i) {
    apic::send_command(id, kInit);
    ap_count = 0;  // or there would be no stack left
    // Pages of code, of zeroes and of tables; they run until the next INIT.
    apic::send_command(id, kStartUp | (i % 2 == 0 ? 0x10u : 0xa0u));
    apic::send_command(id, kStartUp | 0x10);
    if (i % 50 == 0) {
      scene.bystander.check();
    }
  }
  apic::send_command(id, kInit);
  for (uint32_t i = 0; i < 500; ++i) {
    apic::send_command(0xfe, kInit);           // nobody
    apic::send_command(id, 0x4000 | kVector);  // waits for a start-up message
    apic::send_command(id, 0xc000 | kVector);  // level, as no IPI is
  }
  do_requests(scene.target, 20);
  start_second_cpu([] {});
  print("500 times INIT and start-up: the second CPU still starts\n");
}

// The end of this machine: nothing may be left of it.
void attack_triplefault(Scene& scene) {
  scene.bystander.finish();
  do_requests(scene.target, 10);
  print("triple fault on the second CPU\n");
  start_second_cpu([] {
    struct [[gnu::packed]] {
      uint16_t limit = 0;
      uint64_t base = 0;
    } const no_table;
    asm volatile("lidt %0; ud2" : : "m"(no_table));
  });
  for (;;) {
    scene.target.offer({0});
  }
}

}  // namespace guest::hostile
