// Fuzzes a split virtqueue by itself: rings and tables of any content, changed at any moment, and
// a device that pops, reads, writes, completes and abandons in any order.
//
// A model knows where the device stands and which bytes it may write.
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
    if (input.flag()) features = features | Feature::IndirectDesc;
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
      case 1:
      case 2: return write_descriptor();
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
    auto chain = queue_->pop();
    assert(!(was_broken && chain));
    assert(queue_->position().next_avail == static_cast<uint16_t>(before + (chain ? 1 : 0)));
    if (!chain) return;
    assert(chain->slot() < config_.size);
    for (const OpenChain& other : open_) assert(other.chain.slot() != chain->slot());
    assert(chain->readable().size() + chain->writable().size() <= config_.size);
    for (const iovec& part : chain->readable()) assert(inside(part));
    for (const iovec& part : chain->writable()) {
      assert(inside(part));
      shadow_.grant({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    }
    const uint64_t writable = chain->writable_bytes();
    assert(chain->readable_bytes() + writable <= UINT32_MAX);
    open_.push_back({.chain = std::move(*chain), .writable = writable});
    assert(queue_->in_flight() == open_.size() && open_.size() <= config_.size);
  }

  bool inside(const iovec& part) const {
    const auto* const bytes = static_cast<const std::byte*>(part.iov_base);
    return part.iov_len > 0 && memory_.contains_host(bytes) &&
           memory_.contains_host(bytes + part.iov_len - 1);
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
    assert(element.head < config_.size);
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
