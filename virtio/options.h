// Options that describe themselves: one table per struct, and from it everything users meet.
//
// A table row names a member of a configuration struct, what it may hold and what it is for. The
// command line, the JSON file, the printed machine, `ringlet devices` and the tables in the
// documentation all come from it, so they cannot disagree. Defaults are those of a
// default-constructed struct.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace ringlet {

/// What an option holds; follows from the type of its member.
enum class OptionKind {
  Text,    ///< std::string; empty means not set
  Flag,    ///< bool
  Number,  ///< any unsigned integer
  Choice,  ///< an enum whose values 0, 1, ... are named by OptionSpec::choices
};

/// How people write an option's value, and what its range applies to.
enum class OptionForm {
  Plain,       ///< text of any characters, or a decimal or 0x number
  Name,        ///< text of letters, digits, '_' and '-'
  Ascii,       ///< text of printable ASCII characters
  File,        ///< text, the name of a host file
  PowerOfTwo,  ///< a number
  Memory,      ///< bytes, written 512M, 1G, 4GiB or 65536B; without a suffix MiB, as in other VMMs
  Duration,    ///< milliseconds, written 500ms or 5s; without a suffix seconds
  Instant,     ///< microseconds, written 50us or 1ms; without a suffix microseconds
  Port,        ///< an I/O port, printed in hexadecimal
};

/// A row of an options table without its member.
struct OptionSpec {
  std::string_view name;
  std::string_view doc;
  OptionForm form = OptionForm::Plain;
  uint64_t min = 0;  ///< numbers: the smallest; text: the shortest, in bytes
  uint64_t max = std::numeric_limits<uint64_t>::max();
  bool required = false;
  /// The value may stand first in the list without its name: `--disk root.img`.
  bool implied = false;
  std::span<const std::string_view> choices = {};
  OptionKind kind = OptionKind::Text;  ///< set by option()
};

/// A value on its way between text or JSON and a member. std::monostate: an empty string or
/// optional member. A choice travels as its number.
using OptionValue = std::variant<std::monostate, bool, uint64_t, std::string>;

namespace detail {

template <typename T>
struct OptionMember;
template <typename Class, typename T>
struct OptionMember<T Class::*> {
  using Config = Class;
  using Type = T;
};
template <typename Class, typename T>
struct OptionMember<std::optional<T> Class::*> : OptionMember<T Class::*> {};

template <typename T>
OptionValue to_option_value(const T& member) {
  if constexpr (std::is_same_v<T, std::string>) {
    return member.empty() ? OptionValue{} : member;
  } else if constexpr (std::is_same_v<T, bool>) {
    return member;
  } else {
    return static_cast<uint64_t>(member);
  }
}
template <typename T>
OptionValue to_option_value(const std::optional<T>& member) {
  if (!member) return {};
  if constexpr (std::is_same_v<T, std::string>) return *member;  // set, even when empty
  return to_option_value(*member);
}

template <typename T>
void from_option_value(const OptionValue& value, T& member) {
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
    member = std::get<T>(value);
  } else {
    member = static_cast<T>(std::get<uint64_t>(value));
  }
}
template <typename T>
void from_option_value(const OptionValue& value, std::optional<T>& member) {
  from_option_value(value, member.emplace());
}

}  // namespace detail

/// A row of the options table of `Config`.
template <typename Config>
struct Option {
  OptionSpec spec;
  OptionValue (*get)(const Config&);
  void (*set)(Config&, const OptionValue&);
};

/// Makes a row: `option<&BlkConfig::queues>({.name = "queues", .doc = "...", .min = 1})`.
template <auto kMember>
constexpr auto option(OptionSpec spec) {
  using Config = typename detail::OptionMember<decltype(kMember)>::Config;
  using Type = typename detail::OptionMember<decltype(kMember)>::Type;
  if constexpr (std::is_same_v<Type, std::string>) {
    spec.kind = OptionKind::Text;
  } else if constexpr (std::is_same_v<Type, bool>) {
    spec.kind = OptionKind::Flag;
  } else if constexpr (std::is_enum_v<Type>) {
    spec.kind = OptionKind::Choice;
  } else {
    static_assert(std::is_unsigned_v<Type>);
    spec.kind = OptionKind::Number;
    spec.max = std::min<uint64_t>(spec.max, std::numeric_limits<Type>::max());
  }
  return Option<Config>{
      .spec = spec,
      .get = [](const Config& config) { return detail::to_option_value(config.*kMember); },
      .set = [](Config& config,
                const OptionValue& value) { detail::from_option_value(value, config.*kMember); }};
}

