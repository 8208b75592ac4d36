// MSI-X: the capability, the vector table and the pending bit array (PCI 3.0, 6.8.2).
#include "pci/msix.h"

#include <algorithm>
#include <cassert>
#include <exception>

#include "kvm/registers.h"
#include "kvm/wire.h"

namespace ringlet {

namespace {

constexpr uint8_t kCapabilityId = 0x11;
constexpr uint16_t kMaxVectors = 2048;

/// The capability behind its ID and next pointer (6.8.2.3 to 6.8.2.5).
struct CapabilityBody {
  le16 control;
  le32 table;  // offset, with the BAR's number in bits 2:0
  le32 pba;
};
static_assert(sizeof(CapabilityBody) == 10);

constexpr size_t kControlOffset = 2;
constexpr uint16_t kControlEnable = 1 << 15;
constexpr uint16_t kControlFunctionMask = 1 << 14;

/// One entry of the table (6.8.2.6 to 6.8.2.9).
enum class EntryField : uint8_t { Address, Data, VectorControl };
constexpr RegisterMap kEntry{std::to_array<Register<EntryField>>({
    {EntryField::Address, 8, Access::ReadWrite},
    {EntryField::Data, 4, Access::ReadWrite},
    {EntryField::VectorControl, 4, Access::ReadWrite},
})};
static_assert(kEntry.size() == 16);
static_assert(kEntry.offset(EntryField::VectorControl) == 12);
constexpr uint64_t kVectorMasked = 1;

uint64_t get(const MsiMessage& message, bool masked, EntryField field) {
  switch (field) {
    case EntryField::Address: return message.address;
    case EntryField::Data: return message.data;
    case EntryField::VectorControl: return masked ? kVectorMasked : 0;
  }
  return 0;
}

void set(MsiMessage& message, bool& masked, EntryField field, uint64_t value) {
  switch (field) {
    case EntryField::Address:
      message.address = value & ~uint64_t{3};  // a dword's; "must always write zeroes" (6.8.2.7)
      return;
    case EntryField::Data: message.data = static_cast<uint32_t>(value); return;
    case EntryField::VectorControl: masked = (value & kVectorMasked) != 0; return;
  }
}

uint32_t locate(unsigned bar, uint32_t offset) {
  assert(bar < ConfigSpace::kBars);
  assert(offset % 8 == 0);
  return offset | bar;
}

/// Cuts an access into the parts that lie in one entry: `part(entry, offset, data)`.
template <typename Byte, typename Part>
void for_each_entry(size_t entries, uint64_t offset, std::span<Byte> data, Part&& part) {
  while (!data.empty() && offset / kEntry.size() < entries) {
    const size_t inside = offset % kEntry.size();
    const size_t length = std::min(data.size(), kEntry.size() - inside);
    part(static_cast<size_t>(offset / kEntry.size()), inside, data.first(length));
    data = data.subspan(length);
    offset += length;
  }
}

}  // namespace

Msix::Msix(ConfigSpace& config, InterruptSource& interrupts, const MsixLayout& layout)
    : config_(config), interrupts_(interrupts), entries_(layout.vectors) {
  assert(layout.vectors >= 1 && layout.vectors <= kMaxVectors);
  const CapabilityBody body{
      .control = static_cast<uint16_t>(layout.vectors - 1),
      .table = locate(layout.table_bar, layout.table_offset),
      .pba = locate(layout.pba_bar, layout.pba_offset),
  };
  const CapabilityBody writable{
      .control = kControlEnable | kControlFunctionMask, .table = {}, .pba = {}};
  capability_ = config.add_capability({
      .id = kCapabilityId,
      .body = std::as_bytes(std::span(&body, 1)),
      .writable = std::as_bytes(std::span(&writable, 1)),
      .handler = this,
  });
}

void Msix::table_read(uint64_t offset, std::span<std::byte> data) const noexcept {
  for_each_entry(entries_.size(), offset, data, [&](size_t index, size_t at, auto part) {
    const Entry& entry = entries_[index];
    kEntry.read(at, part,
                [&](EntryField field) { return get(entry.message, entry.masked, field); });
  });
}

void Msix::table_write(uint64_t offset, std::span<const std::byte> data) noexcept {
  for_each_entry(entries_.size(), offset, data, [&](size_t index, size_t at, auto part) {
    Entry& entry = entries_[index];
    const MsiMessage old = entry.message;
    kEntry.write(
        at, part, [&](EntryField field) { return get(entry.message, entry.masked, field); },
        [&](EntryField field, uint64_t value) { set(entry.message, entry.masked, field, value); });
    update(entry, entry.message != old);
  });
}

void Msix::pba_read(uint64_t offset, std::span<std::byte> data) const noexcept {
  const uint64_t size = msix_pba_size(vectors());
  for (size_t i = 0; i < data.size() && offset < size; ++i, ++offset) {
    data[i] = std::byte{0};
    for (size_t bit = 0; bit < 8; ++bit) {
      if (is_pending(offset * 8 + bit)) data[i] |= std::byte{1} << bit;
    }
  }
}

std::optional<int> Msix::vector_fd(uint16_t vector) noexcept {
  if (vector >= entries_.size()) return std::nullopt;
  Entry& entry = entries_[vector];
  if (entry.host == nullptr) {
    try {
      entry.host = interrupts_.make_msi();
    } catch (const std::exception& error) {
      if (log_limit_.allow()) log_error("MSI-X vector {} is unusable: {}", vector, error.what());
      return std::nullopt;
    }
    update(entry, false);
  }
  return entry.host->fd();
}

void Msix::command_changed() noexcept {
  for (Entry& entry : entries_) update(entry, false);
}

void Msix::clear_pending() noexcept {
  for (Entry& entry : entries_) {
    if (entry.host != nullptr) entry.host->clear();
  }
}

MsixState Msix::save() const {
  MsixState state;
  for (size_t i = 0; i < entries_.size(); ++i) {
    state.vectors.push_back({.address = entries_[i].message.address,
                             .data = entries_[i].message.data,
                             .masked = entries_[i].masked,
                             .pending = is_pending(i)});
  }
  return state;
}

void Msix::restore(const MsixState& state) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const MsixVectorState saved = i < state.vectors.size() ? state.vectors[i] : MsixVectorState{};
    const MsiMessage old = entry.message;
    set(entry.message, entry.masked, EntryField::Address, saved.address);
    set(entry.message, entry.masked, EntryField::Data, saved.data);
    entry.masked = saved.masked;
    update(entry, entry.message != old);
  }
  update_control();
}

