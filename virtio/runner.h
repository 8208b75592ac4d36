// A device's life on the I/O loop: activation, kicks, batches, resets. Common to all devices.
//
//   inactive ── activate ──► active ── reset ──► stopping ── last chain back ──► stopped
//       ▲                                                                          │
//       └──────────────── the driver is told, and not notified after that ─────────┘
//
// vCPU threads leave requests in a mailbox, which never grows: each is a state to reach, not an
// event. The loop empties it. A reset is done when every chain has come home, so that no guest
// memory is touched afterwards (virtio 1.3, 2.4.1, 2.6.1).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "kvm/fd.h"
#include "kvm/io_loop.h"
#include "kvm/log.h"
#include "kvm/memory.h"
#include "virtio/device.h"
#include "virtio/interrupt.h"
#include "virtio/queue.h"

namespace ringlet {

/// Which queues a runner serves: `first`, and every `step`th after it.
struct QueueShare {
  uint16_t first = 0;
  uint16_t step = 1;
  bool has(QueueIndex queue) const { return queue.value() % step == first; }
};

class Runner final : public DeviceHost {
 public:
  /// What activation needs to know.
  struct Activation {
    Features features;
    std::vector<QueueConfig> queues;  // one for each queue of the device
    bool restored = false;            // only then what follows
    std::vector<QueuePosition> positions{};
    std::vector<std::byte> config{};
    bool failed = false;  // NEEDS_RESET was set
    uint64_t life = 0;    // told apart by this, see request_failure()
  };
  /// For metrics; written by the loop, read by any thread.
  struct Counters {
    std::atomic<uint64_t> kicks{0};
    std::atomic<uint64_t> chains{0};
    std::atomic<uint64_t> interrupts{0};
    std::atomic<uint64_t> failures{0};
  };

  /// Their values at one time.
  struct Counts {
    uint64_t kicks = 0;
    uint64_t chains = 0;
    uint64_t interrupts = 0;
    uint64_t failures = 0;
  };

  /// `events` and `loop` must outlive it. Nothing is set up before the first activation.
  Runner(IoLoop& loop, const GuestMemory& memory, Device& device, TransportEvents& events,
         QueueShare share = {});
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  /// The loop must have been stopped and drained.
  ~Runner();

  // For vCPU threads, under the bus mutex. Each returns at once.

  /// The eventfd that a kick of `queue` signals. Made at the first call; throws
  /// std::system_error.
  int kick_fd(QueueIndex queue);
  /// Kicks from a thread instead of an ioeventfd.
  void kick(QueueIndex queue) noexcept;
  void request_activate(Activation activation) noexcept;
  void request_reset() noexcept;
  /// Another part of the device has failed in the life that this activation began, or is about to
  /// begin: no chain is taken in it. Any thread.
  void request_failure(uint64_t life) noexcept;
  /// Of the last activation. On the loop.
  uint64_t life() const { return life_; }
  void request_queue_enable(QueueIndex queue, const QueueConfig& config) noexcept;
  void request_queue_reset(QueueIndex queue) noexcept;
  void request_config(std::span<const std::byte> config) noexcept;
  /// Whether the device may touch guest memory of its own accord (PCI 3.0, 6.2.2). While it may
  /// not, which is so at first, it takes no chains; those it has come home. When a live device may
  /// again, request_serving().
  void set_bus_master(bool on) noexcept { bus_master_.store(on, std::memory_order_release); }
  void request_serving() noexcept;
  /// INTx has just been enabled: what is pending has to be raised.
  void request_interrupt_check() noexcept;
  /// After a restore: notifications that were under way when the state was saved.
  void request_signals(std::span<const TransportEvents::Target> targets) noexcept;

  // On the loop.

  /// Stops popping and calls `done` once every chain has come home; resume() undoes it.
  void quiesce(Task& done) noexcept;
  void resume() noexcept;
  /// Where the queues stand; for save, when quiesced.
  std::vector<QueuePosition> positions() const;

  const Counters& counters() const { return counters_; }

  // DeviceHost
  IoLoop& loop() noexcept override { return loop_; }
  const GuestMemory& memory() const noexcept override { return memory_; }
  void complete(Chain chain, uint32_t written) noexcept override;
  void change_config(size_t offset, std::span<const std::byte> bytes) noexcept override;
  void fail(std::string_view why) noexcept override;
  bool serves(QueueIndex queue) const noexcept override { return share_.has(queue); }

