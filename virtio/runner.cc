// A device's life on the I/O loop: activation, kicks, batches, resets. Common to all devices.
#include "virtio/runner.h"

#include <cassert>
#include <cerrno>
#include <utility>

namespace ringlet {
namespace {

/// Chains handed to a device in one turn; what is left waits for the next, so that one busy queue
/// does not starve the others.
constexpr unsigned kChainsPerTurn = 128;

}  // namespace

Runner::Runner(IoLoop& loop, const GuestMemory& memory, Device& device, TransportEvents& events,
               QueueShare share)
    : loop_(loop), memory_(memory), device_(device), events_(events), share_(share) {
  const size_t queues = device.traits().queue_sizes.size();
  for (size_t i = 0; i < queues; ++i) {
    lanes_.push_back(std::make_unique<Lane>(*this, static_cast<uint16_t>(i)));
  }
  mail_.enables.resize(queues);
  mail_.queue_resets.resize(queues);
  interrupt_files_.resize(queues + 2);  // a vector for each queue, one for configuration, INTx
}

Runner::~Runner() = default;

int Runner::kick_fd(QueueIndex queue) {
  Lane& lane = *lanes_[queue.value()];
  if (!lane.kick) lane.kick = std::make_unique<EventFd>();
  return lane.kick->fd();
}

void Runner::kick(QueueIndex queue) noexcept {
  const Lane& lane = *lanes_[queue.value()];
  if (lane.kick) lane.kick->signal();
}

// The mailbox ---------------------------------------------------------------------------------

void Runner::post_mail() noexcept {
  loop_.post(mail_task_);
}

void Runner::request_activate(Activation activation) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.activation = std::move(activation);
  }
  post_mail();
}

void Runner::request_reset() noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.reset = true;
  }
  post_mail();
}

void Runner::request_failure(uint64_t life) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.failed_life = life;
  }
  post_mail();
}

void Runner::request_queue_enable(QueueIndex queue, const QueueConfig& config) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.enables[queue.value()] = config;
  }
  post_mail();
}

void Runner::request_queue_reset(QueueIndex queue) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.queue_resets[queue.value()] = true;
  }
  post_mail();
}

void Runner::request_config(std::span<const std::byte> config) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.config.emplace(config.begin(), config.end());
    config_in_mail_.store(true, std::memory_order_release);
  }
  post_mail();
}

void Runner::request_serving() noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.serve = true;
  }
  post_mail();
}

void Runner::request_interrupt_check() noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.check_interrupt = true;
  }
  post_mail();
}

void Runner::request_signals(std::span<const TransportEvents::Target> targets) noexcept {
  {
    const std::scoped_lock lock(mail_mutex_);
    mail_.signals.assign(targets.begin(), targets.end());
  }
  post_mail();
}

// A configuration that the driver wrote counts for every chain it made available afterwards, also
// for one that is popped before the mail is read.
void Runner::deliver_config() noexcept {
  if (!config_in_mail_.load(std::memory_order_acquire)) return;
  std::optional<std::vector<std::byte>> config;
  {
    const std::scoped_lock lock(mail_mutex_);
    std::swap(config, mail_.config);
    config_in_mail_.store(false, std::memory_order_relaxed);
  }
  if (config) device_.config_written(*config);
}

void Runner::read_mail() noexcept {
  if (!attached_) {
    attached_ = true;
    device_.attach(*this);
  }
  Mailbox mail;
  {
    const std::scoped_lock lock(mail_mutex_);
    mail.enables.resize(lanes_.size());
    mail.queue_resets.resize(lanes_.size());
    std::swap(mail, mail_);
    std::swap(mail.config, mail_.config);  // stays for deliver_config()
  }
  if (mail.serve) serve_all();
  if (mail.activation) activate(*mail.activation);
  if (mail.failed_life) failed_life_ = mail.failed_life;
  if (phase_ == Phase::Active && failed_life_ == life_) failed_ = true;
  // After a restore it is newer than the configuration that was saved.
  deliver_config();
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    if (mail.enables[i] && phase_ == Phase::Active && !lane.queue) {
      start_queue(lane, *mail.enables[i], {});
    }
    if (mail.queue_resets[i]) begin_queue_reset(lane);
  }
  for (const TransportEvents::Target& target : mail.signals) signal(target);
  if (mail.check_interrupt) raise_pending_intx();
  if (mail.reset) begin_reset();
}

// Activation ----------------------------------------------------------------------------------

void Runner::activate(const Activation& activation) noexcept {
  if (phase_ != Phase::Inactive) return;
  phase_ = Phase::Active;
  life_ = activation.life;
  failed_ = activation.failed || failed_life_ == life_;
  features_ = activation.features;
  if (activation.restored) {
    device_.restore(features_, activation.config);
  } else {
    device_.activate(features_);
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (!activation.queues[i].enabled || !share_.has(lanes_[i]->index)) continue;
    const auto position =
        i < activation.positions.size() ? activation.positions[i] : QueuePosition{};
    start_queue(*lanes_[i], activation.queues[i], position);
  }
}

