// Skips the whole test binary, loudly, where there is no usable KVM.
#include "tests/machine/kvm_available.h"

#include <cstdio>

#define CATCH_CONFIG_EXTERNAL_INTERFACES  // listeners
#include <catch2/catch.hpp>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/kvm.h"

namespace ringlet {
namespace {

class SkipWithoutKvm final : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    const auto reason = kvm_unavailable();
    if (!reason) return;
    std::fprintf(stderr, "SKIPPED: %s\n", reason->c_str());
    ::_exit(kSkippedStatus);
  }
};
CATCH_REGISTER_LISTENER(SkipWithoutKvm)

}  // namespace

std::optional<std::string> kvm_unavailable() {
  try {
    const Kvm kvm;
    return std::nullopt;
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace ringlet
