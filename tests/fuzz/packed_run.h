// A packed virtqueue being fuzzed, and its model (virtio 1.3, 2.8).
#pragma once

#include "tests/fuzz/queue_run.h"
#include "virtio/packed_format.h"

namespace ringlet {

/// Counts descriptors from the start of the first lap on: place n is descriptor n % size of lap
/// n / size, and in even laps the wrap counter is 1.
class PackedRun final : public QueueRun {
 public:
  PackedRun(FuzzInput& input, const GuestMemory& memory, uint16_t size) : QueueRun(input, memory) {
    config_ = {.size = size,
               .enabled = true,
               .descriptors = GuestAddr(input.take<uint8_t>() * 16U),
               .driver_area = GuestAddr(input.take<uint16_t>() & 0x3ffcU),
               .device_area = GuestAddr(input.take<uint16_t>() & 0x3ffcU)};
    Features features(Feature::RingPacked);
    if (input.flag()) features = features | Feature::EventIdx;
    if (input.flag()) features = features | Feature::IndirectDesc;
    avail_ = used_ = published_ = driver_ = static_cast<uint32_t>(input.below(2UL * size));
    create(features, {saved(avail_), saved(used_)});
    shadow_.grant(config_.device_area, packed::kEventSize);
  }

 private:
  bool wrap(uint32_t place) const { return place / config_.size % 2 == 0; }
  uint16_t saved(uint32_t place) const {
    return static_cast<uint16_t>(place % config_.size | (wrap(place) ? 0U : 0x8000U));
  }
  uint16_t wire(uint32_t place) const { return saved(place) ^ 0x8000; }
  uint64_t offset(uint32_t place) const { return place % config_.size * 16UL; }
  uint16_t flags(uint32_t place) const {
    return read<le16>(config_.descriptors, offset(place) + 14);
  }
  /// Bit 7 and bit 15 as they are in a descriptor that is available, or used, in its lap.
  uint16_t available(uint32_t place) const { return wrap(place) ? 0x0080 : 0x8000; }
  uint16_t used(uint32_t place) const { return wrap(place) ? 0x8080 : 0x0000; }
  bool has_flags(uint32_t place, uint16_t bits) const { return (flags(place) & 0x8080) == bits; }

  // The driver ---------------------------------------------------------------------------------

  void write_ring(size_t way) override {
    if (way == 1) return write_descriptor();
    if (way == 2) return offer();
    write_event();
  }

  /// In the ring or somewhere, where an indirect table may be.
  void write_descriptor() {
    const uint8_t place = input_.take<uint8_t>();
    const uint64_t table = place < 0xc0 ? config_.descriptors.value() : 0x800;
    const uint8_t kind = input_.take<uint8_t>();
    ring::Descriptor descriptor;
    descriptor.address = input_.take<uint16_t>() & 0x7fffU;
    descriptor.length = input_.take<uint16_t>();
    if ((kind & 0x40) != 0) descriptor.address = ~uint64_t{descriptor.address};
    if ((kind & 0x20) != 0) descriptor.length = descriptor.length % 33 * 16;
    descriptor.flags = input_.take<uint8_t>();  // the ID
    descriptor.next = static_cast<uint16_t>((kind & 7) | (kind & 0x80) | (kind & 8 ? 0x8000 : 0));
    write_value(table + place % 64U * 16, descriptor);
  }

  /// A chain in order, where the driver stands, but for what the input turns over: the flags that
  /// make a descriptor available, IDs ahead of the last, an indirect table behind other buffers.
  void offer() {
    const uint8_t shape = input_.take<uint8_t>();
    const uint8_t damage = input_.take<uint8_t>();
    const auto id = static_cast<uint16_t>(input_.take<uint8_t>() % (config_.size + 2U));
    const uint32_t count = 1 + shape % 8U;
    const uint32_t reads = shape / 8 % 8U;
    if ((damage & 0x80) != 0) driver_ = avail_;
    for (uint32_t i = 0; i < count; ++i, ++driver_) {
      ring::Descriptor descriptor;
      descriptor.address = 0x1000U + driver_ % 40 * 0x40U;
      descriptor.length = 0x10U + i * 0x10U;
      const bool last = i + 1 == count;
      descriptor.flags = static_cast<uint16_t>(!last && (damage & 0x40) != 0 ? id ^ 1 : id);
      unsigned bits =
          available(driver_) | (last ? 0U : ring::kDescNext) | (i < reads ? 0U : ring::kDescWrite);
      if (shape >= 0xc0 && last && (count == 1 || (damage & 0x20) != 0)) {
        descriptor.address = 0x800;
        bits |= ring::kDescIndirect;
      }
      if ((damage & 0x1f) == i + 1) bits ^= 0x80;
      descriptor.next = static_cast<uint16_t>(bits);
      write_value(config_.descriptors.value() + offset(driver_), descriptor);
    }
  }

