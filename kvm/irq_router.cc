// Interrupts as KVM delivers them: MSI vectors by irqfd, level lines with resample, plain wires.
#include "kvm/irq_router.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <mutex>
#include <utility>

#include "kvm/error.h"
#include "kvm/fd.h"
#include "kvm/ioctl.h"
#include "kvm/log.h"

namespace ringlet {
namespace {

constexpr uint32_t kPicPins = 16;
constexpr uint32_t kPinsPerPic = 8;
/// The entries of the table that are not MSI routes: 16 PIC pins and 24 IOAPIC pins.
constexpr uint32_t kPinRoutes = kPicPins + IrqRouter::kIoapicPins;

kvm_irq_routing_entry pin_route(uint32_t gsi, uint32_t chip, uint32_t pin) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip = {.irqchip = chip, .pin = pin};
  return entry;
}

kvm_irq_routing_entry msi_route(uint32_t gsi, const MsiMessage& message) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = static_cast<uint32_t>(message.address);
  entry.u.msi.address_hi = static_cast<uint32_t>(message.address >> 32);
  entry.u.msi.data = message.data;
  return entry;
}

bool set_irqfd(int vm, int eventfd, Gsi gsi, uint32_t flags, int resample_fd = -1) noexcept {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(eventfd);
  irqfd.gsi = gsi.value();
  irqfd.flags = flags;
  if ((flags & KVM_IRQFD_FLAG_RESAMPLE) != 0) {
    irqfd.resamplefd = static_cast<uint32_t>(resample_fd);
  }
  return kvm_ioctl(vm, KVM_IRQFD, &irqfd) == 0;
}

}  // namespace

/// An MSI vector: an eventfd that is, while attached, the irqfd of a GSI of its own.
class IrqRouter::Msi final : public MsiVector {
 public:
  explicit Msi(IrqRouter& router) : router_(router) {}
  ~Msi() override {
    // Closing the eventfd takes the irqfd out of KVM, without the wait that detach() means.
    if (gsi_) router_.release(*gsi_);
  }

  int fd() const noexcept override { return event_.fd(); }
  bool attach(const MsiMessage& message) noexcept override {
    if (!gsi_) gsi_ = router_.allocate();
    if (!gsi_) return false;
    if (!router_.route(*gsi_, message)) return false;
    if (attached_) return true;
    // KVM looks at the counter as it takes the eventfd, so what is pending is delivered now.
    attached_ = set_irqfd(router_.vm_.fd(), fd(), *gsi_, 0);
    if (!attached_) log_warn("KVM_IRQFD for GSI {}: {}", gsi_->value(), std::strerror(errno));
    return attached_;
  }
  void detach() noexcept override {
    if (!attached_) return;
    // Returns when every signal up to now has been delivered, and the counter is zero. KVM waits
    // for its users of the irqfd: 10 to 100 us.
    [[maybe_unused]] const bool done =
        set_irqfd(router_.vm_.fd(), fd(), *gsi_, KVM_IRQFD_FLAG_DEASSIGN);
    assert(done);
    attached_ = false;
  }
  bool pending() const noexcept override { return !attached_ && event_.pending(); }
  void clear() noexcept override {
    if (!attached_) event_.drain();
  }

 private:
  IrqRouter& router_;
  EventFd event_;
  std::optional<Gsi> gsi_;
  bool attached_ = false;
};

/// A level-triggered line. Closing the eventfds takes the irqfd out of KVM.
class IrqRouter::Level final : public LevelLine {
 public:
  Level(const Vm& vm, Gsi gsi) : vm_(vm), gsi_(gsi) {}
  void connect() noexcept override {
    if (std::exchange(connected_, true)) return;
    // KVM looks at the counter as it takes the eventfd, so a line that is raised already rises.
    if (!set_irqfd(vm_.fd(), assert_.fd(), gsi_, KVM_IRQFD_FLAG_RESAMPLE, resample_.fd())) {
      log_error("KVM_IRQFD with resample for GSI {}: {}", gsi_.value(), std::strerror(errno));
    }
  }
  int assert_fd() const noexcept override { return assert_.fd(); }
  int resample_fd() const noexcept override { return resample_.fd(); }

