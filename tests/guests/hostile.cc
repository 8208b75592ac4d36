// Guest: attacks virtio-blk device 0 and the machine, and proves meanwhile that device 1 works, and
// afterwards that device 0 does again, that no memory was written that no device was given, and, by
// ending the run itself, that the VMM lives. Needs two disks of 4 MiB and, for some, two CPUs.
//   what=NAME   the attack: one of the table below
#include "hostile.h"

#include "lib/apic.h"
#include "lib/interrupts.h"
#include "lib/pci.h"

namespace guest {
namespace {

using hostile::Scene;

struct Attack {
  Text name;
  void (*run)(Scene&);
};
constexpr Attack kAttacks[] = {
    {"chains", hostile::attack_chains},       {"indirect", hostile::attack_indirect},
    {"heads", hostile::attack_heads},         {"queues", hostile::attack_queues},
    {"overlays", hostile::attack_overlays},   {"status", hostile::attack_status},
    {"registers", hostile::attack_registers}, {"mmio", hostile::attack_mmio},
    {"bars", hostile::attack_bars},           {"toggle", hostile::attack_toggle},
    {"doorbells", hostile::attack_doorbells}, {"msi", hostile::attack_msi},
    {"ports", hostile::attack_ports},         {"strings", hostile::attack_strings},
    {"floods", hostile::attack_floods},       {"halted", hostile::attack_halted},
    {"ipis", hostile::attack_ipis},           {"triplefault", hostile::attack_triplefault},
};

pci::Function find_disk(uint32_t index) {
  const auto function = pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType), index);
  expect(function.has_value(), "no virtio-blk device {}", index);
  return *function;
}

const Attack& find_attack(Text name) {
  for (const Attack& attack : kAttacks) {
    if (attack.name == name) {
      return attack;
    }
  }
  fail("what={} is no attack", name);
}

}  // namespace

void guest_main() {
  const Attack& attack = find_attack(option_text("what", ""));
  hostile::set_canaries();
  hostile::Target target(find_disk(0));
  hostile::Bystander bystander(find_disk(1));
  Scene scene{target, bystander};
  bystander.check();
  attack.run(scene);
  bystander.check();
  hostile::expect_usable(target);
  bystander.finish();
  hostile::check_canaries();
  print("device 0 works again, device 1 and memory are unharmed\n");
}

}  // namespace guest