  void write_event() {
    const uint8_t kind = input_.take<uint8_t>();
    const uint32_t place = used_ + input_.take<uint8_t>() % (2U * config_.size);
    write_value(config_.driver_area.value(), le16(wire(place)));
    write_value(config_.driver_area.value() + 2, le16(kind));
  }

  // The device ---------------------------------------------------------------------------------

  bool is_available() const override { return has_flags(avail_, available(avail_)); }
  void popped(const Parts& parts) override { avail_ += parts.entries; }
  void check_position() const override {
    assert(queue_->position().next_avail == saved(avail_));
    assert(queue_->position().next_used == saved(used_));
  }

  std::optional<Parts> next_chain() const override {
    Parts parts;
    uint32_t place = avail_;
    do {
      // Those that the driver has not been shown as used are not there to be had.
      if (place - published_ >= config_.size) return std::nullopt;
      if (!has_flags(place, available(place))) return std::nullopt;
      const auto descriptor = read<ring::Descriptor>(config_.descriptors, offset(place));
      parts.id = descriptor.flags;
      const uint16_t bits = descriptor.next;
      if ((bits & ring::kDescIndirect) != 0) {
        if (place != avail_ || !add_table(descriptor, bits, parts)) return std::nullopt;
      } else {
        const bool writes = (bits & ring::kDescWrite) != 0;
        if (!add(descriptor.address, descriptor.length, writes, parts)) return std::nullopt;
      }
    } while ((flags(place++) & ring::kDescNext) != 0);
    parts.entries = static_cast<uint16_t>(place - avail_);
    if (parts.id >= config_.size || is_open(parts.id)) return std::nullopt;
    return parts;
  }

  bool add_table(const ring::Descriptor& descriptor, uint16_t bits, Parts& parts) const {
    if (!is_good_table(descriptor.address, descriptor.length, bits)) return false;
    for (uint32_t at = 0; at < descriptor.length; at += 16) {
      const auto entry = read<ring::Descriptor>(GuestAddr(descriptor.address), at);
      const bool writes = (entry.next & ring::kDescWrite) != 0;
      if (!add(entry.address, entry.length, writes, parts)) return false;
    }
    return true;
  }

  // An abandoned chain leaves its descriptors to nobody: what is used later lies before them.
  void completed(const OpenChain& taken, uint32_t written) override {
    const auto now = read<ring::Descriptor>(config_.descriptors, offset(used_));
    assert(now.flags == taken.id);
    assert(now.length == written);
    const auto bits =
        static_cast<uint16_t>(used(used_) | (written > 0 ? ring::kDescWrite : uint16_t{0}));
    if (used_ == published_) {
      first_flags_ = bits;
    } else {
      assert(now.next == bits);
    }
    shadow_write(used_, used_ == published_ ? 6 : 8);
    used_ += taken.entries;
  }

  void publish() override {
    const bool interrupt = queue_->publish();
    if (used_ == published_) {
      assert(!interrupt);
      return;
    }
    assert(flags(published_) == first_flags_);
    shadow_write(published_, 8);
    const uint16_t kind = read<le16>(config_.driver_area, 2) & 3;
    const uint16_t event = read<le16>(config_.driver_area, 0);
    bool expected = kind != 1;
    if (kind == 2 && event_idx_) {
      expected = false;
      for (uint32_t place = published_; place != used_; ++place) expected |= wire(place) == event;
    }
    assert(interrupt == expected);
    published_ = used_;
  }

  /// What the device wrote there is right; from now on it may not write.
  void shadow_write(uint32_t place, size_t bytes) {
    std::array<std::byte, 8> now{};
    const GuestAddr at = config_.descriptors.plus(offset(place) + 8).value();
    const bool read = memory_.read(at, std::span(now).first(bytes));
    assert(read);
    shadow_.write(at, std::span(now).first(bytes));
  }

  void allow_kicks() override {
    const bool again = queue_->allow_kicks();
    assert(read<le16>(config_.device_area, 2) == (event_idx_ ? 2 : 0));
    assert(!event_idx_ || read<le16>(config_.device_area, 0) == wire(avail_));
    assert(again == (queue_->broken().empty() && is_available()));
  }

  uint32_t avail_ = 0;
  uint32_t used_ = 0;
  uint32_t published_ = 0;
  uint32_t driver_ = 0;
  uint16_t first_flags_ = 0;
};

}  // namespace ringlet