/// A type of device as users name it.
template <typename Config>
struct DeviceType {
  std::string_view name;   ///< of the command-line option (`--disk`) and in JSON ("type": "disk")
  std::string_view title;  ///< what it is, in a few words
  std::string_view example;
  std::span<const Option<Config>> options;
};

/// Every device's Config specialises this beside its struct.
template <typename Config>
extern const DeviceType<Config> kDeviceType;

// All errors below are ConfigErrors of one line that start with `where`: the full name of the
// culprit as the user knows it, such as `--disk queues` or `devices[1].queues`.

/// The value that `text` stands for. Throws ConfigError.
OptionValue parse_option(const OptionSpec& spec, std::string_view text, std::string_view where);

/// The value for one that came with a type (JSON). Text is taken for a number only where it may
/// carry a unit. Throws ConfigError.
OptionValue convert_option(const OptionSpec& spec, const OptionValue& typed,
                           std::string_view where);

/// Throws ConfigError when `value`, of the right type, is outside of what `spec` allows.
void check_option(const OptionSpec& spec, const OptionValue& value, std::string_view where);

/// The value in the form parse_option() reads: `512M`, `on`, `0xf4`; empty when it is not set.
std::string print_option(const OptionSpec& spec, const OptionValue& value);

/// True for numbers that people write as text: with a unit, as one of several names, in hex.
bool option_has_unit(const OptionSpec& spec);

/// What the value must be, for "expected ...".
std::string option_expected(const OptionSpec& spec);

/// What users write for the value: `FILE`, `N`, `on|off`, ...
std::string option_placeholder(const OptionSpec& spec);

/// `text` in double quotes for a message: shortened, unprintable bytes replaced.
std::string in_quotes(std::string_view text);

/// A file of the machine for a message, by what it is for: `disk 'root.img'`; shortened and cleaned
/// as in_quotes() does.
std::string file_label(std::string_view role, std::string_view path);

/// `; did you mean "..."?` with the candidate that is spelled most like `name`, or nothing.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

struct ParsedOption {
  size_t index;  ///< into the specs
  OptionValue value;
};
using OptionSpecs = std::vector<const OptionSpec*>;

/// The index of the option called `name`; throws ConfigError with a suggestion.
size_t find_option(const OptionSpecs& specs, std::string_view name, std::string_view where);

/// Parses `key=value,flag,flag=off`. A comma in a value is written twice. Refuses unknown and
/// repeated keys, and lists that leave out what is required. Throws ConfigError.
std::vector<ParsedOption> parse_option_list(const OptionSpecs& specs, std::string_view list,
                                            std::string_view where);

/// A row of documentation.
struct OptionHelp {
  std::string_view name;
  std::string value;          ///< what to write
  std::string default_value;  ///< or "required", or empty
  std::string_view doc;
};
/// As a table in Markdown.
std::string options_as_markdown(std::span<const OptionHelp> rows);
/// In columns for a terminal, indented by two.
std::string options_as_columns(std::span<const OptionHelp> rows);
/// `text` with spaces behind it to fill `width`.
std::string padded(std::string text, size_t width);
OptionHelp option_help(const OptionSpec& spec, const OptionValue& default_value);

template <typename Config>
OptionSpecs specs_of(std::span<const Option<Config>> table) {
  OptionSpecs specs;
  for (const auto& row : table) specs.push_back(&row.spec);
  return specs;
}

/// The documentation of every option of a table, with its default.
template <typename Config>
std::vector<OptionHelp> help_of(std::span<const Option<Config>> table) {
  const Config defaults{};
  std::vector<OptionHelp> rows;
  for (const auto& row : table) rows.push_back(option_help(row.spec, row.get(defaults)));
  return rows;
}

/// Throws ConfigError for the first member outside of what the table allows. `where` is the
/// struct's name with a final dot, or empty.
template <typename Config>
void check_options(std::span<const Option<Config>> table, const Config& config,
                   const std::string& where) {
  for (const auto& row : table) {
    check_option(row.spec, row.get(config), where + std::string(row.spec.name));
  }
}

/// The device that `list` describes; see parse_option_list().
template <typename Config>
Config parse_device(std::string_view list, std::string_view where) {
  const auto table = kDeviceType<Config>.options;
  Config config{};
  for (const auto& parsed : parse_option_list(specs_of(table), list, where)) {
    table[parsed.index].set(config, parsed.value);
  }
  return config;
}

}  // namespace ringlet