void Runner::start_queue(Lane& lane, const QueueConfig& config, QueuePosition position) noexcept {
  std::string_view why;
  lane.queue = Queue::create(memory_, lane.index, config, features_, position, why);
  if (!lane.queue) {
    fail(why);
    return;
  }
  if (!lane.kick) {
    fail("the host has no descriptor left for the queue's doorbell");
    return;
  }
  if (!lane.polling) {
    if (!lane.kick_file) lane.kick_file = loop_.add_file(lane.kick->fd());
    if (!lane.kick_file) {
      fail("the host has no room for the queue's doorbell");
      return;
    }
    lane.polling = true;
    loop_.poll(lane.kick_file, lane);
  }
  // Chains may have been made available before; their kick may have come before the poll.
  loop_.post(lane.serve);
}

// Serving -------------------------------------------------------------------------------------

void Runner::Lane::completed(int32_t result, bool more) noexcept {
  polling = more;
  if (result < 0) {
    // Cancelled: the loop is being drained.
    if (result != -ECANCELED) runner.fail("the host cannot watch a queue's doorbell");
    return;
  }
  runner.counters_.kicks.fetch_add(1, std::memory_order_relaxed);
  if (!more) {
    polling = true;
    runner.loop_.poll(kick_file, *this);
  }
  runner.serve(*this);
}

bool Runner::Lane::poll() noexcept {
  if (!runner.may_serve(*this) || !queue->has_avail()) return false;
  runner.serve(*this);
  return true;
}

// A queue that is not served now wants no kicks: it is looked at when that changes.
bool Runner::Lane::arm() noexcept {
  return !runner.may_serve(*this) || !queue->allow_kicks();
}

// What is left when the turn's share is used up, and what comes while the loop is awake, the loop
// finds by polling; kicks are asked for again before it sleeps (2.7.10).
void Runner::serve(Lane& lane) noexcept {
  if (!may_serve(lane)) return;
  Queue& queue = *lane.queue;
  queue.suppress_kicks();
  loop_.watch(lane);
  unsigned handled = 0;
  while (handled < kChainsPerTurn && serving()) {
    auto chain = queue.pop();
    if (!chain) break;
    ++handled;
    deliver_config();
    device_.handle(std::move(*chain));
  }
  counters_.chains.fetch_add(handled, std::memory_order_relaxed);
  device_.batch_end(lane.index);
  if (!queue.broken().empty()) fail(queue.broken());
}

void Runner::complete(Chain chain, uint32_t written) noexcept {
  Lane& lane = *lanes_[chain.queue().index().value()];
  if (lane.resetting || phase_ == Phase::Stopping) {
    Queue::abandon(std::move(chain));
  } else {
    lane.queue->complete(std::move(chain), written);
    loop_.defer(lane.publish);
  }
  chain_came_home(lane);
}

void Runner::publish(Lane& lane) noexcept {
  if (!lane.queue || lane.resetting || phase_ != Phase::Active) return;
  if (loop_.polls()) {
    // A driver that waits for what it is shown now answers with new chains soon.
    lane.queue->suppress_kicks();
    loop_.watch(lane);
  }
  if (lane.queue->publish()) signal(events_.queue_interrupt(lane.index));
}

void Runner::signal(TransportEvents::Target target) noexcept {
  // Once the barrier of a reset is raised it is too late, e.g. for an INTx line acknowledged since.
  if (target.fd < 0 || phase_ == Phase::Stopped) return;
  const bool intx = target.key == TransportEvents::kIntxKey;
  const size_t key = intx ? interrupt_files_.size() - 1 : target.key;
  IoFile& file = interrupt_files_[key];
  if (!file) file = loop_.add_file(target.fd);
  if (!file) return;  // the loop has logged it
  if (intx) watch_resample();
  counters_.interrupts.fetch_add(1, std::memory_order_relaxed);
  loop_.signal(file);
}

void Runner::watch_resample() noexcept {
  if (resample_.polling) return;
  if (!resample_.file) resample_.file = loop_.add_file(events_.resample_fd());
  if (!resample_.file) return;
  resample_.polling = true;
  loop_.poll(resample_.file, resample_);
}

void Runner::Resample::completed(int32_t result, bool more) noexcept {
  polling = more;
  if (result < 0) return;
  runner.watch_resample();
  runner.raise_pending_intx();
}

// Not by a part of the device that was reset ahead of the others, which keep the line's reason
// alive for a while.
void Runner::raise_pending_intx() noexcept {
  if (phase_ == Phase::Active) signal(events_.pending_intx());
}

void Runner::change_config(size_t offset, std::span<const std::byte> bytes) noexcept {
  events_.config_changed(offset, bytes);
  if (phase_ == Phase::Active) signal(events_.config_interrupt());
}

void Runner::fail(std::string_view why) noexcept {
  if (failed_ || phase_ != Phase::Active) return;
  failed_ = true;
  counters_.failures.fetch_add(1, std::memory_order_relaxed);
  if (log_limit_.allow()) {
    log_warn("{}: {}; the device waits for a reset", device_.traits().name, why);
  }
  events_.needs_reset();
  signal(events_.config_interrupt());
}

}  // namespace ringlet
