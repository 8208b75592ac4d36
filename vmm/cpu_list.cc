// Lists of the host's CPUs as a user writes them.
#include "vmm/cpu_list.h"

#include <algorithm>
#include <bitset>
#include <charconv>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <sched.h>

#include "kvm/error.h"
#include "virtio/options.h"

namespace ringlet {
namespace {

constexpr unsigned kMaxCpus = CPU_SETSIZE;

std::optional<unsigned> cpu_number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value >= kMaxCpus) return {};
  return value;
}

}  // namespace

CpuList parse_cpu_list(std::string_view text, std::string_view where) {
  if (text.empty()) return {};
  std::bitset<kMaxCpus> named;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t comma = rest.find(',');
    const std::string_view range = rest.substr(0, comma);
    const size_t dash = range.find('-');
    const auto first = cpu_number(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : cpu_number(range.substr(dash + 1));
    // A comma at the end would name nothing.
    if (!first || !last || *first > *last || comma == rest.size() - 1) {
      throw ConfigError(
          fmt::format("{}: expected CPUs of the host, each from 0 to {}, such as 2-5,8, got {}",
                      where, kMaxCpus - 1, in_quotes(text)));
    }
    for (unsigned cpu = *first; cpu <= *last; ++cpu) named.set(cpu);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  CpuList cpus;
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (named[cpu]) cpus.push_back(cpu);
  }
  return cpus;
}

void check_allowed(const CpuList& cpus, std::string_view where) {
  if (cpus.empty()) return;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  check(::sched_getaffinity(0, sizeof allowed, &allowed), "sched_getaffinity");
  const auto refused =
      std::ranges::find_if(cpus, [&](unsigned cpu) { return !CPU_ISSET(cpu, &allowed); });
  if (refused == cpus.end()) return;
  std::vector<unsigned> usable;
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) usable.push_back(cpu);
  }
  throw ConfigError(fmt::format("{}: CPU {} is not ours to use; expected some of {}", where,
                                *refused, fmt::join(usable, ",")));
}

}  // namespace ringlet
