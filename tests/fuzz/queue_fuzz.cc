// Fuzzes a split virtqueue by itself: rings and tables of any content, changed at any moment, and
// a device that pops, reads, writes, completes and abandons in any order.
//
// A model reads the same rings, and knows where the device stands and which bytes it may write.
#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/shadow_memory.h"
#include "virtio/queue.h"

namespace ringlet {
namespace {

// Two regions with a hole between them.
constexpr std::array<AddrRange, 2> kRegions{{{0, 0x2000}, {0x3000, 0x1000}}};

struct OpenChain {
  Chain chain;
  uint16_t head;
  uint64_t writable;  // bytes, when it was popped
};

class QueueRun {
 public:
  QueueRun(FuzzInput& input, const GuestMemory& memory)
      : input_(input), memory_(memory), shadow_(memory) {
    config_ = {.size = static_cast<uint16_t>(1 << input.below(6)),
               .enabled = true,
               .descriptors = GuestAddr(input.take<uint8_t>() * 16U),
               .driver_area = GuestAddr(input.take<uint16_t>() & 0x3ffeU),
               .device_area = GuestAddr(input.take<uint16_t>() & 0x3ffcU)};
    Features features;
    if (input.flag()) features = features | Feature::EventIdx;
    indirect_ = input.flag();
    if (indirect_) features = features | Feature::IndirectDesc;
    start_ = static_cast<uint16_t>(input.flag() ? 0xfff0 : 0);
    std::string_view why;
    queue_ = Queue::create(memory, QueueIndex(0), config_, features, {start_, start_}, why);
    assert(queue_ == nullptr || why.empty());
    shadow_.grant(config_.device_area, ring::used_ring_size(config_.size));
  }

  void run() {
    if (!queue_) return;
    while (!input_.empty()) step();
    while (!open_.empty()) Queue::abandon(take_open().chain);
    assert(queue_->in_flight() == 0);
    shadow_.check();
  }

 private:
  void step() {
    switch (input_.below(12)) {
      case 0: return shadow_.write(GuestAddr(input_.take<uint16_t>() & 0x3fffU), input_.bytes(4));
      case 1: return write_descriptor();
      case 2: return link();
      case 3: return make_available();
      case 4:
      case 5: return pop();
      case 6: return complete();
      case 7: return open_.empty() ? void() : Queue::abandon(take_open().chain);
      case 8: return publish();
      case 9: return queue_->suppress_kicks();
      case 10: return use();
      default: {
        const bool again = queue_->allow_kicks();
        assert(!again || queue_->broken().empty());
      }
    }
  }

