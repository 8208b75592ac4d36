// The least that starts a guest: the KVM calls that any VMM makes for a PC with one CPU, and
// nothing else. What a VMM takes beyond this is its own.
//
// usage: floor MEMORY_MIB        (the guest is built in: what tests/guests/first.S does)
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CODE_AT = 0x100000, CPUID_ENTRIES = 128, SERIAL_PORT = 0x3f8 };

static const unsigned char guest[] = {
    0xb0, '+',               // mov $'+', %al
    0x66, 0xba, 0xf8, 0x03,  // mov $0x3f8, %dx
    0xee,                    // out %al, %dx
    0xfa,                    // cli
    0xf4,                    // hlt
    0xeb, 0xfd,              // jmp to the hlt
};

static int call(int fd, unsigned long request, void* argument, const char* what) {
  const int result = ioctl(fd, request, argument);
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

static int create_vm(int kvm, size_t size) {
  unsigned char* memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("guest memory");
    exit(1);
  }
  memcpy(memory + CODE_AT, guest, sizeof guest);
  const int vm = call(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
  // Before the interrupt controllers, since a slot costs milliseconds after them.
  struct kvm_userspace_memory_region slot = {.memory_size = size,
                                             .userspace_addr = (uintptr_t)memory};
  call(vm, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
  uint64_t identity_map = 0xfffbc000;
  struct kvm_pit_config pit = {0};
  call(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
  call(vm, KVM_SET_TSS_ADDR, (void*)0xfffbd000, "KVM_SET_TSS_ADDR");
  call(vm, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
  call(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
  return vm;
}

static void set_cpuid(int kvm, int vcpu) {
  static struct {
    struct kvm_cpuid2 header;
    struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
  } cpuid;
  cpuid.header.nent = CPUID_ENTRIES;
  call(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid, "KVM_GET_SUPPORTED_CPUID");
  call(vcpu, KVM_SET_CPUID2, &cpuid, "KVM_SET_CPUID2");
}

// Flat 32-bit protected mode, as PVH has it.
static void set_registers(int vcpu) {
  struct kvm_sregs sregs;
  call(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
  const struct kvm_segment data = {
      .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
  sregs.cs = data;
  sregs.cs.selector = 0x10;
  sregs.cs.type = 11;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.cr0 = 1;
  struct kvm_regs regs = {.rip = CODE_AT, .rflags = 2};
  call(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
  call(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

int main(int argc, char** argv) {
  const long mib = argc == 2 ? atol(argv[1]) : 0;
  if (mib < 2) {
    fputs("usage: floor MEMORY_MIB\n", stderr);
    return 2;
  }
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) {
    perror("/dev/kvm");
    return 1;
  }
  const int vm = create_vm(kvm, (size_t)mib << 20);
  const int vcpu = call(vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
  const int run_size = call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
  struct kvm_run* run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) {
    perror("kvm_run");
    return 1;
  }
  set_cpuid(kvm, vcpu);
  set_registers(vcpu);
  for (;;) {
    call(vcpu, KVM_RUN, 0, "KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != SERIAL_PORT) break;
    if (write(STDOUT_FILENO, (char*)run + run->io.data_offset, 1) != 1) return 1;
  }
  fprintf(stderr, "floor: exit reason %u\n", run->exit_reason);
  return 1;
}
