// The disk path in one thread, for tools that count what a program executes: a device on the real
// I/O loop, and a driver that takes turns with it there. See tools/bench/blk_path.
#include <linux/virtio_blk.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/core.h>

#include "kvm/error.h"
#include "kvm/uring_loop.h"
#include "tests/fake/pci_board.h"
#include "tests/fake/split_driver_queue.h"
#include "virtio/blk.h"
#include "virtio/blk_layout.h"

namespace ringlet::bench {
namespace {

struct Options {
  std::string file;
  uint64_t requests = 10'000;
  uint16_t depth = 32;
  uint32_t block = 4096;
  bool packed = false;
  bool sequential = false;
};

/// Keeps `depth` reads in flight: in each of the loop's turns it takes what is used, and asks for
/// as many again. Polls, so no interrupt is wanted.
class ReadingDriver final : public Task {
 public:
  ReadingDriver(UringLoop& loop, PciDriver& driver, DriverQueue& queue, GuestHeap& heap,
                const Options& options, uint64_t blocks)
      : loop_(loop),
        driver_(driver),
        queue_(queue),
        heap_(heap),
        options_(options),
        blocks_(blocks) {
    queue_.interrupts_off();
    for (uint16_t i = 0; i < options.depth; ++i) {
      const GuestAddr header = heap.take(sizeof(BlkRequestHeader));
      const GuestAddr data = heap.take(options.block, 4096);
      const GuestAddr status = heap.take(1);
      slots_.push_back({{{header, sizeof(BlkRequestHeader), false},
                         {data, options.block, true},
                         {status, 1, true}}});
      idle_.push_back(i);
    }
    by_head_.resize(queue.size());
  }

  void run() noexcept override {
    while (const auto used = queue_.take_used()) {
      ++done_;
      idle_.push_back(by_head_[used->head]);
    }
    if (done_ >= options_.requests) return loop_.stop();
    for (; !idle_.empty(); idle_.pop_back()) submit(idle_.back());
    if (queue_.publish()) {
      ++kicks_;
      driver_.kick(QueueIndex(0));
    }
    loop_.defer(*this);  // to the next turn
  }

  uint64_t done() const { return done_; }
  uint64_t kicks() const { return kicks_; }

 private:
  void submit(uint16_t slot) {
    const BlkRequestHeader header{.type = VIRTIO_BLK_T_IN,
                                  .sector = next_block() * options_.block / 512};
    const auto& chain = slots_[slot];
    static_cast<void>(heap_.memory().write(chain[0].at, std::as_bytes(std::span(&header, 1))));
    by_head_[queue_.add_indirect(chain).value()] = slot;
  }
  uint64_t next_block() {
    if (options_.sequential) return ++seed_ % blocks_;
    seed_ = seed_ * 6364136223846793005 + 1442695040888963407;
    return (seed_ >> 33) % blocks_;
  }

  UringLoop& loop_;
  PciDriver& driver_;
  DriverQueue& queue_;
  GuestHeap& heap_;
  const Options& options_;
  const uint64_t blocks_;
  std::vector<std::array<Segment, 3>> slots_;
  std::vector<uint16_t> idle_;
  std::vector<uint16_t> by_head_;
  uint64_t done_ = 0;
  uint64_t kicks_ = 0;
  uint64_t seed_ = 1;
};

void run(const Options& options) {
  const Fd file(check(::open(options.file.c_str(), O_RDONLY | O_CLOEXEC), options.file.c_str()));
  struct stat status {};
  check(::fstat(file.get(), &status), "fstat");
  const auto bytes = static_cast<uint64_t>(status.st_size) / options.block * options.block;
  if (bytes == 0) throw std::runtime_error(options.file + ": expected a block at least");
  UringLoop loop;
  Blk blk({.name = "disk", .readonly = true}, {.fd = file.get(), .size = bytes});
  GuestMemory memory(std::span(&PciBoard::kMemory, 1), {});
  GuestHeap heap(memory, {PciBoard::kHeapStart, PciBoard::kMemory.size - PciBoard::kHeapStart});
  PciBoard board(blk, loop, memory);
  PciDriver& driver = board.driver;
  driver.enable_msix();
  Features wanted = Features(Feature::Version1) | Feature::EventIdx | Feature::IndirectDesc;
  if (options.packed) wanted = wanted | Feature::RingPacked;
  if (!driver.negotiate(wanted)) throw std::runtime_error("the device refuses the features");
  const auto queue = make_driver_queue(heap, 256, wanted);
  driver.enable_queue(QueueIndex(0), queue->config(), 0);
  driver.driver_ok();
  ReadingDriver reading(loop, driver, *queue, heap, options, bytes / options.block);
  loop.post(reading);
  loop.run();
  fmt::print("requests {} turns {} system calls {} kicks {}\n", reading.done(), loop.turns(),
             loop.enters(), reading.kicks());
}

}  // namespace
}  // namespace ringlet::bench

int main(int argc, char** argv) {
  using namespace ringlet::bench;
  Options options;
  CLI::App app("Reads of a disk by a driver that shares the I/O loop's thread");
  app.add_option("FILE", options.file)->required();
  app.add_option("--requests", options.requests);
  app.add_option("--depth", options.depth)->check(CLI::Range(1, 128));
  app.add_option("--block", options.block)->check(CLI::IsMember({512, 4096, 65536}));
  app.add_flag("--packed", options.packed);
  app.add_flag("--sequential", options.sequential);
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "blk_path: {}\n", error.what());
    return 1;
  }
  return 0;
}
