// Fuzzes a disk from end to end: any content of rings, tables and requests, changed at any moment,
// against a host that reorders, shortens and fails, with pauses and resets in between.
//
// The device must write nowhere but into the used ring and the buffers it was given, give each
// chain back with a length that fits, and answer every reset.
#include <linux/virtio_blk.h>

#include <array>
#include <bit>
#include <cassert>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "tests/fake/blk_machine.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/shadow_memory.h"
#include "virtio/ring.h"

namespace ringlet {
namespace {

constexpr std::array<AddrRange, 2> kRegions{{{0, 0x3000}, {0x4000, 0x2000}}};
constexpr uint64_t kDiskBytes = 16 << 10;
constexpr uint64_t kHeaders = 0x2000;

/// Stands between the disk and the common layer, and sees which buffers go in and what comes out.
class Watcher final : public Device, private DeviceHost {
 public:
  Watcher(Blk& blk, ShadowMemory& shadow) : blk_(blk), shadow_(shadow) {}

  const DeviceTraits& traits() const noexcept override { return blk_.traits(); }
  void attach(DeviceHost& host) noexcept override {
    host_ = &host;
    blk_.attach(*this);
  }
  void activate(Features features) noexcept override { blk_.activate(features); }
  void handle(Chain chain) noexcept override {
    for (const iovec& part : chain.writable()) {
      shadow_.grant({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    }
    const bool is_new = writable_.emplace(chain.slot(), chain.writable_bytes()).second;
    assert(is_new);
    blk_.handle(std::move(chain));
  }
  void batch_end(QueueIndex queue) noexcept override { blk_.batch_end(queue); }
  void config_written(std::span<const std::byte> config) noexcept override {
    blk_.config_written(config);
  }
  void cancel(QueueIndex queue) noexcept override { blk_.cancel(queue); }
  void reset() noexcept override {
    assert(writable_.empty());
    blk_.reset();
  }

 private:
  IoLoop& loop() noexcept override { return host_->loop(); }
  const GuestMemory& memory() const noexcept override { return host_->memory(); }
  void complete(Chain chain, uint32_t written) noexcept override {
    const auto found = writable_.find(chain.slot());
    assert(found != writable_.end() && written <= found->second);
    writable_.erase(found);
    host_->complete(std::move(chain), written);
  }
  void change_config(size_t offset, std::span<const std::byte> bytes) noexcept override {
    host_->change_config(offset, bytes);
  }
  void fail(std::string_view why) noexcept override { host_->fail(why); }
  bool serves(QueueIndex queue) const noexcept override { return host_->serves(queue); }

  Blk& blk_;
  ShadowMemory& shadow_;
  DeviceHost* host_ = nullptr;
  std::map<uint16_t, uint64_t> writable_;  // by slot: bytes of chains that are out
};

struct Nothing final : Task {
  void run() noexcept override {}
};

BlkMachineOptions options_from(FuzzInput& input, GuestMemory& memory, ShadowMemory& shadow) {
  const uint8_t kind = input.take<uint8_t>();
  BlkMachineOptions options{
      .settings = {.name = "disk", .queue_size = 32, .serial = "ringlet"},
      .loop = {.seed = input.take<uint8_t>(), .adversarial = (kind & 1) != 0},
      .disk_bytes = kDiskBytes,
      .memory = &memory,
      .wrap = [&](Blk& blk) { return std::make_unique<Watcher>(blk, shadow); }};
  options.settings.readonly = (kind & 0x12) == 0x12;
  options.loop.short_percent = (kind & 4) != 0 ? 30 : 0;
  options.loop.fail_percent = (kind & 8) != 0 ? 10 : 0;
  options.direct_alignment = (kind & 0x20) != 0 ? 512 : 0;
  return options;
}

class BlkRun {
 public:
  BlkRun(FuzzInput& input, GuestMemory& memory)
      : input_(input), shadow_(memory), machine_(options_from(input, memory, shadow_)) {
    start();
  }

  void run() {
    while (!input_.empty()) step();
    machine_.transport.resume();
    reset();
  }

 private:
  void step() {
    switch (input_.below(14)) {
      case 0: return shadow_.write(GuestAddr(input_.take<uint16_t>() & 0x7fffU), input_.bytes(4));
      case 1:
      case 2: return write_descriptor();
      case 3: return request();
      case 4:
      case 5: return write_header();
      case 6:
      case 7: return make_available();
      case 8: return write_range();
      case 9: return turn();
      case 10: return settle();
      case 11: return pause();
      case 12:
        machine_.driver.start_queue_reset(QueueIndex(0));
        settle();
        return enable();
      default:
        if (input_.flag()) return machine_.driver.set_device_config(32, 1, input_.take<uint8_t>());
        reset();
        return start();
    }
  }

  void start() {
    auto features = machine_.driver.offered().without(Feature::RingPacked);
    features = features.without(Features(uint64_t{input_.take<uint8_t>()} << 8));
    if (input_.flag()) features = features.without(Feature::IndirectDesc);
    if (input_.flag()) features = features.without(Feature::EventIdx);
    const bool accepted = machine_.driver.negotiate(features);
    assert(accepted);
    if (input_.flag()) machine_.driver.enable_msix();
    enable();
    machine_.driver.driver_ok();
  }

  void enable() {
    avail_ = 0;
    config_ = {.size = static_cast<uint16_t>(4 << input_.below(4)),
               .enabled = true,
               .descriptors = GuestAddr(0),
               .driver_area = GuestAddr(0x1000U + (input_.take<uint8_t>() & 0xfeU)),
               .device_area = GuestAddr(0x1200U + (input_.take<uint8_t>() & 0xfcU))};
    const uint8_t oddity = input_.take<uint8_t>();
    if (oddity >= 0xe0) config_.device_area = GuestAddr(uint64_t{oddity} << 8);
    machine_.driver.enable_queue(QueueIndex(0), config_, 1);
    shadow_.grant(config_.device_area, ring::used_ring_size(config_.size));
  }

  void write_value(uint64_t at, const auto& value) {
    shadow_.write(GuestAddr(at), std::as_bytes(std::span(&value, 1)));
  }

  void write_descriptor() {
    const uint8_t place = input_.take<uint8_t>();
    const uint16_t flags = input_.take<uint8_t>();
    ring::Descriptor descriptor;
    descriptor.length = input_.take<uint8_t>();
    descriptor.flags = static_cast<uint16_t>(flags & 7);
    descriptor.next = static_cast<uint16_t>(place + 1);
    switch (flags >> 4) {
      case 0:
      case 1:
      case 2:  // a header
        descriptor.address = kHeaders + (flags >> 4) * 16U;
        descriptor.length = 16;
        break;
      case 3:
      case 4:
      case 5:  // whole sectors
        descriptor.address = 0x4000 + (descriptor.length & 0xfU) * 512U;
        descriptor.length = (descriptor.length >> 4) * 512U;
        break;
      case 6:  // a status
        descriptor.address = 0x2100 + descriptor.length;
        descriptor.length = 1;
        break;
      case 7:  // an indirect table, in the second half of the ring's
        descriptor.address = 0x200;
        descriptor.length = descriptor.length % 40U * 16;
        break;
      case 8: descriptor.next = input_.take<uint8_t>(); [[fallthrough]];
      case 9: descriptor.address = input_.take<uint16_t>(); break;
      case 10: descriptor.length = input_.take<uint32_t>(); [[fallthrough]];
      default: descriptor.address = 0x2200U + flags * 16U;
    }
    write_value(place % 64U * sizeof(descriptor), descriptor);
  }

  /// One that is as it should be: header, sectors or ranges, status.
  void request() {
    constexpr std::array<uint8_t, 6> kTypes{VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,
                                            VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
                                            VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    const uint8_t type = input_.pick(kTypes);
    const uint8_t shape = input_.take<uint8_t>();
    const auto first = static_cast<uint16_t>(shape % (config_.size / 4) * 4);
    const bool device_writes = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    BlkRequestHeader header;
    header.type = type;
    header.sector = input_.take<uint8_t>() % 32;
    write_value(kHeaders + 0x400 + first * 16U, header);
    uint32_t length = 512U * (1 + shape / 64U);
    if (type == VIRTIO_BLK_T_GET_ID) length = 20;
    if (type >= VIRTIO_BLK_T_DISCARD) length = 16U * (1 + shape / 64U);
    write_descriptor(first, kHeaders + 0x400 + first * 16U, 16, ring::kDescNext);
    write_descriptor(first + 1, 0x4000 + first * 128U, length,
                     ring::kDescNext | (device_writes ? ring::kDescWrite : 0));
    write_descriptor(first + 2, kHeaders + 0x800 + first, 1, ring::kDescWrite);
    offer(first);
  }
  void write_descriptor(unsigned index, uint64_t at, uint32_t length, int flags) {
    const ring::Descriptor descriptor{.address = at,
                                      .length = length,
                                      .flags = static_cast<uint16_t>(flags),
                                      .next = static_cast<uint16_t>(index + 1)};
    write_value(index * sizeof(descriptor), descriptor);
  }

  void write_header() {
    const uint8_t type = input_.take<uint8_t>();
    BlkRequestHeader header;
    header.type = type % 16;
    header.sector = input_.take<uint8_t>() % 40;
    if (type >= 0xf0) header.sector = input_.take<uint64_t>();
    write_value(kHeaders + (type >> 4) % 3U * 16, header);
  }

  /// Of DISCARD or WRITE_ZEROES.
  void write_range() {
    BlkRangeLayout range;
    range.sector = input_.take<uint8_t>() % 40;
    range.sectors = input_.take<uint8_t>() % 40;
    range.flags = input_.take<uint8_t>() % 4;
    write_value(0x4000 + input_.below(64) * sizeof(range), range);
  }

  void make_available() {
    const uint8_t head = input_.take<uint8_t>();
    if (head == 0xff) avail_ = static_cast<uint16_t>(avail_ + input_.take<uint8_t>());
    offer(head % 64);
  }
  void offer(uint16_t head) {
    const uint64_t area = config_.driver_area.value();
    write_value(area + ring::kEntries + 2UL * (avail_ % config_.size), le16(head));
    write_value(area + ring::kIndex, le16(++avail_));
    if (input_.flag()) machine_.driver.kick(QueueIndex(0));
  }

  void turn() {
    for (size_t turns = input_.below(8); turns > 0; --turns) machine_.loop.step();
  }
  void settle() { machine_.loop.run_until_idle(); }

  void pause() {
    machine_.transport.quiesce(quiet_);
    settle();
    if (input_.flag()) (void)machine_.transport.save();
    machine_.transport.resume();
  }

  void reset() {
    machine_.driver.start_reset();
    settle();
    assert(machine_.driver.status() == 0);
    shadow_.take_back();
  }

  FuzzInput& input_;
  Nothing quiet_;
  ShadowMemory shadow_;
  BlkMachine machine_;
  QueueConfig config_;
  uint16_t avail_ = 0;
};

}  // namespace
}  // namespace ringlet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringlet::GuestMemory memory(ringlet::kRegions, {});
  ringlet::FuzzInput input(data, size);
  ringlet::BlkRun(input, memory).run();
  return 0;
}
