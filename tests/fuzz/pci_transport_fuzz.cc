// Fuzzes the virtio PCI transport by call sequence, with a disk behind it: registers, configuration
// space, doorbells, guest memory, turns of the loop, resets, pauses, saves and restores, in any
// order. Whatever came before, a reset and a driver make the device work again.
#include <linux/virtio_pci.h>

#include <array>
#include <bit>
#include <cassert>
#include <memory>
#include <optional>
#include <span>

#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/transport_machine.h"

namespace ringlet {
namespace {

struct Noticed final : Task {
  void run() noexcept override { done = true; }
  bool done = false;
};

class TransportRun {
 public:
  TransportRun(FuzzInput& input, GuestMemory& memory)
      : input_(input), memory_(memory), seed_(input.take<uint8_t>()) {
    machine_ = std::make_unique<BlkMachine>(small_disk(memory_, seed_));
  }

  void run() {
    while (!input_.empty()) {
      step();
      check();
    }
    machine_->transport.resume();
    check_usable(*machine_, memory_);
  }

 private:
  const PciDriver& driver() const { return machine_->driver; }

  void step() {
    switch (input_.below(14)) {
      case 0: return common();
      case 1: return common();
      case 2: return queue_register();
      case 3: return bar();
      case 4: return config_space();
      case 5: return window();
      case 6: return status();
      case 7: return write_memory();
      case 8: return offer();
      case 9: return driver().kick(QueueIndex(static_cast<uint16_t>(input_.below(2))));
      case 10: machine_->loop.step(); return;
      case 11: return machine_->loop.run_until_idle();
      case 12: return lines();
      default: return large_step();
    }
  }

  void large_step() {
    switch (input_.below(7)) {
      case 0: return bring_up(*machine_);
      case 1: return repair(*machine_);
      case 2: return driver().enable_msix();
      case 3: return pause();
      case 4: return carry_on();
      case 5: return bring_up(*machine_, {});
      default: driver().start_queue_reset(QueueIndex(static_cast<uint16_t>(input_.below(2))));
    }
  }

  void access(Bus& bus, uint64_t at) {
    const bool reads = input_.flag();
    FuzzAccess access(input_);
    reads ? bus.read(at, access.data()) : bus.write(at, access.data());
  }
  void common() { access(machine_->buses.mmio, driver().bar_base() + input_.below(0x48)); }
  void bar() {
    const uint64_t section = input_.below(8) * 0x1000;
    access(machine_->buses.mmio, driver().bar_base() + section + input_.below(0x1000));
  }
  void config_space() {
    const uint64_t function = uint64_t{machine_->bdf.value()} << 12;
    access(machine_->buses.mmio, PciMachine::kLayout.ecam.base + function + input_.below(0x110));
  }
  /// As a driver uses the registers of a queue: it selects one first.
  void queue_register() {
    driver().select_queue(QueueIndex(input_.take<uint8_t>() % 3));
    constexpr std::array<uint8_t, 10> kRegisters{
        VIRTIO_PCI_COMMON_Q_SIZE,   VIRTIO_PCI_COMMON_Q_MSIX,   VIRTIO_PCI_COMMON_Q_ENABLE,
        VIRTIO_PCI_COMMON_Q_DESCLO, VIRTIO_PCI_COMMON_Q_DESCHI, VIRTIO_PCI_COMMON_Q_AVAILLO,
        VIRTIO_PCI_COMMON_Q_USEDLO, VIRTIO_PCI_COMMON_Q_USEDHI, VIRTIO_PCI_COMMON_Q_RESET,
        VIRTIO_PCI_COMMON_Q_AVAILHI};
    access(machine_->buses.mmio, driver().bar_base() + input_.pick(kRegisters));
  }
  /// The window of 4.1.4.9 onto the BAR.
  void window() {
    const uint16_t at = driver().window_capability();
    driver().config_write(static_cast<uint16_t>(at + 8), 4, input_.take<uint16_t>());
    driver().config_write(static_cast<uint16_t>(at + 12), 4, input_.take<uint8_t>() % 6);
    const auto data = static_cast<uint16_t>(at + 16);
    input_.flag() ? (void)driver().config_read(data, 4)
                  : driver().config_write(data, 4, input_.take<uint32_t>());
  }
  void status() {
    constexpr std::array<uint8_t, 8> kValues{1, 3, 11, 15, 0, 0x8f, 4, 0x4f};
    driver().set_common(VIRTIO_PCI_COMMON_STATUS, 1, input_.pick(kValues));
  }

