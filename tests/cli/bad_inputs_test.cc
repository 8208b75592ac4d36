// Tests that every bad input is answered by one line and exit status 2, and changes nothing.
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <iostream>

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "tests/cli/bad_input.h"
#include "vmm/exit_status.h"

namespace ringlet {
namespace {

/// Makes a directory the current one for a while.
class WithinDirectory {
 public:
  explicit WithinDirectory(const std::string& path) { std::filesystem::current_path(path); }
  WithinDirectory(const WithinDirectory&) = delete;
  WithinDirectory& operator=(const WithinDirectory&) = delete;
  ~WithinDirectory() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

/// Far longer than a refusal takes, on a busy machine and under sanitizers too.
constexpr std::chrono::seconds kSoon{20};

void check_refused(const Workplace& place, const BadInput& input, const Arguments& more) {
  Arguments command = ringlet({});
  command.insert(command.end(), input.arguments.begin(), input.arguments.end());
  command.insert(command.end(), more.begin(), more.end());
  INFO(fmt::format("{:.1000}", fmt::join(command, " | ")));
  INFO("with " << input.file << ": " << input.content.substr(0, 200));
  place.prepare(input);
  const std::string before = place.inventory();
  const auto start = std::chrono::steady_clock::now();
  const Ended ended = run(command);
  CHECK(std::chrono::steady_clock::now() - start < kSoon);
  CHECK(ended.log == "ringlet: " + input.line + "\n");
  CHECK(ended.status == 2);
  CHECK(ended.output.empty());
  CHECK(place.inventory() == before);
  // As a child reaper we would inherit what it left running.
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
}

/// Each in a directory of its own.
void check_all_refused(const std::vector<BadInput>& inputs, const Arguments& more = {}) {
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  for (const BadInput& input : inputs) {
    const Workplace place;
    const WithinDirectory within(place.path());
    check_refused(place, input, more);
  }
}

/// The same line and status whether the machine would have run or only been printed.
void check_no_machine(const std::vector<BadInput>& inputs) {
  check_all_refused(inputs);
  check_all_refused(inputs, {"--dry-run"});
}

TEST_CASE("commands and options that do not exist are refused") {
  check_all_refused(bad_arguments());
}

TEST_CASE("values of options that cannot be are refused") {
  check_no_machine(bad_values());
}

TEST_CASE("descriptions of disks that cannot be are refused") {
  check_no_machine(bad_disks());
}

TEST_CASE("changes to CPUID that cannot be are refused") {
  check_no_machine(bad_cpuid());
}

TEST_CASE("text that is no JSON is refused with the place of the mistake") {
  check_no_machine(bad_json());
}

TEST_CASE("JSON that is no machine is refused with the path of the mistake") {
  check_no_machine(bad_json_machines());
}

TEST_CASE("files of the wrong kind, size or use are refused") {
  check_no_machine(bad_files());
}

TEST_CASE("files without access rights are refused") {
  // Whoever is root reads everything, until programs that are started cannot have these any more.
  for (const int right : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) {
    ::prctl(PR_CAPBSET_DROP, right, 0, 0, 0);
  }
  if (::geteuid() == 0 && ::prctl(PR_CAPBSET_READ, CAP_DAC_OVERRIDE, 0, 0, 0) == 1) {
    WARN("SKIPPED: root's right to read everything cannot be given up here");
    return;
  }
  check_no_machine(unreadable_files());
}

TEST_CASE("files that are no kernels are refused") {
  check_no_machine(bad_kernels());
}

TEST_CASE("kernels that this machine cannot boot are refused") {
  check_no_machine(bad_boots());
}

TEST_CASE("a hundred bad inputs and more were tried") {
  const size_t count = bad_arguments().size() + bad_values().size() + bad_disks().size() +
                       bad_cpuid().size() + bad_json().size() + bad_json_machines().size() +
                       bad_files().size() + unreadable_files().size() + bad_kernels().size() +
                       bad_boots().size();
  CHECK(count >= 100);
  std::cout << count << " bad inputs, a line for each\n";
}

}  // namespace
}  // namespace ringlet
