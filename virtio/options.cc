// Options that describe themselves: parsing, checking and printing values.
#include "virtio/options.h"

#include <array>
#include <bit>
#include <charconv>

#include <fmt/format.h>

#include "kvm/error.h"

namespace ringlet {
namespace {

struct Suffix {
  std::string_view name;
  uint64_t factor;
};
constexpr Suffix kMemorySuffixes[] = {
    {"T", 1ull << 40},
    {"G", 1ull << 30},
    {"M", 1ull << 20},
    {"K", 1ull << 10},
    {"TiB", 1ull << 40},
    {"GiB", 1ull << 30},
    {"MiB", 1ull << 20},
    {"KiB", 1ull << 10},
    {"t", 1ull << 40},
    {"g", 1ull << 30},
    {"m", 1ull << 20},
    {"k", 1ull << 10},
    {"B", 1},
    {"", 1ull << 20},
};
constexpr Suffix kDurationSuffixes[] = {{"s", 1000}, {"ms", 1}, {"", 1000}};
constexpr Suffix kInstantSuffixes[] = {{"ms", 1000}, {"us", 1}, {"", 1}};
constexpr Suffix kNoSuffixes[] = {{"", 1}};

std::span<const Suffix> suffixes(OptionForm form) {
  if (form == OptionForm::Memory) return kMemorySuffixes;
  if (form == OptionForm::Duration) return kDurationSuffixes;
  if (form == OptionForm::Instant) return kInstantSuffixes;
  return kNoSuffixes;
}

/// `count` in the unit that `suffix` stands for; nothing when there is no such suffix or the
/// product does not fit.
std::optional<uint64_t> scaled(OptionForm form, uint64_t count, std::string_view suffix) {
  for (const auto& [name, factor] : suffixes(form)) {
    if (name != suffix) continue;
    if (count > std::numeric_limits<uint64_t>::max() / factor) return std::nullopt;
    return count * factor;
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_number(OptionForm form, std::string_view text) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint64_t count = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), count, hex ? 16 : 10);
  if (error != std::errc{}) return std::nullopt;
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  return scaled(form, count, suffix);
}

std::string print_number(OptionForm form, uint64_t number) {
  if (form == OptionForm::Port) return fmt::format("{:#x}", number);
  if (suffixes(form).size() == 1) return std::to_string(number);
  // The tables start with the largest units, and end with the one that a missing suffix means.
  for (const auto& [name, factor] : suffixes(form)) {
    if (number != 0 && number % factor == 0) return fmt::format("{}{}", number / factor, name);
  }
  return "0";
}

/// "from 1 to 64", as far as there are limits.
std::string range(const OptionSpec& spec) {
  if (spec.max == std::numeric_limits<uint64_t>::max()) return "";
  return fmt::format(" from {} to {}", print_number(spec.form, spec.min),
                     print_number(spec.form, spec.max));
}

std::string expected_text(const OptionSpec& spec) {
  const auto length = spec.max == std::numeric_limits<uint64_t>::max()
                          ? std::string()
                          : fmt::format("at most {} ", spec.max);
  switch (spec.form) {
    case OptionForm::File: return "a file name";
    case OptionForm::Name: return length + "letters, digits, '_' and '-'";
    case OptionForm::Ascii: return length + "printable ASCII characters";
    default: return length.empty() ? "text" : length + "bytes of text";
  }
}

[[noreturn]] void refuse(const OptionSpec& spec, std::string_view where, std::string_view got) {
  throw ConfigError(fmt::format("{}: expected {}, got {}", where, option_expected(spec), got));
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

bool text_fits(const OptionSpec& spec, std::string_view text) {
  if (text.size() < spec.min || text.size() > spec.max) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    if (spec.form == OptionForm::Name) return is_name_character(c);
    if (spec.form == OptionForm::Ascii) return c >= ' ' && c <= '~';
    return c != '\0';
  });
}

bool number_fits(const OptionSpec& spec, uint64_t number) {
  if (spec.form == OptionForm::PowerOfTwo && !std::has_single_bit(number)) return false;
  return number >= spec.min && number <= spec.max;
}

std::string print_typed(const OptionValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* number = std::get_if<uint64_t>(&value)) return std::to_string(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return in_quotes(*text);
  return "nothing";
}