  void write_value(uint64_t at, const auto& value) {
    shadow_.write(GuestAddr(at), std::as_bytes(std::span(&value, 1)));
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

  void pop() {
    const bool was_broken = !queue_->broken().empty();
    const uint16_t before = queue_->position().next_avail;
    const GuestAddr entry(config_.driver_area.value() + ring::kEntries +
                          before % config_.size * 2U);
    const uint16_t head = memory_.read<le16>(entry).value();
    const std::optional<Parts> expected = was_broken ? std::nullopt : next_chain(before, head);
    auto chain = queue_->pop();
    assert(chain.has_value() == expected.has_value());
    assert(queue_->position().next_avail == static_cast<uint16_t>(before + (chain ? 1 : 0)));
    if (!chain) return;
    assert(chain->slot() < config_.size);
    for (const OpenChain& other : open_) {
      assert(other.chain.slot() != chain->slot() && other.head != head);
    }
    assert(std::ranges::equal(chain->readable(), expected->reads, is_same));
    assert(std::ranges::equal(chain->writable(), expected->writes, is_same));
    for (const iovec& part : chain->writable()) {
      shadow_.grant({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    }
    const uint64_t writable = chain->writable_bytes();
    assert(chain->readable_bytes() + writable <= UINT32_MAX);
    open_.push_back({.chain = std::move(*chain), .head = head, .writable = writable});
    assert(queue_->in_flight() == open_.size() && open_.size() <= config_.size);
  }

  using Bytes = std::span<const std::byte>;
  struct Parts {
    std::vector<Bytes> reads;
    std::vector<Bytes> writes;
    uint64_t total = 0;
  };
  static bool is_same(const iovec& part, const Bytes& bytes) {
    return part.iov_base == bytes.data() && part.iov_len == bytes.size();
  }

  /// What pop() has to find (virtio 1.3, 2.7).
  std::optional<Parts> next_chain(uint16_t position, uint16_t head) const {
    const GuestAddr index(config_.driver_area.value() + ring::kIndex);
    const auto ready = static_cast<uint16_t>(memory_.read<le16>(index).value() - position);
    if (ready == 0 || ready > config_.size || head >= config_.size) return std::nullopt;
    for (const OpenChain& other : open_) {
      if (other.head == head) return std::nullopt;
    }
    Parts parts;
    uint64_t at = config_.descriptors.value() + head * 16U;
    uint64_t table = config_.descriptors.value();
    size_t length = config_.size;
    bool entered = false;
    for (size_t count = 0; count < config_.size;) {
      const auto descriptor = memory_.read<ring::Descriptor>(GuestAddr(at)).value();
      if ((descriptor.flags & ring::kDescIndirect) != 0) {
        length = descriptor.length / 16;
        if (!indirect_ || std::exchange(entered, true)) return std::nullopt;
        if ((descriptor.flags & ring::kDescNext) != 0) return std::nullopt;
        if (length == 0 || length > config_.size || descriptor.length % 16 != 0)
          return std::nullopt;
        if (!memory_.slice(GuestAddr(descriptor.address), length * 16)) return std::nullopt;
        at = table = descriptor.address;
        continue;
      }
      ++count;
      if (!add(descriptor, parts)) return std::nullopt;
      if ((descriptor.flags & ring::kDescNext) == 0) return parts;
      if (descriptor.next >= length) return std::nullopt;
      at = table + descriptor.next * 16U;
    }
    return std::nullopt;
  }
  bool add(const ring::Descriptor& descriptor, Parts& parts) const {
    const bool writes = (descriptor.flags & ring::kDescWrite) != 0;
    if (!writes && !parts.writes.empty()) return false;
    if (descriptor.length == 0) return true;
    const auto bytes = memory_.slice(GuestAddr(descriptor.address), descriptor.length);
    parts.total += descriptor.length;
    if (!bytes || parts.total > UINT32_MAX) return false;
    (writes ? parts.writes : parts.reads).emplace_back(*bytes);
    return true;
  }

  OpenChain take_open() {
    const size_t at = input_.below(open_.size());
    OpenChain taken = std::move(open_[at]);
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(at));
    return taken;
  }

  /// The device reads and writes a chain, and may take off its status byte.
  void use() {
    if (open_.empty()) return;
    Chain& chain = open_[input_.below(open_.size())].chain;
    std::array<std::byte, 64> buffer{};
    const size_t count = input_.below(buffer.size() + 1);
    const uint64_t readable = chain.readable_bytes();
    const bool could_read = chain.read(std::span(buffer).first(count));
    assert(could_read == (count <= readable));
    assert(chain.readable_bytes() == readable - (could_read ? count : 0));
    const uint64_t writable = chain.writable_bytes();
    const size_t written = chain.write(std::span(buffer).first(count));
    assert(written == std::min<uint64_t>(count, writable));
    assert(chain.writable_bytes() == writable - written);
    if (!input_.flag()) return;
    const bool has_status = chain.take_status();
    assert(has_status == (writable > written));
    if (has_status) chain.put_status(0xa5);
  }

  void complete() {
    if (open_.empty()) return;
    OpenChain taken = take_open();
    const uint64_t written = input_.take<uint16_t>() % (taken.writable + 1);
    const unsigned at = static_cast<uint16_t>(start_ + completed_) % config_.size;
    queue_->complete(std::move(taken.chain), static_cast<uint32_t>(written));
    ++completed_;
    const GuestAddr entry(config_.device_area.value() + ring::kEntries + at * 8);
    const auto element = memory_.read<ring::UsedElement>(entry).value();
    assert(element.head == taken.head);
    assert(element.length == written);
  }

  void publish() {
    const bool interrupt = queue_->publish();
    assert(!interrupt || completed_ != published_);
    if (completed_ == published_) return;
    published_ = completed_;
    const auto index = static_cast<uint16_t>(start_ + completed_);
    assert(queue_->position().next_used == index);
    const GuestAddr used_index(config_.device_area.value() + ring::kIndex);
    assert(memory_.read<le16>(used_index).value() == index);
  }

  FuzzInput& input_;
  const GuestMemory& memory_;
  ShadowMemory shadow_;
  QueueConfig config_;
  uint16_t start_ = 0;
  std::unique_ptr<Queue> queue_;
  std::vector<OpenChain> open_;
  bool indirect_ = false;
  uint16_t avail_ = 0;
  uint16_t completed_ = 0;
  uint16_t published_ = 0;
};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ringlet::GuestMemory memory(ringlet::kRegions, {});
  ringlet::FuzzInput input(data, size);
  ringlet::QueueRun(input, memory).run();
  return 0;
}
