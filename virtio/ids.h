// Numbers that the virtio specification gives: device IDs, feature bits, status bits.
#pragma once

#include <cstdint>

namespace ringlet {

/// Device IDs (virtio 1.3, 5).
enum class DeviceId : uint16_t {
  Net = 1,
  Block = 2,
  Console = 3,
  Entropy = 4,
  Balloon = 5,
  Vsock = 19,
  Mem = 24,
  Fs = 26,
  Pmem = 27,
};

/// Feature bits of the transport and the rings (virtio 1.3, 6). The enumerator is the bit number.
enum class Feature : uint8_t {
  IndirectDesc = 28,
  EventIdx = 29,
  Version1 = 32,
  AccessPlatform = 33,
  RingPacked = 34,
  InOrder = 35,
  OrderPlatform = 36,
  NotificationData = 38,
  NotifConfigData = 39,
  RingReset = 40,
};

/// Marks an enum whose enumerators are feature bit numbers.
template <typename E>
inline constexpr bool kIsFeature = false;
template <>
inline constexpr bool kIsFeature<Feature> = true;

/// A set of feature bits.
class Features {
 public:
  constexpr Features() = default;
  constexpr explicit Features(uint64_t bits) : bits_(bits) {}
  template <typename E>
  requires kIsFeature<E>
  // NOLINTNEXTLINE(google-explicit-constructor): a bit is a set of one
  constexpr Features(E bit) : bits_(uint64_t{1} << static_cast<unsigned>(bit)) {}

  constexpr uint64_t bits() const { return bits_; }
  constexpr bool has(Features one) const { return (bits_ & one.bits_) == one.bits_; }
  /// True when every bit of `other` is in this set.
  constexpr bool contains(Features other) const { return has(other); }
  constexpr Features operator|(Features other) const { return Features(bits_ | other.bits_); }
  constexpr Features operator&(Features other) const { return Features(bits_ & other.bits_); }
  constexpr Features without(Features other) const { return Features(bits_ & ~other.bits_); }
  constexpr bool operator==(const Features&) const = default;

 private:
  uint64_t bits_ = 0;
};

/// Device status bits (virtio 1.3, 2.1).
namespace status {
inline constexpr uint8_t kAcknowledge = 1;
inline constexpr uint8_t kDriver = 2;
inline constexpr uint8_t kDriverOk = 4;
inline constexpr uint8_t kFeaturesOk = 8;
inline constexpr uint8_t kNeedsReset = 64;
inline constexpr uint8_t kFailed = 128;
}  // namespace status

/// Which virtqueue of a device.
class QueueIndex {
 public:
  constexpr explicit QueueIndex(uint16_t value) : value_(value) {}
  constexpr uint16_t value() const { return value_; }
  constexpr auto operator<=>(const QueueIndex&) const = default;

 private:
  uint16_t value_;
};

}  // namespace ringlet
