// A split virtqueue being fuzzed, and its model (virtio 1.3, 2.7).
#pragma once

#include "tests/fuzz/queue_run.h"

namespace ringlet {

class SplitRun final : public QueueRun {
 public:
  SplitRun(FuzzInput& input, const GuestMemory& memory, uint16_t size) : QueueRun(input, memory) {
    config_ = {.size = size,
               .enabled = true,
               .descriptors = GuestAddr(input.take<uint8_t>() * 16U),
               .driver_area = GuestAddr(input.take<uint16_t>() & 0x3ffeU),
               .device_area = GuestAddr(input.take<uint16_t>() & 0x3ffcU)};
    Features features;
    if (input.flag()) features = features | Feature::EventIdx;
    if (input.flag()) features = features | Feature::IndirectDesc;
    start_ = static_cast<uint16_t>(input.flag() ? 0xfff0 : 0);
    create(features, {start_, start_});
    shadow_.grant(config_.device_area, ring::used_ring_size(config_.size));
  }

 private:
  void write_ring(size_t way) override {
    if (way == 1) return write_descriptor();
    if (way == 2) return link();
    make_available();
  }

  /// In the table or somewhere, where an indirect one may be.
  void write_descriptor() {
    const uint8_t place = input_.take<uint8_t>();
    const uint64_t table = place < 0xc0 ? config_.descriptors.value() : 0x800;
    const uint16_t flags = input_.take<uint8_t>();
    ring::Descriptor descriptor;
    descriptor.address = input_.take<uint16_t>() & 0x7fffU;
    descriptor.length = input_.take<uint16_t>();
    if ((flags & 0x80) != 0) descriptor.length = uint32_t{descriptor.length} << 16;
    if ((flags & 0x40) != 0) descriptor.address = ~uint64_t{descriptor.address};
    if ((flags & 0x20) != 0) descriptor.length = descriptor.length % 33 * 16;
    descriptor.flags = static_cast<uint16_t>(flags & 0x17);
    descriptor.next = input_.take<uint8_t>();
    write_value(table + place % 64U * sizeof(descriptor), descriptor);
  }

  /// Some descriptors that are in order, one behind the other, from `first` on.
  void link() {
    const uint8_t shape = input_.take<uint8_t>();
    const uint16_t first = shape % 32;
    const uint16_t count = shape / 32;
    const uint16_t reads = input_.take<uint8_t>() % 8;
    for (uint16_t i = 0; i <= count; ++i) {
      ring::Descriptor descriptor;
      descriptor.address = 0x1000U + (first + i) * 0x40U;
      descriptor.length = 0x10U + i * 0x10U;
      descriptor.flags = static_cast<uint16_t>((i < count ? ring::kDescNext : 0) |
                                               (i < reads ? 0 : ring::kDescWrite));
      descriptor.next = static_cast<uint16_t>(first + i + 1);
      write_value(config_.descriptors.value() + (first + i) * sizeof(descriptor), descriptor);
    }
  }

  void make_available() {
    const uint8_t head = input_.take<uint8_t>();
    const uint8_t moves = input_.take<uint8_t>();
    const uint64_t entry = ring::kEntries + 2UL * (avail_ % config_.size);
    write_value(config_.driver_area.value() + entry, le16(head));
    avail_ = static_cast<uint16_t>(avail_ + (moves < 0xf0 ? 1 : moves * 8));
    const auto index = static_cast<uint16_t>(avail_ + start_);
    write_value(config_.driver_area.value() + ring::kIndex, le16(index));
  }

  uint16_t next_avail() const { return static_cast<uint16_t>(start_ + popped_); }
  uint16_t ready() const {
    return static_cast<uint16_t>(read<le16>(config_.driver_area, ring::kIndex) - next_avail());
  }
  bool is_available() const override { return ready() != 0; }
  void popped(const Parts&) override { ++popped_; }
  void check_position() const override {
    assert(queue_->position().next_avail == next_avail());
    assert(queue_->position().next_used == static_cast<uint16_t>(start_ + completed_));
  }

  std::optional<Parts> next_chain() const override {
    if (ready() == 0 || ready() > config_.size) return std::nullopt;
    const uint16_t head =
        read<le16>(config_.driver_area, ring::kEntries + next_avail() % config_.size * 2U);
    if (head >= config_.size || is_open(head)) return std::nullopt;
    Parts parts{.id = head};
    uint64_t at = config_.descriptors.value() + head * 16U;
    uint64_t table = config_.descriptors.value();
    size_t length = config_.size;
    bool entered = false;
    for (size_t count = 0; count < config_.size;) {
      const auto descriptor = memory_.read<ring::Descriptor>(GuestAddr(at)).value();
      if ((descriptor.flags & ring::kDescIndirect) != 0) {
        if (std::exchange(entered, true)) return std::nullopt;
        if (!is_good_table(descriptor.address, descriptor.length, descriptor.flags)) {
          return std::nullopt;
        }
        length = descriptor.length / 16;
        at = table = descriptor.address;
        continue;
      }
      ++count;
      const bool writes = (descriptor.flags & ring::kDescWrite) != 0;
      if (!add(descriptor.address, descriptor.length, writes, parts)) return std::nullopt;
      if ((descriptor.flags & ring::kDescNext) == 0) return parts;
      if (descriptor.next >= length) return std::nullopt;
      at = table + descriptor.next * 16U;
    }
    return std::nullopt;
  }

  void completed(const OpenChain& taken, uint32_t written) override {
    const unsigned at = static_cast<uint16_t>(start_ + completed_) % config_.size;
    ++completed_;
    const auto element = read<ring::UsedElement>(config_.device_area, ring::kEntries + at * 8);
    assert(element.head == taken.id);
    assert(element.length == written);
  }

  void publish() override {
    const bool interrupt = queue_->publish();
    assert(!interrupt || completed_ != published_);
    if (completed_ == published_) return;
    published_ = completed_;
    const auto index = static_cast<uint16_t>(start_ + completed_);
    assert(read<le16>(config_.device_area, ring::kIndex) == index);
  }

  void allow_kicks() override {
    const bool again = queue_->allow_kicks();
    assert(again == (queue_->broken().empty() && is_available()));
  }

  uint16_t start_ = 0;
  uint16_t avail_ = 0;
  uint16_t popped_ = 0;
  uint16_t completed_ = 0;
  uint16_t published_ = 0;
};

}  // namespace ringlet
