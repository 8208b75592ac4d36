// Parsing and editing of kernel command lines.
#include "vmm/boot/command_line.h"

#include <vector>

#include <fmt/core.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

/// One parameter and its place in the line. Name and value come without quotes.
struct Parameter {
  size_t at;
  size_t length;
  std::string_view name;
  std::string_view value;
};

constexpr bool is_space(char c) {
  return c == ' ' || c == '\t';
}

std::string_view unquote(std::string_view text) {
  if (text.starts_with('"')) text.remove_prefix(1);
  if (text.ends_with('"')) text.remove_suffix(1);
  return text;
}

/// The parameter that starts at `at`, which is not white space.
Parameter parameter_at(std::string_view line, size_t at) {
  bool quoted = false;
  size_t end = at;
  while (end < line.size() && (quoted || !is_space(line[end]))) {
    if (line[end] == '"') quoted = !quoted;
    ++end;
  }
  const std::string_view text = line.substr(at, end - at);
  const size_t equals = text.find('=');
  Parameter parameter{at, text.size(), unquote(text.substr(0, equals)), {}};
  if (equals != text.npos) parameter.value = unquote(text.substr(equals + 1));
  return parameter;
}

struct KernelParameters {
  std::vector<Parameter> list;
  size_t end;  ///< where "--" is, or the line's size

  bool has(std::string_view name) const {
    for (const Parameter& parameter : list) {
      if (parameter.name == name) return true;
    }
    return false;
  }
};

KernelParameters kernel_parameters(std::string_view line) {
  KernelParameters result{{}, line.size()};
  for (size_t at = 0; at < line.size();) {
    if (is_space(line[at])) {
      ++at;
      continue;
    }
    const Parameter parameter = parameter_at(line, at);
    if (parameter.length == 2 && parameter.name == "--") {
      result.end = at;
      break;
    }
    result.list.push_back(parameter);
    at += parameter.length;
  }
  return result;
}

/// A comma-separated list without the items that say "off".
std::string without_off(std::string_view options) {
  std::string kept;
  while (true) {
    const size_t comma = options.find(',');
    const std::string_view option = options.substr(0, comma);
    if (option != "off" && !option.empty()) {
      if (!kept.empty()) kept += ',';
      kept += option;
    }
    if (comma == options.npos) return kept;
    options.remove_prefix(comma + 1);
  }
}

/// Odd quoting inside of the list is nothing to edit: what it means changes with each cut.
bool says_off(std::string_view options) {
  if (options.find_first_of(" \t\"") != options.npos) return false;
  const std::string padded = "," + std::string(options) + ",";
  return padded.find(",off,") != padded.npos;
}

}  // namespace

void check_command_line(std::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if ((byte >= 0x20 && byte < 0x7f) || byte == '\t') continue;
    throw ConfigError(fmt::format(
        "--cmdline: expected printable ASCII, got byte {:#04x} at position {}", byte, i));
  }
}

std::string add_root(std::string line, const RootDisk& root) {
  const KernelParameters parameters = kernel_parameters(line);
  if (parameters.has("root")) return line;
  std::string added = "root=" + root.device;
  if (!parameters.has("ro") && !parameters.has("rw")) added += root.read_only ? " ro" : " rw";
  const size_t at = parameters.end;
  if (at > 0 && !is_space(line[at - 1])) added.insert(0, " ");
  if (at < line.size()) added += ' ';
  return line.insert(at, added);
}

std::string remove_pci_off(std::string line) {
  const std::string original = line;
  const KernelParameters parameters = kernel_parameters(original);
  // Backwards, so that the places of those still to come stay right.
  for (auto it = parameters.list.rbegin(); it != parameters.list.rend(); ++it) {
    const Parameter& parameter = *it;
    if (parameter.name != "pci" || !says_off(parameter.value)) continue;
    const std::string kept = without_off(parameter.value);
    if (!kept.empty()) {
      line.replace(parameter.at, parameter.length, "pci=" + kept);
      continue;
    }
    // One of the two spaces around it goes too.
    const bool last = parameter.at + parameter.length == line.size();
    const size_t from = last && parameter.at > 0 ? parameter.at - 1 : parameter.at;
    line.erase(from, parameter.length + 1);
  }
  return line;
}

std::string make_command_line(const std::optional<std::string>& given,
                              const std::optional<RootDisk>& root) {
  std::string line = remove_pci_off(given.value_or(std::string(kDefaultCommandLine)));
  return root ? add_root(std::move(line), *root) : line;
}

}  // namespace ringlet