std::string shown_between(char quote, std::string_view text, size_t max) {
  std::string shown(1, quote);
  for (const char c : text.substr(0, max)) {
    const auto byte = static_cast<unsigned char>(c);
    shown += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  shown += quote;
  return shown + (text.size() > max ? "..." : "");
}

/// How many single-character edits lead from `a` to `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

struct Item {
  std::string key;
  std::optional<std::string> value;
};

/// Cuts at single commas; two stand for one. The first '=' of an item ends its key.
std::vector<Item> split_list(std::string_view list) {
  std::vector<Item> items(1);
  for (size_t i = 0; i < list.size(); ++i) {
    Item& item = items.back();
    if (list[i] == ',' && !(i + 1 < list.size() && list[i + 1] == ',')) {
      items.emplace_back();
      continue;
    }
    if (list[i] == ',') ++i;
    if (list[i] == '=' && !item.value) {
      item.value.emplace();
    } else {
      (item.value ? *item.value : item.key) += list[i];
    }
  }
  return items;
}

/// Gives a first item without a name, `root.img`, the name it implies, unless it is a flag's.
void name_first_item(const OptionSpecs& specs, Item& first) {
  if (first.value || first.key.empty()) return;
  for (const auto* spec : specs) {
    if (spec->name == first.key) return;
  }
  for (const auto* spec : specs) {
    if (spec->implied) first = {std::string(spec->name), std::move(first.key)};
  }
}

}  // namespace

bool option_has_unit(const OptionSpec& spec) {
  return spec.kind == OptionKind::Choice || spec.form == OptionForm::Memory ||
         spec.form == OptionForm::Duration || spec.form == OptionForm::Instant ||
         spec.form == OptionForm::Port;
}

std::string option_expected(const OptionSpec& spec) {
  switch (spec.kind) {
    case OptionKind::Flag: return "on or off";
    case OptionKind::Choice: return fmt::format("{}", fmt::join(spec.choices, " or "));
    case OptionKind::Text: return expected_text(spec);
    case OptionKind::Number: break;
  }
  switch (spec.form) {
    case OptionForm::PowerOfTwo: return "a power of two" + range(spec);
    case OptionForm::Memory:
      return "a size" + range(spec) + " such as 512M or 1G (a plain number is in MiB)";
    case OptionForm::Duration:
      return "a time" + range(spec) + " such as 10s or 500ms (a plain number is in seconds)";
    case OptionForm::Instant:
      return "a time" + range(spec) + " such as 50us or 1ms (a plain number is in microseconds)";
    case OptionForm::Port: return "an I/O port" + range(spec);
    default: return "a number" + range(spec);
  }
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  return shown_between('"', text, kMaxShown);
}

std::string file_label(std::string_view role, std::string_view path) {
  constexpr size_t kMaxShown = 255;
  return fmt::format("{} {}", role, shown_between('\'', path, kMaxShown));
}

std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates) {
  name = name.substr(0, 64);
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, name.size() / 3) + 1;
  for (const auto candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return best.empty() ? "" : fmt::format("; did you mean \"{}\"?", best);
}

void check_option(const OptionSpec& spec, const OptionValue& value, std::string_view where) {
  const auto* text = std::get_if<std::string>(&value);
  if (spec.required && (text != nullptr ? text->empty() : value.index() == 0)) {
    throw ConfigError(fmt::format("{}: required, expected {}", where, option_expected(spec)));
  }
  if (text != nullptr) {
    if (!text_fits(spec, *text)) refuse(spec, where, in_quotes(*text));
  } else if (const auto* number = std::get_if<uint64_t>(&value)) {
    const bool fits = spec.kind == OptionKind::Choice ? *number < spec.choices.size()
                                                      : number_fits(spec, *number);
    if (!fits) refuse(spec, where, print_number(spec.form, *number));
  }
}

OptionValue parse_option(const OptionSpec& spec, std::string_view text, std::string_view where) {
  OptionValue value;
  switch (spec.kind) {
    case OptionKind::Text: value = std::string(text); break;
    case OptionKind::Flag:
      if (text != "on" && text != "off") refuse(spec, where, in_quotes(text));
      return text == "on";
    case OptionKind::Choice: {
      const auto found = std::find(spec.choices.begin(), spec.choices.end(), text);
      if (found == spec.choices.end()) refuse(spec, where, in_quotes(text));
      return static_cast<uint64_t>(found - spec.choices.begin());
    }
    case OptionKind::Number: {
      const auto number = parse_number(spec.form, text);
      if (!number || !number_fits(spec, *number)) refuse(spec, where, in_quotes(text));
      return *number;
    }
  }
  check_option(spec, value, where);
  return value;
}

