// The machine as JSON: reading and printing.
#include "vmm/config_json.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "kvm/error.h"
#include "kvm/fd.h"

namespace ringlet {
namespace {

using Json = nlohmann::ordered_json;

/// A machine needs three: the object, its devices, a device.
constexpr size_t kMaxNesting = 8;

/// A key for a message: as it is where it looks like one of ours, otherwise in quotes.
std::string shown_key(const std::string& key) {
  const bool plain = !key.empty() && key.size() <= 32 && std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || c == '-';
  });
  return plain ? key : in_quotes(key);
}

/// Watches the parser's events for what the finished document would hide: a key that an object has
/// twice. Also for nesting that no machine has.
class Watcher {
 public:
  explicit Watcher(const std::string& file) : file_(file) {}

  bool operator()(int /*depth*/, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        if (levels_.size() == kMaxNesting) {
          throw ConfigError(fmt::format("{}: {}: expected at most {} levels of nesting", file_,
                                        path(), kMaxNesting));
        }
        levels_.push_back(
            {.array = event == Event::array_start, .index = 0, .key = {}, .keys = {}});
        break;
      case Event::object_end:
      case Event::array_end:
        levels_.pop_back();
        next_element();
        break;
      case Event::value: next_element(); break;
      case Event::key:
        levels_.back().key = parsed.get<std::string>();
        if (!levels_.back().keys.insert(levels_.back().key).second) {
          throw ConfigError(fmt::format("{}: {}: given twice", file_, path()));
        }
        break;
    }
    return true;
  }

 private:
  struct Level {
    bool array;
    size_t index;
    std::string key;
    std::set<std::string> keys;
  };

  void next_element() {
    if (!levels_.empty() && levels_.back().array) ++levels_.back().index;
  }
  std::string path() const {
    std::string path;
    for (const auto& level : levels_) {
      path += level.array ? fmt::format("[{}]", level.index)
                          : (path.empty() ? "" : ".") + shown_key(level.key);
    }
    return path;
  }

  const std::string& file_;
  std::vector<Level> levels_;
};

/// A JSON value for a message.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

OptionValue value_from_json(const OptionSpec& spec, const Json& value, const std::string& where) {
  if (value.is_boolean()) return convert_option(spec, value.get<bool>(), where);
  if (value.is_number_unsigned()) return convert_option(spec, value.get<uint64_t>(), where);
  if (value.is_string()) return convert_option(spec, value.get<std::string>(), where);
  const bool flag = spec.kind == OptionKind::Flag;
  throw ConfigError(fmt::format("{}: expected {}, got {}", where,
                                flag ? "true or false" : option_expected(spec), shown(value)));
}

const Json& expect(const Json& value, bool is_right, std::string_view where,
                   std::string_view what) {
  if (is_right) return value;
  throw ConfigError(fmt::format("{}: expected {}, got {}", where, what, shown(value)));
}

/// Sets the option called `key` from its value. `where` is the object's path with a final
/// separator, `others` the keys it may have beside the options.
template <typename Config>
void set_option(std::span<const Option<Config>> table, Config& config, const std::string& where,
                const std::string& key, const Json& value, std::vector<std::string_view> others) {
  for (const auto& row : table) {
    if (row.spec.name != key) continue;
    row.set(config, value_from_json(row.spec, value, where + key));
    return;
  }
  for (const auto& row : table) others.push_back(row.spec.name);
  auto hint = did_you_mean(key, others);
  if (hint.empty()) hint = fmt::format("; expected {}", fmt::join(others, ", "));
  throw ConfigError(fmt::format("{}{}: unknown key{}", where, shown_key(key), hint));
}

DeviceConfig device_from_json(const Json& json, const std::string& where) {
  expect(json, json.is_object(), where, "an object");
  const auto found = json.find("type");
  const std::string name =
      found != json.end() && found->is_string() ? found->get<std::string>() : "";
  std::optional<DeviceConfig> device;
  std::vector<std::string_view> names;
  for_each_device_type([&]<typename Config>(const DeviceType<Config>& type) {
    names.push_back(type.name);
    if (type.name != name) return;
    Config config{};
    for (const auto& [key, value] : json.items()) {
      if (key != "type") set_option(type.options, config, where + ".", key, value, {"type"});
    }
    check_options(type.options, config, where + ".");
    device = std::move(config);
  });
  if (device) return *device;
  throw ConfigError(fmt::format("{}.type: expected {}, got {}", where, fmt::join(names, " or "),
                                found == json.end() ? "nothing" : shown(*found)));
}