 private:
  enum class Phase : uint8_t { Inactive, Active, Stopping, Stopped };

  /// Requests that the loop has not seen yet.
  struct Mailbox {
    std::optional<Activation> activation;
    std::optional<uint64_t> failed_life;  // of another part
    bool reset = false;
    bool check_interrupt = false;
    bool serve = false;
    std::optional<std::vector<std::byte>> config;
    std::vector<TransportEvents::Target> signals;
    std::vector<std::optional<QueueConfig>> enables;
    std::vector<bool> queue_resets;
  };

  /// One virtqueue's place on the loop; exists for good, its Queue comes and goes.
  struct Lane final : Completion, Poller {
    Lane(Runner& owner, uint16_t number)
        : runner(owner), index(number), serve(*this), publish(*this) {}
    void completed(int32_t result, bool more) noexcept override;
    bool poll() noexcept override;
    bool arm() noexcept override;

    struct ServeTask final : Task {
      explicit ServeTask(Lane& owner) : lane(owner) {}
      void run() noexcept override { lane.runner.serve(lane); }
      Lane& lane;
    };
    struct PublishTask final : Task {
      explicit PublishTask(Lane& owner) : lane(owner) {}
      void run() noexcept override { lane.runner.publish(lane); }
      Lane& lane;
    };

    Runner& runner;
    const QueueIndex index;
    std::unique_ptr<EventFd> kick;  // made under the bus mutex, before the loop learns of it
    IoFile kick_file;
    bool polling = false;
    std::unique_ptr<Queue> queue;
    bool resetting = false;
    bool drained = false;  // resetting, and all has come home
    ServeTask serve;
    PublishTask publish;
  };
  struct MailTask final : Task {
    explicit MailTask(Runner& owner) : runner(owner) {}
    void run() noexcept override { runner.read_mail(); }
    Runner& runner;
  };
  /// Watches for the guest's acknowledgement of the shared INTx line.
  struct Resample final : Completion {
    explicit Resample(Runner& owner) : runner(owner) {}
    void completed(int32_t result, bool more) noexcept override;
    Runner& runner;
    IoFile file;
    bool polling = false;
  };

  /// Completes when all notifications sent before it are out.
  struct Barrier final : Completion {
    explicit Barrier(Runner& owner) : runner(owner) {}
    void completed(int32_t, bool) noexcept override { runner.announce_resets(); }
    Runner& runner;
    bool under_way = false;
    bool again = false;
  };

  void post_mail() noexcept;
  void read_mail() noexcept;
  void deliver_config() noexcept;
  void activate(const Activation& activation) noexcept;
  void start_queue(Lane& lane, const QueueConfig& config, QueuePosition position) noexcept;
  void begin_reset() noexcept;
  void begin_queue_reset(Lane& lane) noexcept;
  bool may_serve(const Lane& lane) const noexcept {
    return serving() && lane.queue && !lane.resetting;
  }
  void serve(Lane& lane) noexcept;
  void publish(Lane& lane) noexcept;
  void chain_came_home(Lane& lane) noexcept;
  void raise_barrier() noexcept;
  void announce_resets() noexcept;
  void serve_all() noexcept;
  void signal(TransportEvents::Target target) noexcept;
  void watch_resample() noexcept;
  void raise_pending_intx() noexcept;
  bool idle() const noexcept;
  bool quiet() const noexcept { return idle() && !barrier_.under_way; }
  bool serving() const noexcept {
    return phase_ == Phase::Active && !failed_ && !quiesced_ &&
           bus_master_.load(std::memory_order_acquire);
  }

  IoLoop& loop_;
  const GuestMemory& memory_;
  Device& device_;
  TransportEvents& events_;
  const QueueShare share_;

  std::mutex mail_mutex_;
  Mailbox mail_;
  std::atomic<bool> config_in_mail_{false};
  std::atomic<bool> bus_master_{false};

  // The loop's own.
  MailTask mail_task_{*this};
  Resample resample_{*this};
  Barrier barrier_{*this};
  Phase phase_ = Phase::Inactive;
  bool attached_ = false;
  bool failed_ = false;
  uint64_t life_ = 0;
  std::optional<uint64_t> failed_life_;  // the latest in which another part failed
  bool quiesced_ = false;
  Task* quiesce_done_ = nullptr;
  Features features_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<IoFile> interrupt_files_;  // by Target::key; the last is the INTx line
  LogLimit log_limit_;
  Counters counters_;
};

}  // namespace ringlet
