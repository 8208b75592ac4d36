// `ringlet check`: the table and the JSON.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "virtio/options.h"
#include "vmm/check.h"

namespace ringlet {
namespace {

constexpr size_t kStatusWidth = 7;

std::string status_name(CheckStatus status) {
  switch (status) {
    case CheckStatus::Ok: return "ok";
    case CheckStatus::Warn: return "warn";
    case CheckStatus::Missing: return "missing";
  }
  return "";
}

}  // namespace

std::string report_as_table(const CheckReport& report) {
  size_t width = 0;
  for (const auto& row : report.rows) width = std::max(width, row.name.size());
  std::string text;
  for (const auto& [name, status, value, hint] : report.rows) {
    text += fmt::format("{}  {}  {}\n", padded(status_name(status), kStatusWidth),
                        padded(name, width), value);
    if (!hint.empty()) {
      text += fmt::format("{}> {}\n", padded("", kStatusWidth + 2 + width + 2), hint);
    }
  }
  return text + (report.can_run ? "This host can run virtual machines.\n"
                                : "This host cannot run virtual machines yet.\n");
}

std::string report_as_json(const CheckReport& report) {
  nlohmann::ordered_json json = {{"can_run", report.can_run},
                                 {"checks", nlohmann::ordered_json::array()}};
  for (const auto& [name, status, value, hint] : report.rows) {
    json["checks"].push_back(
        {{"name", name}, {"status", status_name(status)}, {"value", value}, {"hint", hint}});
  }
  // What the host's files say need not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace ringlet
