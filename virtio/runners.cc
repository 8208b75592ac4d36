// A device on several I/O loops: its queues are dealt out to them, each with an instance of the
// device of its own.
#include "virtio/runners.h"

#include <cassert>
#include <utility>

namespace ringlet {

/// One loop's share. Stands between its runner and the transport, which knows of one device.
class Runners::Part final : public TransportEvents {
 public:
  Part(Runners& owner, const DevicePart& part, const GuestMemory& memory, QueueShare share)
      : runner(part.loop, memory, part.device, *this, share), loop(part.loop), all_(owner) {}

  // On this part's loop.
  Target queue_interrupt(QueueIndex queue) noexcept override {
    return all_.events_.queue_interrupt(queue);
  }
  Target config_interrupt() noexcept override { return all_.events_.config_interrupt(); }
  Target pending_intx() noexcept override { return all_.events_.pending_intx(); }
  int resample_fd() noexcept override { return all_.events_.resample_fd(); }
  void config_changed(size_t offset, std::span<const std::byte> bytes) noexcept override {
    all_.events_.config_changed(offset, bytes);
  }
  void needs_reset() noexcept override {
    all_.events_.needs_reset();
    all_.part_failed(*this);
  }
  void reset_done() noexcept override { all_.part_was_reset(); }
  void queue_reset_done(QueueIndex queue) noexcept override {
    all_.events_.queue_reset_done(queue);
  }

  /// What the first loop asks of this one.
  struct QuiesceTask final : Task {
    explicit QuiesceTask(Part& owner) : part(owner) {}
    void run() noexcept override { part.runner.quiesce(part.is_quiet); }
    Part& part;
  };
  /// Interrupts of its last batch are still on their way to the kernel: what is submitted behind
  /// them completes behind them.
  struct QuietTask final : Task, Completion {
    explicit QuietTask(Part& owner) : part(owner) {}
    void run() noexcept override { part.loop.timeout(0, *this); }
    void completed(int32_t, bool) noexcept override { part.all_.part_is_quiet(); }
    Part& part;
  };
  struct ResumeTask final : Task {
    explicit ResumeTask(Part& owner) : part(owner) {}
    void run() noexcept override { part.runner.resume(); }
    Part& part;
  };

  Runner runner;
  IoLoop& loop;
  QuiesceTask quiesce{*this};
  QuietTask is_quiet{*this};
  ResumeTask resume{*this};

 private:
  Runners& all_;
};

Runners::Runners(std::span<const DevicePart> parts, const GuestMemory& memory,
                 TransportEvents& events)
    : events_(events) {
  assert(!parts.empty());
  for (size_t i = 0; i < parts.size(); ++i) {
    const QueueShare share{.first = static_cast<uint16_t>(i),
                           .step = static_cast<uint16_t>(parts.size())};
    parts_.push_back(std::make_unique<Part>(*this, parts[i], memory, share));
  }
}

Runners::~Runners() = default;

Runner& Runners::of(QueueIndex queue) noexcept {
  return parts_[queue.value() % parts_.size()]->runner;
}

void Runners::request_activate(Runner::Activation activation) noexcept {
  activation.life = ++lives_;
  for (const auto& part : parts_) part->runner.request_activate(activation);
}

void Runners::request_config(std::span<const std::byte> config) noexcept {
  for (const auto& part : parts_) part->runner.request_config(config);
}

void Runners::set_bus_master(bool on) noexcept {
  for (const auto& part : parts_) part->runner.set_bus_master(on);
}

void Runners::request_serving() noexcept {
  for (const auto& part : parts_) part->runner.request_serving();
}

// Any loop can raise any interrupt.
void Runners::request_interrupt_check() noexcept {
  parts_.front()->runner.request_interrupt_check();
}

void Runners::request_signals(std::span<const TransportEvents::Target> targets) noexcept {
  parts_.front()->runner.request_signals(targets);
}

// Resets and failures -------------------------------------------------------------------------

// The transport asks for one only after the last was done.
void Runners::request_reset() noexcept {
  resets_left_.store(parts_.size(), std::memory_order_release);
  for (const auto& part : parts_) part->runner.request_reset();
}

void Runners::part_was_reset() noexcept {
  if (resets_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) events_.reset_done();
}

// The culprit may be at work while others have yet to hear of the activation.
void Runners::part_failed(Part& culprit) noexcept {
  for (const auto& part : parts_) {
    if (part.get() != &culprit) part->runner.request_failure(culprit.runner.life());
  }
}

// Pausing -------------------------------------------------------------------------------------

void Runners::quiesce(Task& done) noexcept {
  if (parts_.size() == 1) return parts_.front()->runner.quiesce(done);
  quiesce_done_ = &done;
  noisy_.store(parts_.size(), std::memory_order_release);
  parts_.front()->quiesce.run();
  for (size_t i = 1; i < parts_.size(); ++i) parts_[i]->loop.post(parts_[i]->quiesce);
}

void Runners::part_is_quiet() noexcept {
  if (noisy_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  parts_.front()->loop.post(*std::exchange(quiesce_done_, nullptr));
}

void Runners::resume() noexcept {
  parts_.front()->runner.resume();
  for (size_t i = 1; i < parts_.size(); ++i) parts_[i]->loop.post(parts_[i]->resume);
}

std::vector<QueuePosition> Runners::positions() const {
  std::vector<QueuePosition> positions = parts_.front()->runner.positions();
  for (size_t i = 0; i < positions.size(); ++i) {
    if (const size_t part = i % parts_.size(); part != 0) {
      positions[i] = parts_[part]->runner.positions()[i];
    }
  }
  return positions;
}

Runner::Counts Runners::counts() const {
  Runner::Counts sums;
  for (const auto& part : parts_) {
    const Runner::Counters& own = part->runner.counters();
    sums.kicks += own.kicks;
    sums.chains += own.chains;
    sums.interrupts += own.interrupts;
    sums.failures += own.failures;
  }
  return sums;
}

}  // namespace ringlet
