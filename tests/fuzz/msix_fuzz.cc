// Fuzzes MSI-X by call sequence, with a model as the judge: every interrupt arrives once, with the
// message that stands in the table when it does, or is pending.
#include <array>
#include <cassert>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "kvm/irq.h"
#include "pci/msix.h"
#include "tests/fuzz/fuzz_input.h"

namespace ringlet {
namespace {

constexpr uint16_t kVectors = 5;
constexpr uint64_t kTableBytes = msix_table_size(kVectors);

/// What the host refuses to route.
bool is_refused(const MsiMessage& message) {
  return message.data % 16 == 15;
}

/// As KVM and an eventfd would do it.
struct HostVector final : MsiVector {
  explicit HostVector(int number) : fd_(number) {}
  int fd() const noexcept override { return fd_; }
  bool attach(const MsiMessage& message) noexcept override {
    if (is_refused(message)) return false;
    attached = message;
    deliver();
    return true;
  }
  void detach() noexcept override { attached.reset(); }
  bool pending() const noexcept override {
    assert(!attached);
    return signalled;
  }
  void clear() noexcept override { signalled = false; }

  void signal() {
    signalled = true;
    deliver();
  }
  void deliver() {
    if (attached && std::exchange(signalled, false)) arrived.push_back(*attached);
  }

  const int fd_;
  std::optional<MsiMessage> attached;
  bool signalled = false;
  std::vector<MsiMessage> arrived;
};

struct HostVectors final : InterruptSource {
  std::unique_ptr<MsiVector> make_msi() override {
    if (refuses) throw std::system_error(EMFILE, std::generic_category(), "eventfd");
    auto vector = std::make_unique<HostVector>(static_cast<int>(made.size()));
    made.push_back(vector.get());
    return vector;
  }
  std::unique_ptr<LevelLine> make_level(Gsi) override { return nullptr; }
  std::unique_ptr<IrqLine> make_line(Gsi) override { return nullptr; }

  bool refuses = false;
  std::vector<HostVector*> made;
};

/// PCI 3.0, 6.8.2, in the fewest words.
struct Model {
  struct Vector {
    int fd = -1;
    bool pending = false;
    std::vector<MsiMessage> arrived;
  };
  std::array<std::byte, kTableBytes> table{};
  std::array<Vector, kVectors> vectors;
  bool enabled = false;
  bool masked = false;
  bool master = false;

  Model() {
    for (uint16_t i = 0; i < kVectors; ++i) table[i * 16U + 12] = std::byte{1};
  }
  MsiMessage message(size_t vector) const {
    MsiMessage message;
    std::memcpy(&message.address, &table[vector * 16], 8);
    std::memcpy(&message.data, &table[vector * 16 + 8], 4);
    return message;
  }
  bool is_open(size_t vector) const {
    return enabled && !masked && master && table[vector * 16 + 12] == std::byte{0} &&
           !is_refused(message(vector));
  }
  void settle() {
    for (size_t i = 0; i < kVectors; ++i) {
      if (vectors[i].pending && is_open(i)) {
        vectors[i].pending = false;
        vectors[i].arrived.push_back(message(i));
      }
    }
  }
  void write_table(uint64_t offset, std::span<const std::byte> data) {
    for (size_t i = 0; i < data.size() && offset + i < kTableBytes; ++i) {
      const size_t at = offset + i;
      std::byte writable{0xff};
      if (at % 16 == 0) writable = std::byte{0xfc};
      if (at % 16 >= 12) writable = std::byte{at % 16 == 12 ? uint8_t{1} : uint8_t{0}};
      table[at] = data[i] & writable;
      // An access is cut at the entries' borders, and each part takes effect by itself.
      if (at % 16 == 15) settle();
    }
    settle();
  }
};

class MsixRun {
 public:
  /// As a driver leaves it: from here on, one step is enough to make a difference.
  explicit MsixRun(FuzzInput& input) : input_(input) {
    constexpr std::array<std::byte, 2> kEnable{std::byte{0}, std::byte{0x80}};
    machine_->config.write(0x42, kEnable);
    machine_->config.set_command({PciCommand::kBusMaster});
    msix().command_changed();
    model_.enabled = model_.master = true;
    constexpr std::array<std::byte, 4> kUnmasked{};
    for (uint16_t i = 0; i < kVectors; ++i) {
      model_.vectors[i].fd = msix().vector_fd(i).value();
      msix().table_write(i * 16U + 12, kUnmasked);
      model_.write_table(i * 16U + 12, kUnmasked);
    }
  }

