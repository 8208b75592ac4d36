// What fuzzing a virtqueue by itself is like, whatever its format: a device that pops, reads,
// writes, completes and abandons in any order, and what it may touch.
//
// A model reads the same rings, and knows where the device stands and which bytes it may write.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/shadow_memory.h"
#include "virtio/queue.h"

namespace ringlet {

class QueueRun {
 public:
  QueueRun(FuzzInput& input, const GuestMemory& memory)
      : input_(input), memory_(memory), shadow_(memory) {}
  virtual ~QueueRun() = default;

  void run() {
    if (!queue_) return;
    while (!input_.empty()) step();
    while (!open_.empty()) Queue::abandon(take_open().chain);
    assert(queue_->in_flight() == 0);
    shadow_.check();
  }

 protected:
  struct OpenChain {
    Chain chain;
    uint16_t id;        // its head, or buffer ID
    uint16_t entries;   // by which its ring moves
    uint64_t writable;  // bytes, when it was popped
  };
  using Bytes = std::span<const std::byte>;
  /// A chain as the model reads it.
  struct Parts {
    uint16_t id = 0;
    uint16_t entries = 1;
    std::vector<Bytes> reads{};
    std::vector<Bytes> writes{};
    uint64_t total = 0;
  };

  /// What pop() has to find.
  virtual std::optional<Parts> next_chain() const = 0;
  /// And whether has_avail() has to be true for a queue that is not broken.
  virtual bool is_available() const = 0;
  /// The device popped it; the model follows.
  virtual void popped(const Parts& parts) = 0;
  virtual void completed(const OpenChain& taken, uint32_t written) = 0;
  virtual void publish() = 0;
  virtual void allow_kicks() = 0;
  virtual void write_ring(size_t way) = 0;
  /// Neither the model nor the device has moved.
  virtual void check_position() const = 0;

  void create(Features features, QueuePosition position) {
    indirect_ = features.has(Feature::IndirectDesc);
    event_idx_ = features.has(Feature::EventIdx);
    std::string_view why;
    queue_ = Queue::create(memory_, QueueIndex(0), config_, features, position, why);
    assert(queue_ == nullptr || why.empty());
  }

  void write_value(uint64_t at, const auto& value) {
    shadow_.write(GuestAddr(at), std::as_bytes(std::span(&value, 1)));
  }
  template <typename T>
  T read(GuestAddr at, uint64_t offset) const {
    return memory_.read<T>(at.plus(offset).value()).value();
  }
  bool is_open(uint16_t id) const {
    return std::ranges::any_of(open_, [id](const OpenChain& open) { return open.id == id; });
  }

  bool add(uint64_t address, uint32_t length, bool writes, Parts& parts) const {
    if (!writes && !parts.writes.empty()) return false;
    if (length == 0) return true;
    const auto bytes = memory_.slice(GuestAddr(address), length);
    parts.total += length;
    if (!bytes || parts.total > UINT32_MAX) return false;
    (writes ? parts.writes : parts.reads).emplace_back(*bytes);
    return true;
  }
  /// Whether an indirect descriptor refers to a table that may be.
  bool is_good_table(uint64_t address, uint32_t length, uint16_t flags) const {
    return indirect_ && (flags & ring::kDescNext) == 0 && length > 0 && length % 16 == 0 &&
           length / 16 <= config_.size && memory_.slice(GuestAddr(address), length);
  }

  FuzzInput& input_;
  const GuestMemory& memory_;
  ShadowMemory shadow_;
  QueueConfig config_;
  std::unique_ptr<Queue> queue_;
  std::vector<OpenChain> open_;
  bool indirect_ = false;
  bool event_idx_ = false;

 private:
  void step() {
    const size_t what = input_.below(12);
    switch (what) {
      case 0: return shadow_.write(GuestAddr(input_.take<uint16_t>() & 0x3fffU), input_.bytes(4));
      case 1:
      case 2:
      case 3: return write_ring(what);
      case 4:
      case 5: return pop();
      case 6: return complete();
      case 7: return open_.empty() ? void() : Queue::abandon(take_open().chain);
      case 8: return publish();
      case 9: return queue_->suppress_kicks();
      case 10: return use();
      default: return allow_kicks();
    }
  }

  void pop() {
    const bool was_broken = !queue_->broken().empty();
    assert(queue_->has_avail() == (!was_broken && is_available()));
    const std::optional<Parts> expected = was_broken ? std::nullopt : next_chain();
    auto chain = queue_->pop();
    assert(chain.has_value() == expected.has_value());
    if (expected) popped(*expected);
    check_position();
    if (!chain) {
      assert(queue_->broken().empty() == (!was_broken && !is_available()));
      return;
    }
    assert(chain->slot() < config_.size);
    for (const OpenChain& other : open_) {
      assert(other.chain.slot() != chain->slot() && other.id != expected->id);
    }
    assert(std::ranges::equal(chain->readable(), expected->reads, is_same));
    assert(std::ranges::equal(chain->writable(), expected->writes, is_same));
    for (const iovec& part : chain->writable()) {
      shadow_.grant({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    }
    const uint64_t writable = chain->writable_bytes();
    assert(chain->readable_bytes() + writable <= UINT32_MAX);
    open_.push_back({.chain = std::move(*chain),
                     .id = expected->id,
                     .entries = expected->entries,
                     .writable = writable});
    assert(queue_->in_flight() == open_.size() && open_.size() <= config_.size);
  }
  static bool is_same(const iovec& part, const Bytes& bytes) {
    return part.iov_base == bytes.data() && part.iov_len == bytes.size();
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
    queue_->complete(std::move(taken.chain), static_cast<uint32_t>(written));
    completed(taken, static_cast<uint32_t>(written));
  }
};

}  // namespace ringlet
