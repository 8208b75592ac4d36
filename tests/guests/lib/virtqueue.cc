// Virtqueue, driver side, split or packed: descriptors out, used elements back.
#include "lib/virtqueue.h"

namespace guest {

Virtqueue::Virtqueue(uint16_t size, const Options& options) : size_(size) {
  reset(options);
}

void Virtqueue::reset(const Options& options) {
  packed_ = options.packed;
  if (packed_) {
    packed_ring_ ? packed_ring_->reset(options) : void(packed_ring_.emplace(size_, options));
  } else {
    split_ring_ ? split_ring_->reset(options) : void(split_ring_.emplace(size_, options));
  }
}

uint16_t Virtqueue::free_descriptors() const {
  return packed_ ? packed_ring_->free_descriptors() : split_ring_->free_descriptors();
}
QueueAreas Virtqueue::areas() const {
  return packed_ ? packed_ring_->areas() : split_ring_->areas();
}
QueueMemory Virtqueue::written_by_device() const {
  return packed_ ? packed_ring_->written_by_device() : split_ring_->written_by_device();
}
std::optional<uint16_t> Virtqueue::add(Span<const Segment> segments) {
  return packed_ ? packed_ring_->add(segments) : split_ring_->add(segments);
}
bool Virtqueue::publish() {
  return packed_ ? packed_ring_->publish() : split_ring_->publish();
}
std::optional<UsedElement> Virtqueue::take_used() {
  return packed_ ? packed_ring_->take_used() : split_ring_->take_used();
}
void Virtqueue::disable_interrupts() {
  packed_ ? packed_ring_->disable_interrupts() : split_ring_->disable_interrupts();
}
bool Virtqueue::enable_interrupts(uint16_t more) {
  return packed_ ? packed_ring_->enable_interrupts(more) : split_ring_->enable_interrupts(more);
}

}  // namespace guest