void Msix::capability_written(size_t offset, std::span<const std::byte> /*data*/) noexcept {
  if (offset < kControlOffset + sizeof(uint16_t)) update_control();
}

void Msix::update_control() noexcept {
  const uint16_t control = config_.read16(capability_ + kControlOffset);
  const bool enable = (control & kControlEnable) != 0;
  const bool mask = (control & kControlFunctionMask) != 0;
  if (enable == enabled() && mask == function_masked_) return;
  enabled_.store(enable, std::memory_order_release);
  function_masked_ = mask;
  for (Entry& entry : entries_) update(entry, false);
}

bool Msix::is_pending(size_t vector) const noexcept {
  return vector < entries_.size() && entries_[vector].host != nullptr &&
         !entries_[vector].attached && entries_[vector].host->pending();
}

/// Brings KVM's side of a vector in line with the registers; does nothing when it is.
void Msix::update(Entry& entry, bool message_changed) noexcept {
  if (entry.host == nullptr) return;
  const bool master = config_.command().bus_master();  // a message is a write (6.2.2)
  const bool effective = master && enabled() && !function_masked_ && !entry.masked;
  if (effective && (!entry.attached || message_changed)) {
    entry.attached = entry.host->attach(entry.message);
    if (!entry.attached) entry.host->detach();  // from the message before
  } else if (!effective && entry.attached) {
    entry.host->detach();
    entry.attached = false;
  }
}

}  // namespace ringlet
