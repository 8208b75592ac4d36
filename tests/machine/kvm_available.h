// Whether the tests that run guests can run here at all.
#pragma once

#include <optional>
#include <string>

namespace ringlet {

/// The exit status of a test binary that was skipped as a whole: ctest's SKIP_RETURN_CODE.
inline constexpr int kSkippedStatus = 77;

/// Why no guest can be run, in one line; nothing when one can. The test binary prints it and exits
/// with kSkippedStatus before its first test, so that no test has to ask.
std::optional<std::string> kvm_unavailable();

}  // namespace ringlet
