// A virtual machine in KVM: memory slots, interrupt controllers, doorbells.
#include "kvm/vm.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kvm/error.h"
#include "kvm/ioctl.h"

namespace ringlet {
namespace {

/// KVM refuses a destination smaller than what its features need, and what it needs may be more
/// than the 4096 bytes of the first version.
size_t get_xsave_size(int vm) {
  if (kvm_ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE) <= 0) return 0;
  const int size = kvm_ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
  return std::max(sizeof(KvmXsaveHead), static_cast<size_t>(std::max(size, 0)));
}

kvm_ioeventfd describe_doorbell(GuestAddr address, int eventfd) {
  // Length 0 stands for writes of every width, without a look at the value.
  return {.datamatch = 0, .addr = address.value(), .len = 0, .fd = eventfd, .flags = 0, .pad = {}};
}

}  // namespace

Vm::Vm(const Kvm& kvm, const GuestMemory& memory, const VmAddresses& addresses)
    : kvm_(kvm),
      memory_(memory),
      fd_(check(kvm_ioctl(kvm.fd(), KVM_CREATE_VM, 0), "KVM_CREATE_VM")) {
  set_slots(0);
  // On Intel the TSS is a slot of KVM's own.
  check(kvm_ioctl(fd(), KVM_SET_TSS_ADDR, addresses.tss.value()), "KVM_SET_TSS_ADDR");
  const uint64_t identity_map = addresses.identity_map.value();
  check(kvm_ioctl(fd(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map), "KVM_SET_IDENTITY_MAP_ADDR");
  check(kvm_ioctl(fd(), KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  xsave_size_ = get_xsave_size(fd());
}

bool Vm::make_pit() noexcept {
  if (has_pit_) return true;
  // The dummy speaker answers at port 0x61, where guests wait for counter 2.
  const kvm_pit_config config{.flags = KVM_PIT_SPEAKER_DUMMY, .pad = {}};
  has_pit_ = kvm_ioctl(fd(), KVM_CREATE_PIT2, &config) == 0;
  return has_pit_;
}

void Vm::set_slots(uint32_t flags) {
  uint32_t slot = 0;
  for (const MemoryRegion& region : memory_.regions()) {
    const kvm_userspace_memory_region description{
        .slot = slot++,
        .flags = flags,
        .guest_phys_addr = region.base.value(),
        .memory_size = region.bytes.size(),
        .userspace_addr = reinterpret_cast<uintptr_t>(region.bytes.data())};
    check(kvm_ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &description), "KVM_SET_USER_MEMORY_REGION");
  }
}

void Vm::log_dirty_pages(bool on) {
  set_slots(on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

std::vector<uint64_t> Vm::take_dirty_log(size_t index) {
  assert(index < memory_.regions().size());
  const uint64_t pages = memory_.regions()[index].bytes.size() / kPage;
  std::vector<uint64_t> bitmap((pages + 63) / 64);
  kvm_dirty_log log{};
  log.slot = static_cast<uint32_t>(index);
  log.dirty_bitmap = bitmap.data();
  check(kvm_ioctl(fd(), KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
  return bitmap;
}

VmState Vm::save() const {
  VmState state;
  for (uint32_t chip = 0; chip < state.irqchips.size(); ++chip) {
    state.irqchips[chip].chip_id = chip;
    check(kvm_ioctl(fd(), KVM_GET_IRQCHIP, &state.irqchips[chip]), "KVM_GET_IRQCHIP");
  }
  state.pit = unmade_pit_;
  state.has_pit = has_pit_;
  if (has_pit_) check(kvm_ioctl(fd(), KVM_GET_PIT2, &state.pit.emplace()), "KVM_GET_PIT2");
  kvm_clock_data clock{};
  check(kvm_ioctl(fd(), KVM_GET_CLOCK, &clock), "KVM_GET_CLOCK");
  state.clock_ns = clock.clock;
  return state;
}

void Vm::restore(const VmState& state) {
  for (const kvm_irqchip& chip : state.irqchips) {
    check(kvm_ioctl(fd(), KVM_SET_IRQCHIP, &chip), "KVM_SET_IRQCHIP");
  }
  if (state.has_pit) {
    if (!make_pit()) throw_errno("KVM_CREATE_PIT2");
    check(kvm_ioctl(fd(), KVM_SET_PIT2, &state.pit.value()), "KVM_SET_PIT2");
  } else {
    unmade_pit_ = state.pit;
  }
  kvm_clock_data clock{};
  clock.clock = state.clock_ns;
  check(kvm_ioctl(fd(), KVM_SET_CLOCK, &clock), "KVM_SET_CLOCK");
}

bool KvmDoorbells::add(GuestAddr address, int eventfd) noexcept {
  const kvm_ioeventfd doorbell = describe_doorbell(address, eventfd);
  if (kvm_ioctl(vm_.fd(), KVM_IOEVENTFD, &doorbell) == 0) return true;
  const int error = errno;
  if (log_limit_.allow()) {
    log_warn("KVM_IOEVENTFD at {:#x}: {}; kicks there leave the guest", address.value(),
             std::strerror(error));
  }
  return false;
}

void KvmDoorbells::remove(GuestAddr address, int eventfd) noexcept {
  kvm_ioeventfd doorbell = describe_doorbell(address, eventfd);
  doorbell.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
  if (kvm_ioctl(vm_.fd(), KVM_IOEVENTFD, &doorbell) == 0) return;
  log_warn("KVM_IOEVENTFD (removal) at {:#x}: {}", address.value(), std::strerror(errno));
}

}  // namespace ringlet
