// Compares machine configurations option by option, by the tables that describe them.
#pragma once

#include <algorithm>
#include <cassert>
#include <span>
#include <string_view>
#include <variant>

#include "vmm/config.h"
#include "vmm/config_json.h"

namespace ringlet {

template <typename Config>
bool same_options(std::span<const Option<Config>> table, const Config& one, const Config& other) {
  return std::ranges::all_of(
      table, [&](const Option<Config>& row) { return row.get(one) == row.get(other); });
}

inline bool same_device(const DeviceConfig& one, const DeviceConfig& other) {
  return one.index() == other.index() &&
         visit_device(one, [&]<typename Config>(const auto& type, const Config& config) {
           return same_options<Config>(type.options, config, std::get<Config>(other));
         });
}

inline bool same_machine(const MachineConfig& one, const MachineConfig& other) {
  const auto same_change = [](const CpuidChange& a, const CpuidChange& b) {
    return a.bit == b.bit && a.on == b.on;
  };
  return same_options<MachineConfig>(kMachineOptions, one, other) &&
         std::ranges::equal(one.cpuid, other.cpuid, same_change) &&
         std::ranges::equal(one.devices, other.devices, same_device);
}

/// A valid machine, printed and read again, is the same machine and still valid.
inline void check_round_trip(const MachineConfig& machine) {
  const std::string json = machine_to_json(machine);
  const MachineConfig again = machine_from_json(json, "printed");
  validate(again);
  assert(same_machine(machine, again));
  assert(machine_to_json(again) == json);
}

/// A message for users: one line of bounded length.
inline void check_message(std::string_view message) {
  assert(!message.empty() && message.size() <= 1000);
  for (const char c : message) assert(c < '\0' || (c >= ' ' && c != '\x7f'));
}

}  // namespace ringlet