  void write_memory() {
    const GuestAddr at(input_.take<uint16_t>());
    (void)memory_.write(at, input_.bytes(input_.below(32)));
  }
  /// Makes descriptors available, whatever they hold: of a split queue, or one of a packed one.
  void offer() {
    const QueueConfig queue = queue_at(static_cast<uint16_t>(input_.below(2)));
    const size_t what = input_.below(26);
    if (what >= 10) {
      const GuestAddr flags(queue.descriptors.value() + 16 * (what % 8) + packed::kDescriptorFlags);
      (void)memory_.write_value(flags, packed::available_flags(what < 18));
      return;
    }
    const GuestAddr index(queue.driver_area.value() + ring::kIndex);
    const auto now = memory_.read<uint16_t>(index).value();
    (void)memory_.write_value(index, static_cast<uint16_t>(now + what));
  }

  /// The interrupt controllers and the host.
  void lines() {
    switch (input_.below(4)) {
      case 0: return machine_->interrupts.levels[0]->end_of_interrupt();
      case 1: machine_->doorbells.refuse = input_.flag(); return;
      case 2: machine_->interrupts.msi_left = input_.flag() ? UINT32_MAX : 0; return;
      default:
        for (FakeMsiVector* const vector : machine_->interrupts.msi) vector->take_delivered();
    }
  }

  bool quiesce() {
    Noticed quiet;
    machine_->transport.quiesce(quiet);
    machine_->loop.run_until_idle();
    return quiet.done;
  }
  void pause() {
    const bool is_quiet = quiesce();
    assert(is_quiet);
    machine_->transport.resume();
  }

  /// Saves the device and goes on with another one over the same memory.
  void carry_on() {
    const bool is_quiet = quiesce();
    assert(is_quiet);
    const PciTransportState state = machine_->transport.save();
    const HostBridgeState bridge = machine_->bridge.save();
    machine_ = std::make_unique<BlkMachine>(small_disk(memory_, seed_));
    machine_->transport.restore(state);
    machine_->bridge.restore(bridge);
    const bool is_quiet_again = quiesce();
    assert(is_quiet_again);
    check_same(state, machine_->transport.save());
    machine_->transport.resume();
  }

  static void check_same(const PciTransportState& one, const PciTransportState& other) {
    assert(one.status == other.status);
    assert(one.driver_features == other.driver_features);
    assert(one.config_vector == other.config_vector);
    assert(one.queue_select == other.queue_select);
    assert(one.device_config == other.device_config);
    for (size_t i = 0; i < one.config_space.bytes.size(); ++i) {
      // But for the Interrupt Status bit, which is made anew when it is read.
      assert(i == kConfigStatus || one.config_space.bytes[i] == other.config_space.bytes[i]);
    }
    for (size_t i = 0; i < one.queues.size(); ++i) {
      assert(one.queues[i].size == other.queues[i].size);
      assert(one.queues[i].enabled == other.queues[i].enabled);
      assert(one.queues[i].descriptors == other.queues[i].descriptors);
      assert(one.queues[i].vector == other.queues[i].vector);
      assert(one.queues[i].next_avail == other.queues[i].next_avail);
    }
    for (size_t i = 0; i < one.msix.vectors.size(); ++i) {
      assert(one.msix.vectors[i].address == other.msix.vectors[i].address);
      assert(one.msix.vectors[i].masked == other.msix.vectors[i].masked);
    }
  }

  /// What holds at any time.
  void check() {
    const auto base = machine_->bridge.mapped_at(machine_->bdf, 0);
    assert(base || machine_->doorbells.present.empty());
    for (const auto& [address, eventfd] : machine_->doorbells.present) {
      assert(address == GuestAddr(base->value() + 0x3000) ||
             address == GuestAddr(base->value() + 0x3004));
    }
    if (!base) return;
    const uint8_t status = driver().status();
    const int progress = status & 0xf;
    assert(progress == 0 || progress == 1 || progress == 3 || progress == 11 || progress == 15);
    assert((status & 0x30) == 0 && ((status & 0x40) == 0 || progress == 15));
    assert(driver().common(VIRTIO_PCI_COMMON_NUMQ, 2) == 2);
  }

  FuzzInput& input_;
  GuestMemory& memory_;
  const uint64_t seed_;
  std::unique_ptr<BlkMachine> machine_;
};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringlet::GuestMemory memory(ringlet::kTransportMemory, {});
  ringlet::FuzzInput input(data, size);
  ringlet::TransportRun(input, memory).run();
  return 0;
}