 private:
  const Vm& vm_;
  const Gsi gsi_;
  bool connected_ = false;
  EventFd assert_;
  EventFd resample_;
};

/// A wire that is set by system call. Costs nothing while the level stays.
class IrqRouter::Line final : public IrqLine {
 public:
  Line(const Vm& vm, Gsi gsi) : vm_(vm), gsi_(gsi) {}
  void set(bool level) noexcept override {
    // Two threads' changes must reach KVM in the order in which they are noted here.
    const std::lock_guard lock(mutex_);
    if (level_ == level) return;
    kvm_irq_level change{};
    change.irq = gsi_.value();
    change.level = level ? 1 : 0;
    if (kvm_ioctl(vm_.fd(), KVM_IRQ_LINE, &change) == 0) level_ = level;
  }

 private:
  const Vm& vm_;
  const Gsi gsi_;
  std::mutex mutex_;
  std::optional<bool> level_;  // unknown at first: the VM may have been restored
};

IrqRouter::IrqRouter(const Vm& vm) : vm_(vm) {
  const int limit = vm.kvm().extension(KVM_CAP_IRQ_ROUTING);
  max_msi_ = static_cast<size_t>(std::max(limit - int{kPinRoutes}, 0));
}

std::optional<Gsi> IrqRouter::allocate() noexcept {
  auto free = std::ranges::find(slots_, false, &Slot::used);
  if (free == slots_.end()) {
    if (slots_.size() == max_msi_) {
      log_warn("all {} MSI routes of KVM are taken", max_msi_);
      return std::nullopt;
    }
    free = slots_.emplace(slots_.end());
  }
  free->used = true;
  return Gsi(kIoapicPins + static_cast<uint32_t>(free - slots_.begin()));
}

void IrqRouter::release(Gsi gsi) noexcept {
  // The route stays in KVM's table, where nothing signals it, until the GSI gets another message.
  slot(gsi).used = false;
}

IrqRouter::Slot& IrqRouter::slot(Gsi gsi) noexcept {
  assert(gsi.value() >= kIoapicPins);
  assert(gsi.value() - kIoapicPins < slots_.size());
  return slots_[gsi.value() - kIoapicPins];
}

bool IrqRouter::route(Gsi gsi, const MsiMessage& message) noexcept {
  Slot& changed = slot(gsi);
  if (changed.message == message) return true;
  const std::optional<MsiMessage> before = std::exchange(changed.message, message);
  if (publish()) return true;
  log_warn("KVM_SET_GSI_ROUTING: {}", std::strerror(errno));
  changed.message = before;
  return false;
}

bool IrqRouter::publish() noexcept {
  // KVM takes the table as a whole. 15 to 30 us, and no vCPU is stopped.
  const auto routed =
      std::ranges::count_if(slots_, [](const Slot& s) { return s.message.has_value(); });
  KvmTable<KvmTableHead, kvm_irq_routing_entry> table(kPinRoutes + static_cast<size_t>(routed));
  const auto entries = table.entries();
  size_t next = 0;
  for (uint32_t pin = 0; pin < kPicPins; ++pin) {
    const uint32_t chip = pin < kPinsPerPic ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
    entries[next++] = pin_route(pin, chip, pin % kPinsPerPic);
  }
  for (uint32_t pin = 0; pin < kIoapicPins; ++pin) {
    entries[next++] = pin_route(pin, KVM_IRQCHIP_IOAPIC, pin);
  }
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].message) entries[next++] = msi_route(kIoapicPins + i, *slots_[i].message);
  }
  return kvm_ioctl(vm_.fd(), kSetGsiRouting, table.get()) == 0;
}

std::unique_ptr<MsiVector> IrqRouter::make_msi() {
  return std::make_unique<Msi>(*this);
}

std::unique_ptr<LevelLine> IrqRouter::make_level(Gsi gsi) {
  assert(gsi.value() < kIoapicPins);
  return std::make_unique<Level>(vm_, gsi);
}

std::unique_ptr<IrqLine> IrqRouter::make_line(Gsi gsi) {
  assert(gsi.value() < kIoapicPins);
  return std::make_unique<Line>(vm_, gsi);
}

}  // namespace ringlet