OptionValue convert_option(const OptionSpec& spec, const OptionValue& typed,
                           std::string_view where) {
  const auto* text = std::get_if<std::string>(&typed);
  if (text != nullptr && (spec.kind == OptionKind::Text || option_has_unit(spec)))
    return parse_option(spec, *text, where);
  if (spec.kind == OptionKind::Flag) {
    if (std::holds_alternative<bool>(typed)) return typed;
    throw ConfigError(fmt::format("{}: expected true or false, got {}", where, print_typed(typed)));
  }
  const auto* number = std::get_if<uint64_t>(&typed);
  if (spec.kind == OptionKind::Number && number != nullptr) {
    const auto value = scaled(spec.form, *number, "");
    if (value && number_fits(spec, *value)) return *value;
  }
  refuse(spec, where, print_typed(typed));
}

std::string print_option(const OptionSpec& spec, const OptionValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "on" : "off";
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  const auto* number = std::get_if<uint64_t>(&value);
  if (number == nullptr) return "";
  if (spec.kind == OptionKind::Choice) return std::string(spec.choices[*number]);
  return print_number(spec.form, *number);
}

std::string option_placeholder(const OptionSpec& spec) {
  if (spec.kind == OptionKind::Flag) return "on|off";
  if (spec.kind == OptionKind::Choice) return fmt::format("{}", fmt::join(spec.choices, "|"));
  switch (spec.form) {
    case OptionForm::File: return "FILE";
    case OptionForm::Name: return "NAME";
    case OptionForm::Memory: return "SIZE";
    case OptionForm::Duration: return "TIME";
    case OptionForm::Port: return "PORT";
    default: return spec.kind == OptionKind::Number ? "N" : "TEXT";
  }
}

size_t find_option(const OptionSpecs& specs, std::string_view name, std::string_view where) {
  std::vector<std::string_view> names;
  for (const auto* spec : specs) {
    if (spec->name == name) return names.size();
    names.push_back(spec->name);
  }
  auto hint = did_you_mean(name, names);
  if (hint.empty()) hint = fmt::format("; expected {}", fmt::join(names, ", "));
  throw ConfigError(fmt::format("{}: unknown option {}{}", where, in_quotes(name), hint));
}

std::vector<ParsedOption> parse_option_list(const OptionSpecs& specs, std::string_view list,
                                            std::string_view where) {
  auto items = split_list(list);
  name_first_item(specs, items.front());
  std::vector<ParsedOption> parsed;
  std::vector<bool> seen(specs.size());
  for (const auto& item : items) {
    if (item.key.empty() && !item.value && items.size() > 1) {
      throw ConfigError(
          fmt::format("{}: nothing between two commas of {} (write a comma in a value twice)",
                      where, in_quotes(list)));
    }
    if (item.key.empty() && !item.value) break;
    const size_t index = find_option(specs, item.key, where);
    const OptionSpec& spec = *specs[index];
    const auto name = fmt::format("{} {}", where, spec.name);
    if (seen[index]) throw ConfigError(name + ": given twice");
    seen[index] = true;
    if (!item.value && spec.kind != OptionKind::Flag) {
      throw ConfigError(
          fmt::format("{}: expected {}={}", name, spec.name, option_placeholder(spec)));
    }
    parsed.push_back(
        {index, item.value ? parse_option(spec, *item.value, name) : OptionValue(true)});
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!specs[i]->required || seen[i]) continue;
    throw ConfigError(
        fmt::format("{}: expected {}={}", where, specs[i]->name, option_placeholder(*specs[i])));
  }
  return parsed;
}

OptionHelp option_help(const OptionSpec& spec, const OptionValue& default_value) {
  return {.name = spec.name,
          .value = option_placeholder(spec),
          .default_value = spec.required ? "required" : print_option(spec, default_value),
          .doc = spec.doc};
}

}  // namespace ringlet
