// Guest: lists bus 0, compares both ways to configuration space, moves a BAR of a running device.
//   what=list     functions with capabilities and BARs
//   what=access   ports 0xcf8/0xcfc against ECAM, for all 32 slots
//   what=move     moves the BAR of the common configuration of virtio-blk device index=N (0),
//                 and to address to=N as well if that is given
//   what=all      all of these (the default)
#include "lib/pci.h"

#include "lib/acpi.h"
#include "lib/guest.h"
#include "lib/io.h"
#include "lib/virtio_blk.h"

namespace guest {
namespace {

constexpr uint8_t kSlots = 32;
constexpr uint64_t k4GiB = uint64_t{1} << 32;

// Calls visit(function) for each function of bus 0 that is there.
template <typename F>
void for_each_function(F visit) {
  for (uint8_t slot = 0; slot < kSlots; ++slot) {
    const pci::Function first{{0, slot, 0}};
    if (!first.present()) {
      continue;
    }
    const bool multifunction = (first.read<uint8_t>(pci::kHeaderType) & 0x80) != 0;
    for (uint8_t number = 0; number < (multifunction ? 8 : 1); ++number) {
      const pci::Function function{{0, slot, number}};
      if (function.present()) {
        visit(function);
      }
    }
  }
}

template <typename F>
void for_each_bar(const pci::Function& function, F visit) {
  for (uint32_t index = 0; index < 6; ++index) {
    const pci::Bar bar = function.bar(index);
    if (bar.present) {
      visit(index, bar);
    }
    index += bar.wide ? 1 : 0;
  }
}

void print_name(const pci::Function& function) {
  const pci::Bdf bdf = function.bdf();
  print("{}:{}.{}", hex(bdf.bus, 2), hex(bdf.device, 2), hex(bdf.function));
}

void list_function(const pci::Function& function) {
  print_name(function);
  print(" {}: {}:{} (rev {})\n", hex(function.read<uint16_t>(pci::kClassCode), 4),
        hex(function.read<uint16_t>(pci::kVendorId), 4),
        hex(function.read<uint16_t>(pci::kDeviceId), 4),
        hex(function.read<uint8_t>(pci::kRevision), 2));
  const auto pin = function.read<uint8_t>(pci::kInterruptPin);
  if (pin != 0) {
    print("  interrupt pin {}\n", static_cast<char>('A' + pin - 1));
  }
  for_each_bar(function, [&](uint32_t index, const pci::Bar& bar) {
    const uint64_t size = function.bar_size(index);
    expect(size != 0, "BAR {} has no size", index);
    expect(bar.address % size == 0, "BAR {} at {} is not aligned", index, hex(bar.address));
    print("  BAR {}: {}{}{} at {}, {} bytes\n", index, bar.io ? "ports" : "memory",
          bar.wide ? ", 64-bit" : "", bar.prefetchable ? ", prefetchable" : "", hex(bar.address),
          size);
    expect(function.bar(index).address == bar.address, "sizing moved BAR {}", index);
  });
  constexpr int kMaxCapabilities = 48;
  std::optional<uint16_t> at = function.next_capability();
  for (int i = 0; at; at = function.next_capability(*at)) {
    expect(++i <= kMaxCapabilities, "capability list without an end");
    print("  capability {} at {}\n", hex(function.read<uint8_t>(*at), 2), hex(*at, 2));
  }
}

void list() {
  size_t count = 0;
  for_each_function([&](const pci::Function& function) {
    list_function(function);
    ++count;
  });
  print("{} functions\n", count);
}

// ---- Access ------------------------------------------------------------------------------------

template <typename T>
void compare_reads(const pci::Function& ports, const pci::Function& ecam, uint16_t bytes) {
  for (uint16_t offset = 0; offset < bytes; offset = static_cast<uint16_t>(offset + sizeof(T))) {
    const T through_ports = ports.read<T>(offset);
    const T through_ecam = ecam.read<T>(offset);
    expect(through_ports == through_ecam, "device {} offset {}: {} by ports, {} by ECAM",
           ports.bdf().device, hex(offset), hex(through_ports), hex(through_ecam));
  }
}

// Writes of every width land where they should, whichever way they go.
void compare_writes(const pci::Function& ports, const pci::Function& ecam) {
  const auto line = ports.read<uint8_t>(pci::kInterruptLine);
  ecam.write<uint8_t>(pci::kInterruptLine, 0x5a);
  expect(ports.read<uint8_t>(pci::kInterruptLine) == 0x5a, "a byte written by ECAM is lost");
  ports.write<uint8_t>(pci::kInterruptLine, line);
  expect(ecam.read<uint8_t>(pci::kInterruptLine) == line, "a byte written by port is lost");

  const auto command = ports.read<uint16_t>(pci::kCommand);
  const auto status = ports.read<uint16_t>(pci::kStatus);
  ecam.write<uint16_t>(pci::kCommand, command ^ pci::kCommandInterruptDisable);
  expect(ports.read<uint16_t>(pci::kCommand) == (command ^ pci::kCommandInterruptDisable),
         "a word written by ECAM is lost");
  ports.write<uint16_t>(pci::kCommand, command);
  expect(ports.read<uint16_t>(pci::kStatus) == status, "a write to the command changed the status");

  const auto id = ports.read<uint32_t>(pci::kVendorId);
  ports.write<uint32_t>(pci::kVendorId, ~id);
  ecam.write<uint16_t>(pci::kDeviceId, 0);
  expect(ports.read<uint32_t>(pci::kVendorId) == id, "the ids can be written");
}

void compare_access() {
  const std::optional<uint64_t> base = acpi::ecam_base();
  if (!base) {
    return print("no MCFG, nothing to compare\n");
  }
  pci::set_ecam_base(*base);
  size_t present = 0;
  for (uint8_t slot = 0; slot < kSlots; ++slot) {
    const pci::Bdf bdf{0, slot, 0};
    const pci::Function ports{bdf, pci::Access::Ports};
    const pci::Function ecam{bdf, pci::Access::Ecam};
    if (!ports.present()) {
      compare_reads<uint32_t>(ports, ecam, 16);
      expect(ecam.read<uint32_t>(0) == 0xffffffff, "slot {} is half there", slot);
      continue;
    }
    compare_reads<uint32_t>(ports, ecam, 256);
    compare_reads<uint16_t>(ports, ecam, 64);
    compare_reads<uint8_t>(ports, ecam, 64);
    expect(ecam.read<uint32_t>(0x100) != ecam.read<uint32_t>(0),
           "slot {}: extended space repeats the first 256 bytes", slot);
    if (slot != 0) {  // whose command register may be read-only
      compare_writes(ports, ecam);
    }
    ++present;
  }
  // Without its enable bit the address port selects nothing.
  port_out<uint32_t>(0xcf8, 0);
  expect(port_in<uint32_t>(0xcfc) == 0xffffffff, "0xcfc answers without the enable bit");
  expect(port_in<uint32_t>(0xcf8) == 0, "0xcf8 does not read back");
  print("access by ports and by ECAM agree: {} devices\n", present);
}

// ---- Moving ------------------------------------------------------------------------------------

// A free place on the same side of 4 GiB: above all BARs there, or below them where only devices
// such as the I/O APIC lie above.
uint64_t free_place(bool high, uint64_t size) {
  uint64_t lowest = k4GiB;
  uint64_t end = k4GiB;
  for_each_function([&](const pci::Function& function) {
    for_each_bar(function, [&](uint32_t index, const pci::Bar& bar) {
      if (bar.io) {
        return;
      }
      const uint64_t bar_end = bar.address + function.bar_size(index);
      if (bar.address >= k4GiB) {
        end = bar_end > end ? bar_end : end;
      } else {
        lowest = bar.address < lowest ? bar.address : lowest;
      }
    });
  });
  return high ? (end + size - 1) & ~(size - 1) : (lowest - size) & ~(size - 1);
}

// Something only a virtio device's common configuration does: it selects and shows feature bits.
bool answers_at(uint64_t common) {
  mmio_write<uint32_t>(common + common::kDeviceFeatureSelect.offset, 1);
  const auto high = mmio_read<uint32_t>(common + common::kDeviceFeature.offset);
  mmio_write<uint32_t>(common + common::kDeviceFeatureSelect.offset, 2);
  const auto none = mmio_read<uint32_t>(common + common::kDeviceFeature.offset);
  return (high & 1) != 0 && none == 0;  // bit 32 is VERSION_1; bits 64 to 95 do not exist
}

// Requests still go round: doorbell, registers and interrupt have moved along.
void expect_working(BlkDriver& blk, const char* when) {
  static uint8_t sector[kSectorBytes];
  const BlkStatus status = blk.read(0, sector);
  expect(status == BlkStatus::Ok, "{}: status {}", when, static_cast<uint8_t>(status));
}

enum class Decode { Off, On };

void move_bar(BlkDriver& blk, uint64_t to, Decode decode) {
  const pci::Function& function = blk.device().function();
  const uint32_t bar = blk.device().common_bar();
  const uint64_t old_common = blk.device().common_address();
  const uint64_t size = function.bar_size(bar);
  map_device(to, size);
  if (decode == Decode::Off) {
    function.set_command(0, pci::kCommandMemory);
    expect(!answers_at(old_common), "the device answers with decoding off");
    function.set_bar(bar, to);
    function.set_command(pci::kCommandMemory);
  } else {
    function.set_bar(bar, to);
  }
  expect(function.bar(bar).address == to, "BAR {} reads {} after moving", bar,
         hex(function.bar(bar).address));
  blk.find_registers();
  expect(blk.device().common_address() - old_common == to - (old_common & ~(size - 1)),
         "the common configuration is elsewhere in the BAR");
  expect(answers_at(blk.device().common_address()), "no answer at {}", hex(to));
  expect(!answers_at(old_common), "still an answer at {}", hex(old_common));
  expect_working(blk, "a read after the move");
}

void move(const BlkDriver::Options& options, const char* label) {
  const std::optional<pci::Function> function =
      pci::find(kVirtioVendor, virtio_device_id(kBlkDeviceType),
                static_cast<uint32_t>(option_number("index", 0)));
  expect(function.has_value(), "no such virtio-blk device");
  BlkDriver blk(*function);
  blk.start(options);
  expect_working(blk, "a read before the move");
  const uint32_t bar = blk.device().common_bar();
  const uint64_t home = function->bar(bar).address;
  const uint64_t away = free_place(home >= k4GiB, function->bar_size(bar));
  print("{}: moved", label);
  move_bar(blk, away, Decode::Off);
  move_bar(blk, home, Decode::Off);
  print(" with decoding off,");
  move_bar(blk, away, Decode::On);
  move_bar(blk, home, Decode::On);
  print(" with decoding on");
  if (option_given("to")) {
    move_bar(blk, option_number("to", 0), Decode::Off);
    move_bar(blk, home, Decode::Off);
    print(", to the place asked for");
  }
  print("\n");
}

}  // namespace

void guest_main() {
  const Text what = option_text("what", "all");
  const bool all = what == "all";
  if (all || what == "list") {
    list();
  }
  if (all || what == "access") {
    compare_access();
  }
  if (all || what == "move") {
    move({.completion = Completion::Poll, .queue_size = 16}, "polled device");
    move({.completion = Completion::Msix, .queue_size = 16}, "MSI-X device");
  }
}

}  // namespace guest