void read_machine(const Json& json, const std::string& file, MachineConfig& config) {
  const std::string prefix = file + ": ";
  expect(json, json.is_object(), file, "an object");
  for (const auto& [key, value] : json.items()) {
    if (key == "cpuid") {
      expect(value, value.is_array(), prefix + key, "an array");
      for (size_t i = 0; i < value.size(); ++i) {
        const std::string where = fmt::format("{}{}[{}]", prefix, key, i);
        expect(value[i], value[i].is_string(), where, R"(text like "avx512f=off")");
        config.cpuid.push_back(parse_cpuid_change(value[i].get_ref<const std::string&>(), where));
      }
    } else if (key == "devices") {
      expect(value, value.is_array(), prefix + key, "an array");
      for (size_t i = 0; i < value.size(); ++i) {
        config.devices.push_back(
            device_from_json(value[i], fmt::format("{}{}[{}]", prefix, key, i)));
      }
    } else {
      set_option<MachineConfig>(kMachineOptions, config, prefix, key, value, {"cpuid", "devices"});
    }
  }
}

template <typename Config>
void print_options(std::span<const Option<Config>> table, const Config& config, Json& json) {
  for (const auto& row : table) {
    const auto value = row.get(config);
    const auto name = std::string(row.spec.name);
    if (std::holds_alternative<std::monostate>(value)) continue;
    if (const auto* flag = std::get_if<bool>(&value)) {
      json[name] = *flag;
    } else if (const auto* number = std::get_if<uint64_t>(&value);
               number != nullptr && !option_has_unit(row.spec)) {
      json[name] = *number;
    } else {
      json[name] = print_option(row.spec, value);
    }
  }
}

}  // namespace

MachineConfig machine_from_json(std::string_view text, const std::string& name) {
  if (text.empty()) throw ConfigError(name + ": expected a JSON object, got nothing");
  // To the parser, a NUL is the end.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw ConfigError(fmt::format("{}: expected JSON, got a NUL byte at offset {}", name, nul));
  }
  MachineConfig config;
  try {
    read_machine(Json::parse(text, Watcher(name)), name, config);
  } catch (const Json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 2, column 3: ..."
    const std::string_view what = error.what();
    throw ConfigError(fmt::format("{}: {}", name, what.substr(what.find("] ") + 2)));
  } catch (const Json::out_of_range& error) {
    // "[json.exception.out_of_range.406] number overflow parsing '1e999'"
    const std::string_view what = error.what();
    throw ConfigError(
        fmt::format("{}: expected smaller numbers: {}", name, what.substr(what.find("] ") + 2)));
  }
  return config;
}

MachineConfig machine_from_file(const std::string& path) {
  constexpr size_t kMaxSize = 1 << 20;  // far above what a machine needs
  const auto reject = [&](std::string_view why) {
    throw ConfigError(fmt::format("{}: {}", file_label("--config", path), why));
  };
  // A FIFO that nobody writes to would block the open; behind it, a slow writer is waited for.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file && is_shortage(errno)) throw_errno(file_label("--config", path));
  if (!file || ::fcntl(file.get(), F_SETFL, 0) != 0) reject(std::strerror(errno));
  std::string text(kMaxSize, '\0');
  size_t size = 0;
  while (size < kMaxSize) {
    const ssize_t got = ::read(file.get(), text.data() + size, kMaxSize - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) reject(std::strerror(errno));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size == kMaxSize) reject("expected less than 1 MiB of JSON");
  text.resize(size);
  return machine_from_json(text, path);
}

std::string machine_to_json(const MachineConfig& config) {
  Json json = Json::object();
  print_options<MachineConfig>(kMachineOptions, config, json);
  if (!config.cpuid.empty()) {
    for (const auto& change : config.cpuid) json["cpuid"].push_back(to_string(change));
  }
  json["devices"] = Json::array();
  for (const auto& device : config.devices) {
    visit_device(device, [&](const auto& type, const auto& options) {
      Json entry = {{"type", std::string(type.name)}};
      print_options(type.options, options, entry);
      json["devices"].push_back(std::move(entry));
    });
  }
  try {
    return json.dump(2) + "\n";
  } catch (const Json::exception&) {
    throw ConfigError(
        "--dry-run: expected names and texts in UTF-8, one cannot be printed as JSON");
  }
}

}  // namespace ringlet
