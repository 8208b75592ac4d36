// Attacks by registers: the common configuration in every wrong order, and every width everywhere.
#include "hostile.h"
#include "lib/interrupts.h"

namespace guest::hostile {
namespace {

constexpr uint64_t kBarBytes = 0x8000;
constexpr uint64_t kNotifyPage = 0x3000;

// A generator that gives the same numbers every time (xorshift64).
class Random {
 public:
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

 private:
  uint64_t state_ = 0x1234'5678'9abc'def1;
};

void expect_status(Target& target, uint8_t status, const char* what) {
  const uint8_t got = target.device().status();
  expect(got == status, "{}: status {}", what, hex(got));
  print("{}: status {}\n", what, hex(status));
}

// Offers feature bits beyond VERSION_1 as the driver's wish; returns the status afterwards.
uint8_t wish(Target& target, uint32_t select, uint32_t bits) {
  VirtioPci& device = target.device();
  device.reset();
  device.set(common::kDeviceStatus, kAcknowledge);
  device.set(common::kDeviceStatus, uint8_t{kAcknowledge | kDriver});
  device.set(common::kDriverFeatureSelect, uint32_t{1});
  device.set(common::kDriverFeature, uint32_t{1});
  device.set(common::kDriverFeatureSelect, select);
  device.set(common::kDriverFeature, bits);
  device.set(common::kDeviceStatus, uint8_t{kAcknowledge | kDriver | kFeaturesOk});
  return device.status();
}

void wrong_steps(Target& target) {
  VirtioPci& device = target.device();
  const auto set = [&](uint8_t status) { device.set(common::kDeviceStatus, status); };
  device.reset();
  set(kDriverOk);
  expect_status(target, 0, "DRIVER_OK first");
  set(kFeaturesOk | kDriverOk);
  expect_status(target, 0, "FEATURES_OK first");
  set(kDriver);
  expect_status(target, 0, "DRIVER first");
  set(kAcknowledge | kDriver | kDriverOk);
  expect_status(target, kAcknowledge | kDriver, "DRIVER_OK before FEATURES_OK");
  set(kNeedsReset | kAcknowledge | kDriver);
  expect_status(target, kAcknowledge | kDriver, "NEEDS_RESET by the driver");
  set(0xff & ~kNeedsReset);
  expect_status(target, kAcknowledge | kDriver, "everything at once, without a feature");
  set(0);
  set(0);
  expect_status(target, 0, "reset twice");

  expect(wish(target, 0, 0xffff'ffff) == 3, "features that were not offered are taken");
  expect(wish(target, 1, 0xffff'ffff) == 3, "features that were not offered are taken");
  expect(wish(target, 2, 1) == 3, "features above 64 are taken");
  expect(wish(target, 0xffff'ffff, 1) == 3, "features of no select are taken");
  expect(wish(target, 1, 0) == 3, "a driver without VERSION_1 is taken");
  expect_status(target, kAcknowledge | kDriver, "wrong features");
}

void wrong_queues(Target& target) {
  VirtioPci& device = target.device();
  target.prepare();
  const uint16_t largest = device.queue_size(0);
  for (const uint16_t size : {uint16_t{0}, uint16_t{3}, uint16_t{32768}, uint16_t{65535}}) {
    device.set(common::kQueueSize, size);
    expect(device.get(common::kQueueSize) == largest, "queue size {} is taken", size);
  }
  for (const uint16_t queue : {uint16_t{1000}, uint16_t{65535}}) {
    expect(device.queue_size(queue) == 0, "queue {} exists", queue);
    target.place_queue(queue, arena_place());
    expect(device.get(common::kQueueEnable) == 0 && device.get(common::kQueueDesc) == 0,
           "queue {} can be enabled", queue);
    device.set(common::kQueueReset, uint16_t{1});
    expect(device.get(common::kQueueReset) == 0, "queue {} can be reset", queue);
  }
  print("queue sizes 0, 3, 32768, 65535 and queues 1000 and 65535: refused\n");

  device.driver_ok();
  target.kick();
  expect_status(target, 0xf, "DRIVER_OK without a queue, and a kick");
  target.place_queue(0, arena_place());
  target.place_queue(0, {0, 0, 0, 8});
  expect(device.get(common::kQueueDesc) == address_of(arena.descriptors) &&
             device.get(common::kQueueSize) == kQueueSize,
         "an enabled queue can be moved");
  target.fill_request();
  target.offer({0});
  print("a queue enabled late and twice: {}\n", target.wait_for_outcome());

  // Resets in the middle of requests, of resets and of queue resets.
  for (int i = 0; i < 200; ++i) {
    target.start();
    target.fill_request();
    target.offer({0});
    if (i % 2 == 1) {
      device.set(common::kQueueReset, uint16_t{1});
      target.place_queue(0, arena_place());
    }
    device.set(common::kDeviceStatus, uint8_t{0});
    device.driver_ok();
    target.place_queue(0, {0, 0, 0});
    device.set(common::kDeviceStatus, uint8_t{0});
  }
  device.reset();
  expect_status(target, 0, "200 resets in the middle");
  device.set(common::kDeviceStatus, uint8_t{0x80});
  expect_status(target, 0x80, "FAILED");
}

template <typename T>
void write_all(Random& random, uint64_t start, uint64_t bytes, uint64_t step) {
  for (uint64_t at = 0; at + sizeof(T) <= bytes; at += step) {
    mmio_write<T>(start + at, static_cast<T>(random.next()));
  }
}

template <typename T>
void read_all(uint64_t start, uint64_t bytes, uint64_t step) {
  for (uint64_t at = 0; at < bytes; at += step) {
    static_cast<void>(mmio_read<T>(start + at));
  }
}

void write_everywhere(Random& random, uint64_t start, uint64_t bytes, uint64_t step) {
  write_all<uint8_t>(random, start, bytes, step);
  write_all<uint16_t>(random, start, bytes, step);
  write_all<uint32_t>(random, start, bytes, step);
  write_all<uint64_t>(random, start, bytes, step);
}

void read_everywhere(uint64_t start, uint64_t bytes, uint64_t step) {
  read_all<uint8_t>(start, bytes, step);
  read_all<uint16_t>(start, bytes, step);
  read_all<uint32_t>(start, bytes, step);
  read_all<uint64_t>(start, bytes, step);
}

// Runs in ring 0, where an access that leaves the guest costs least; interrupts stay off, as the
// MSI-X table gets written too.
template <typename F>
void sweep(Scene& scene, const char* name, F body) {
  in_ring0(body);
  scene.bystander.check();
  print("{}: ok\n", name);
}

}  // namespace

void attack_status(Scene& scene) {
  wrong_steps(scene.target);
  scene.bystander.check();
  wrong_queues(scene.target);
}

// Common and device configuration, whatever state that leads to.
void attack_registers(Scene& scene) {
  static Random random;
  VirtioPci& device = scene.target.device();
  for (int round = 0; round < 20; ++round) {
    device.reset();
    // A live device in odd rounds.
    if (round % 2 == 1) {
      scene.target.start();
    }
    in_ring0([&] {
      write_everywhere(random, device.common_address(), 0x48, 1);
      write_everywhere(random, device.config_address(), 0x48, 1);
      read_everywhere(device.common_address(), 0x48, 1);
      read_everywhere(device.config_address(), 0x48, 1);
    });
    scene.bystander.check();
  }
  device.reset();
  print("registers written at random, 20 times: reset is confirmed\n");
}

void attack_mmio(Scene& scene) {
  static Random random;
  Target& target = scene.target;
  const uint64_t bar = target.bar();
  const uint64_t other = scene.bystander.bar();
  target.start();
  sweep(scene, "reads of both BARs", [=] {
    read_everywhere(bar, kBarBytes, 4);
    read_everywhere(other, kBarBytes, 4);
    read_everywhere(bar + 1, 0x80, 1);
  });
  sweep(scene, "writes to the whole BAR", [=] {
    write_everywhere(random, bar, kBarBytes, 16);
    write_everywhere(random, bar + kNotifyPage, 0x1000, 4);
  });
  sweep(scene, "accesses over the BAR's and sections' ends", [=] {
    for (uint64_t at = bar + 0x1000; at <= bar + kBarBytes; at += 0x1000) {
      read_everywhere(at - 8, 8, 1);
      for (uint64_t i = 8; i > 0; --i) {
        mmio_write<uint64_t>(at - i, random.next());
      }
    }
  });
  target.device().reset();
  static const uint64_t end = ram_end();
  sweep(scene, "accesses over the end of RAM", [] {
    read_everywhere(end - 8, 16, 1);
    mmio_write<uint32_t>(end, 0);
    mmio_write<uint64_t>(end, 0);
  });
  sweep(scene, "the hole below 4 GiB", [] {
    // Neither ECAM nor the APICs, which belong to the guest and KVM.
    for (uint64_t at = end; at < 0xfec0'0000; at += 0x40'0000) {
      if (at < 0xe000'0000 || at >= 0xe010'0000) {
        write_everywhere(random, at, 16, 8);
      }
      read_everywhere(at + 0xff8, 16, 4);
    }
    read_everywhere(0xe000'0000, 0x10'0000, 0x7fc);
    read_everywhere(0xfec0'0000, 0x1000, 4);
  });
}

}  // namespace guest::hostile
