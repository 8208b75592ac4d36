// Tests of what the user is told when /dev/kvm cannot be used.
#include "kvm/kvm.h"

#include <catch2/catch.hpp>

#include "kvm/error.h"

namespace ringlet {
namespace {

TEST_CASE("a missing KVM device is refused with what to do about it") {
  CHECK_THROWS_AS(Kvm("/nonexistent/kvm"), HostError);
  CHECK_THROWS_WITH(Kvm("/nonexistent/kvm"),
                    Catch::StartsWith("/nonexistent/kvm: No such file or directory: load the "
                                      "module kvm_intel or kvm_amd"));
}

TEST_CASE("a device that is not KVM is refused") {
  CHECK_THROWS_WITH(Kvm("/dev/null"), "/dev/null: not a KVM device");
}

TEST_CASE("any other failure to open is named") {
  CHECK_THROWS_WITH(Kvm("/dev"), "/dev: Is a directory");
}

}  // namespace
}  // namespace ringlet
