// Tests of lists of the host's CPUs as a user writes them.
#include "vmm/cpu_list.h"

#include <catch2/catch.hpp>

#include "kvm/error.h"

namespace ringlet {
namespace {

using Catch::Matchers::Message;

TEST_CASE("a list of CPUs names numbers and ranges, in any order") {
  CHECK(parse_cpu_list("", "--pin") == CpuList{});
  CHECK(parse_cpu_list("3", "--pin") == CpuList{3});
  CHECK(parse_cpu_list("8,2-5,4", "--pin") == CpuList{2, 3, 4, 5, 8});
  CHECK(parse_cpu_list("0-1023", "--pin").size() == 1024);
}

TEST_CASE("what is no list of CPUs is refused as a whole") {
  for (const char* const text :
       {"x", ",", "1,", ",1", "1,,2", "-", "1-", "-1", "3-2", "1024", "0-1024", "1 ", "1-2-3"}) {
    CHECK_THROWS_MATCHES(
        parse_cpu_list(text, "--pin"), ConfigError,
        Message(std::string("--pin: expected CPUs of the host, each from 0 to 1023, such as 2-5,8, "
                            "got \"") +
                text + "\""));
  }
}

}  // namespace
}  // namespace ringlet
