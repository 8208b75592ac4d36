// Options that describe themselves: their documentation as tables.
#include <fmt/format.h>

#include "virtio/options.h"

namespace ringlet {

std::string padded(std::string text, size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

std::string options_as_markdown(std::span<const OptionHelp> rows) {
  std::string table = "| option | value | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto& row : rows) {
    std::string value;
    for (const char c : row.value) value += c == '|' ? std::string("\\|") : std::string(1, c);
    table += fmt::format("| `{}` | {} | {} | {} |\n", row.name, value, row.default_value, row.doc);
  }
  return table;
}

std::string options_as_columns(std::span<const OptionHelp> rows) {
  size_t name_width = 0;
  size_t default_width = 0;
  for (const auto& row : rows) {
    name_width = std::max(name_width, row.name.size() + 1 + row.value.size());
    default_width = std::max(default_width, row.default_value.size());
  }
  std::string text;
  for (const auto& row : rows) {
    text +=
        fmt::format("  {}  {}  {}\n", padded(fmt::format("{}={}", row.name, row.value), name_width),
                    padded(row.default_value, default_width), row.doc);
  }
  return text;
}

}  // namespace ringlet