  void run() {
    while (!input_.empty()) {
      step();
      check();
    }
  }

 private:
  void step() {
    switch (input_.below(10)) {
      case 0:
      case 1: return write_table();
      case 2: return mask();
      case 3: return control();
      case 4: return command();
      case 5: return use();
      case 6:
      case 7: return signal();
      case 8:
        msix().clear_pending();
        for (auto& vector : model_.vectors) vector.pending = false;
        return;
      default: return carry_on();
    }
  }

  Msix& msix() { return *machine_->msix; }

  void write_table() {
    FuzzAccess access(input_);
    const uint64_t offset = input_.below(kTableBytes + 16);
    msix().table_write(offset, access.data());
    model_.write_table(offset, access.data());
  }
  void mask() {
    const std::array<std::byte, 1> value{std::byte{input_.take<uint8_t>()}};
    const uint64_t offset = input_.below(kVectors) * 16 + 12;
    msix().table_write(offset, value);
    model_.write_table(offset, value);
  }

  /// Message Control, by accesses of any kind to the capability's first dword.
  void control() {
    const size_t at = input_.below(4);
    FuzzAccess access(input_);
    const auto data = access.data().first(std::min(access.width(), 4 - at));
    machine_->config.write(static_cast<uint16_t>(0x40 + at), data);
    const uint16_t value = machine_->config.read16(0x42);
    assert((value & 0x3fff) == kVectors - 1);
    if (at + data.size() == 4)
      assert((value >> 8 & 0xc0) == (std::to_integer<int>(data.back()) & 0xc0));
    model_.enabled = (value & 0x8000) != 0;
    model_.masked = (value & 0x4000) != 0;
    model_.settle();
  }
  void command() {
    model_.master = input_.flag();
    machine_->config.set_command({model_.master ? PciCommand::kBusMaster : uint16_t{0}});
    msix().command_changed();
    model_.settle();
  }

  void use() {
    const auto vector = static_cast<uint16_t>(input_.below(kVectors + 1));
    machine_->host.refuses = input_.take<uint8_t>() >= 0xe0;
    const auto fd = msix().vector_fd(vector);
    if (vector == kVectors) {
      assert(!fd);
      return;
    }
    int& known = model_.vectors[vector].fd;
    assert(fd || (known < 0 && machine_->host.refuses));
    if (!fd) return;
    assert(known < 0 || known == *fd);
    known = *fd;
  }

  /// The device has something to tell.
  void signal() {
    auto& vector = model_.vectors[input_.below(kVectors)];
    if (vector.fd < 0) return;
    machine_->host.made[static_cast<size_t>(vector.fd)]->signal();
    vector.pending = true;
    model_.settle();
  }

  /// Saves it all, and restores it into another device.
  void carry_on() {
    check();
    const ConfigSpaceState config = machine_->config.save();
    const MsixState state = msix().save();
    machine_.emplace();
    machine_->config.restore(config);
    msix().restore(state);
    for (size_t i = 0; i < kVectors; ++i) {
      auto& vector = model_.vectors[i];
      assert(state.vectors[i].pending == vector.pending);
      vector.arrived.clear();
      if (std::exchange(vector.fd, -1) < 0) continue;
      vector.fd = msix().vector_fd(static_cast<uint16_t>(i)).value();
      if (vector.pending) machine_->host.made[static_cast<size_t>(vector.fd)]->signal();
    }
  }

  void check() {
    assert(msix().enabled() == model_.enabled);
    std::array<std::byte, kTableBytes> table{};
    msix().table_read(0, table);
    assert(table == model_.table);
    std::array<std::byte, msix_pba_size(kVectors)> pending{};
    msix().pba_read(0, pending);
    for (size_t i = 0; i < kVectors; ++i) {
      const Model::Vector& vector = model_.vectors[i];
      assert((std::to_integer<unsigned>(pending[0]) >> i & 1) == (vector.pending ? 1 : 0));
      if (vector.fd < 0) continue;
      assert(machine_->host.made[static_cast<size_t>(vector.fd)]->arrived == vector.arrived);
    }
  }

  struct Machine {
    Machine() { msix.emplace(config, host, MsixLayout{.vectors = kVectors, .pba_offset = 0x800}); }
    HostVectors host;
    ConfigSpace config{PciIdentity{}};
    std::optional<Msix> msix;
  };

  FuzzInput& input_;
  std::optional<Machine> machine_{std::in_place};
  Model model_;
};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringlet::FuzzInput input(data, size);
  ringlet::MsixRun(input).run();
  return 0;
}
