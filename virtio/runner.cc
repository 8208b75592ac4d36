// A device's life on the I/O loop: activation, kicks, batches, resets. Common to all devices.
#include "virtio/runner.h"

#include <cassert>
#include <utility>

namespace ringlet {
namespace {

/// Chains handed to a device in one turn; what is left waits for the next, so that one busy queue
/// does not starve the others.
constexpr unsigned kChainsPerTurn = 128;

}  // namespace

Runner::Runner(IoLoop& loop, const GuestMemory& memory, Device& device, TransportEvents& events)
    : loop_(loop), memory_(memory), device_(device), events_(events) {
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

void Runner::read_mail() noexcept {
  Mailbox mail;
  {
    const std::scoped_lock lock(mail_mutex_);
    mail.enables.resize(lanes_.size());
    mail.queue_resets.resize(lanes_.size());
    std::swap(mail, mail_);
  }
  if (!attached_) {
    attached_ = true;
    device_.attach(*this);
  }
  if (mail.config) device_.config_written(*mail.config);
  if (mail.activation) activate(*mail.activation);
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    if (mail.enables[i] && phase_ == Phase::Active && !lane.queue) {
      start_queue(lane, *mail.enables[i], {});
    }
    if (mail.queue_resets[i]) begin_queue_reset(lane);
  }
  if (mail.reset) begin_reset();
  if (mail.check_interrupt && events_.intx_still_wanted()) signal(events_.config_interrupt());
}

// Activation ----------------------------------------------------------------------------------

void Runner::activate(const Activation& activation) noexcept {
  if (phase_ != Phase::Inactive) return;
  phase_ = Phase::Active;
  failed_ = false;
  features_ = activation.features;
  device_.activate(features_);
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (!activation.queues[i].enabled) continue;
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
  if (!lane.polling && lane.kick) {
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
  if (result < 0) return;  // cancelled: the loop is being drained
  runner.counters_.kicks.fetch_add(1, std::memory_order_relaxed);
  if (!more) {
    polling = true;
    runner.loop_.poll(kick_file, *this);
  }
  runner.serve(*this);
}

void Runner::serve(Lane& lane) noexcept {
  if (!serving() || !lane.queue || lane.resetting) return;
  Queue& queue = *lane.queue;
  queue.suppress_kicks();
  unsigned handled = 0;
  do {
    while (handled < kChainsPerTurn) {
      auto chain = queue.pop();
      if (!chain) break;
      ++handled;
      device_.handle(std::move(*chain));
      if (!serving()) return;
    }
    if (handled == kChainsPerTurn) {
      loop_.post(lane.serve);
      break;
    }
  } while (queue.allow_kicks());
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
  if (lane.queue->publish()) signal(events_.queue_interrupt(lane.index));
}

void Runner::signal(TransportEvents::Target target) noexcept {
  if (target.fd < 0) return;
  const bool intx = target.key == TransportEvents::kIntxKey;
  const size_t key = intx ? interrupt_files_.size() - 1 : target.key;
  IoFile& file = interrupt_files_[key];
  if (!file) file = loop_.add_file(target.fd);
  if (!file) return;  // the loop has logged it
  if (intx && !resample_.polling) {
    const IoFile resample = loop_.add_file(events_.resample_fd());
    if (resample) {
      resample_.polling = true;
      loop_.poll(resample, resample_);
    }
  }
  counters_.interrupts.fetch_add(1, std::memory_order_relaxed);
  loop_.signal(file);
}

void Runner::Resample::completed(int32_t result, bool more) noexcept {
  polling = more;
  if (result < 0) return;
  if (runner.events_.intx_still_wanted()) runner.loop_.signal(runner.interrupt_files_.back());
}

void Runner::change_config(size_t offset, std::span<const std::byte> bytes) noexcept {
  events_.config_changed(offset, bytes);
  if (phase_ == Phase::Active) signal(events_.config_interrupt());
}

void Runner::fail(std::string_view why) noexcept {
  if (failed_) return;
  failed_ = true;
  counters_.failures.fetch_add(1, std::memory_order_relaxed);
  if (log_limit_.allow()) {
    log_warn("{}: {}; the device waits for a reset", device_.traits().name, why);
  }
  events_.needs_reset();
  signal(events_.config_interrupt());
}

// Resets --------------------------------------------------------------------------------------

void Runner::begin_reset() noexcept {
  if (phase_ == Phase::Stopping) return;
  if (phase_ == Phase::Inactive) {
    events_.reset_done();
    return;
  }
  phase_ = Phase::Stopping;
  for (const auto& lane : lanes_) {
    if (lane->queue && lane->queue->in_flight() > 0) device_.cancel(lane->index);
  }
  if (phase_ == Phase::Stopping) chain_came_home(*lanes_.front());
}

void Runner::begin_queue_reset(Lane& lane) noexcept {
  if (phase_ != Phase::Active || lane.resetting) {
    if (phase_ == Phase::Inactive) events_.queue_reset_done(lane.index);
    return;
  }
  lane.resetting = true;
  if (lane.queue && lane.queue->in_flight() > 0) device_.cancel(lane.index);
  if (lane.resetting) chain_came_home(lane);
}

bool Runner::idle() const noexcept {
  for (const auto& lane : lanes_) {
    if (lane->queue && lane->queue->in_flight() > 0) return false;
  }
  return true;
}

void Runner::chain_came_home(Lane& lane) noexcept {
  if (lane.resetting && (!lane.queue || lane.queue->in_flight() == 0)) {
    lane.queue.reset();
    lane.resetting = false;
    events_.queue_reset_done(lane.index);
  }
  if (phase_ == Phase::Stopping && idle()) {
    for (const auto& other : lanes_) {
      other->queue.reset();
      other->resetting = false;
    }
    device_.reset();
    phase_ = Phase::Inactive;
    failed_ = false;
    events_.reset_done();
  } else if (quiesced_ && quiesce_done_ != nullptr && idle()) {
    loop_.defer(*std::exchange(quiesce_done_, nullptr));
  }
}

// Pausing -------------------------------------------------------------------------------------

void Runner::quiesce(Task& done) noexcept {
  quiesced_ = true;
  if (idle()) {
    loop_.defer(done);
  } else {
    quiesce_done_ = &done;
  }
}

void Runner::resume() noexcept {
  quiesced_ = false;
  for (const auto& lane : lanes_) {
    if (lane->queue) loop_.post(lane->serve);
  }
}

std::vector<QueuePosition> Runner::positions() const {
  std::vector<QueuePosition> positions;
  for (const auto& lane : lanes_) {
    positions.push_back(lane->queue ? lane->queue->position() : QueuePosition{});
  }
  return positions;
}

}  // namespace ringlet
