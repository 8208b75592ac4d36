// The command line: parsing, help and the descriptions made from the options tables.
#include "vmm/cli.h"

#include <algorithm>
#include <map>
#include <set>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "kvm/error.h"
#include "vmm/config_json.h"
#include "vmm/exit_status.h"

namespace ringlet {
namespace {

constexpr std::string_view kExamples = R"(Examples:
  Boot Linux with its root file system on a disk:
    ringlet run --kernel vmlinux --disk root.ext4
  More of everything, and a second disk that the guest cannot write:
    ringlet run --kernel vmlinux --cpus 2 --memory 1G --disk root.ext4 \
        --disk path=data.img,readonly,serial=data
  See what would run, keep it, and run it:
    ringlet run --kernel vmlinux --disk root.ext4 --dry-run > vm.json
    ringlet run --config vm.json

A device is a list of name=value, separated by commas; a flag's name alone means on, and a comma
in a value is written twice. `ringlet devices` lists every device with its options.
Ctrl-A X leaves a machine that has the terminal, Ctrl-A A sends a Ctrl-A.
)";

/// The options that are in no table, since they are no single field of the machine.
struct OtherOption {
  const char* name;
  const char* value;
  const char* doc;
};
constexpr OtherOption kConfigOption{
    "--config", "FILE", "machine as JSON; other options replace its values or add devices"};
constexpr OtherOption kDryRunOption{"--dry-run", "",
                                    "check everything, print the machine as JSON, and end"};
constexpr OtherOption kCpuidOption{
    "--cpuid", "FEATURE=on|off",
    "switch a feature of the virtual CPUs, such as avx512f=off, or any bit by its leaf, subleaf, "
    "register and number: 0x7,0,ebx,16=off"};

std::string flag_name(std::string_view name) {
  return "--" + std::string(name);
}

std::string help_text(const OptionSpec& spec, const OptionValue& default_value) {
  std::string text(spec.doc);
  const auto value = print_option(spec, default_value);
  if (!value.empty() && spec.kind != OptionKind::Flag) text += fmt::format(" [{}]", value);
  return text;
}

/// Adds an option whose text is read after parsing, in the order of the command line.
CLI::Option* add_text(CLI::App& app, const std::string& name, const std::string& doc,
                      const std::string& placeholder) {
  return app
      .add_option(
          name, [](const CLI::results_t& /*results*/) { return true; }, doc)
      ->type_name(placeholder)
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

/// A const text, since CLI11 takes any other argument for a variable to set.
void add_flag(CLI::App& app, const std::string& name, const std::string& doc) {
  app.add_flag(name, doc);
}

/// Which options CLI11 is told of. To describe them all to it takes a tenth of a start, so to run a
/// machine it hears of those that the command line names, without what is for help, and of the rest
/// only if that fails.
class OptionFilter {
 public:
  /// All of them.
  OptionFilter() = default;
  explicit OptionFilter(std::span<const char* const> args) : args_(args), all_(false) {}
  bool all() const { return all_; }
  bool has(std::string_view flag) const {
    return all_ || std::ranges::any_of(args_, [flag](std::string_view arg) {
             return arg.substr(0, arg.find('=')) == flag;
           });
  }

 private:
  std::span<const char* const> args_;
  bool all_ = true;
};

void add_run_options(CLI::App& run, const OptionFilter& wanted) {
  constexpr auto kRepeatable = "Repeatable options";
  const auto add_other = [&](const OtherOption& option) {
    return wanted.has(option.name) ? add_text(run, option.name, option.doc, option.value) : nullptr;
  };
  add_other(kConfigOption);
  if (wanted.has(kDryRunOption.name)) add_flag(run, kDryRunOption.name, kDryRunOption.doc);
  const MachineConfig defaults;
  for (const auto& row : kMachineOptions) {
    const auto name = flag_name(row.spec.name);
    if (!wanted.has(name)) continue;
    const auto text = wanted.all() ? help_text(row.spec, row.get(defaults)) : std::string();
    if (row.spec.kind == OptionKind::Flag) {
      add_flag(run, name, text);
    } else {
      add_text(run, name, text, option_placeholder(row.spec));
    }
  }
  if (auto* const option = add_other(kCpuidOption)) option->group(kRepeatable);
  for_each_device_type([&](const auto& type) {
    const auto name = flag_name(type.name);
    if (wanted.has(name)) add_text(run, name, std::string(type.title), "LIST")->group(kRepeatable);
  });
}

/// The texts given for an option, in order. Walks the command line once.
class GivenOptions {
 public:
  explicit GivenOptions(const CLI::App& app) : order_(app.parse_order()) {}

  /// Calls f(name, text) for each option in the order of the command line.
  template <typename F>
  void for_each(F f) const {
    std::map<const CLI::Option*, size_t> used;
    for (const auto* option : order_) {
      const auto name = option->get_name();
      if (option->get_expected_max() == 0) {  // a flag: CLI11 says "true" when it stands alone
        const auto& text = option->results().at(used[option]++);
        f(name, text == "true" ? std::string("on") : text);
      } else {
        f(name, option->results().at(used[option]++));
      }
    }
  }

 private:
  std::vector<CLI::Option*> order_;
};

/// A flag of the program itself, which is there or not: CLI11 says "true" when it stands alone.
bool is_given(const CLI::App& command, const std::string& flag) {
  const auto* const option = command.get_option_no_throw(flag);
  if (option == nullptr) return false;
  const auto& results = option->results();
  for (const auto& text : results) {
    if (text == "true") continue;
    throw ConfigError(fmt::format("{}: expected no value, got {}", flag, in_quotes(text)));
  }
  return !results.empty();
}

/// CLI11's only complaint about what we ask of it, in our words.
[[noreturn]] void refuse_missing_value(const CLI::App& run, const std::string& message) {
  const auto name = message.substr(0, message.find(':'));
  const auto* option = run.get_option_no_throw(name);
  throw ConfigError(option == nullptr ? message
                                      : fmt::format("{}: expected {} {}, got nothing", name, name,
                                                    option->get_type_name()));
}

/// CLI11 takes whatever follows for an option's value, the next option too.
void refuse_options_as_values(const CLI::App& run) {
  for (const auto* option : run.parse_order()) {
    for (const auto& text : option->results()) {
      if (!text.starts_with("--") || run.get_option_no_throw(text) == nullptr) continue;
      throw ConfigError(fmt::format("{}: expected {} {}, got {}", option->get_name(),
                                    option->get_name(), option->get_type_name(), in_quotes(text)));
    }
  }
}

/// Does nothing for options that are not the machine's: --config, --dry-run.
void set_machine_option(MachineConfig& machine, const std::string& name, const std::string& text) {
  for (const auto& row : kMachineOptions) {
    if (flag_name(row.spec.name) == name) row.set(machine, parse_option(row.spec, text, name));
  }
}

/// False when no type of device has this option.
bool add_device(MachineConfig& machine, const std::string& name, const std::string& text) {
  bool added = false;
  for_each_device_type([&]<typename Config>(const DeviceType<Config>& type) {
    if (flag_name(type.name) != name) return;
    machine.devices.push_back(parse_device<Config>(text, name));
    added = true;
  });
  return added;
}

MachineConfig machine_from_options(const GivenOptions& given) {
  MachineConfig machine;
  given.for_each([&](const std::string& name, const std::string& text) {
    if (name != kConfigOption.name) return;
    if (text.empty()) throw ConfigError(name + ": expected a file name, got \"\"");
    machine = machine_from_file(text);
  });
  std::set<std::string> seen;
  given.for_each([&](const std::string& name, const std::string& text) {
    if (name == kCpuidOption.name) {
      machine.cpuid.push_back(parse_cpuid_change(text, name));
    } else if (!add_device(machine, name, text)) {
      if (!seen.insert(name).second) throw ConfigError(name + ": given twice");
      set_machine_option(machine, name, text);
    }
  });
  if (machine.kernel.empty()) throw ConfigError("--kernel: required, expected a file name");
  validate(machine);
  return machine;
}

/// Refuses what CLI11 could not place, with a suggestion where it looks like an option.
void refuse_extras(const CLI::App& app) {
  const auto extras = app.remaining();
  if (extras.empty()) return;
  const auto& culprit = extras.front();
  const auto name = culprit.substr(0, culprit.find('='));
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) names.push_back(option->get_name());
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  throw ConfigError(
      fmt::format("unexpected argument {}{}", in_quotes(culprit), did_you_mean(name, views)));
}

std::string footer() {
  std::string text = fmt::format("{}\nExit status:\n{}", kExamples, exit_statuses_as_columns());
  for (const auto note : kExitStatusNotes) text += fmt::format("{}\n", note);
  return text;
}

/// What CLI11 is told of the program's commands and options.
struct Grammar {
  /// Of all commands, or with a filter of `run` only.
  explicit Grammar(const OptionFilter& wanted)
      : app("ringlet runs virtual machines on Linux's KVM.", "ringlet"),
        run(*without_help(app, !wanted.all()).add_subcommand("run", "run a virtual machine")) {
    app.allow_extras();
    app.require_subcommand(0, 1);
    run.allow_extras();
    add_run_options(run, wanted);
    if (wanted.all()) add_the_rest();
  }

  void parse(std::span<const char* const> args) {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  }

  /// Whether `args` run a machine, and each of them is an option or an option's value.
  bool takes_all_of(std::span<const char* const> args) {
    try {
      parse(args);
    } catch (const CLI::ParseError&) {
      return false;
    }
    return run.parsed() && app.remaining(true).empty();
  }

  CLI::App app;
  CLI::App& run;
  CLI::App* devices = nullptr;
  CLI::App* check = nullptr;
  std::string device_type;

 private:
  /// Commands have a help flag if the program has one when they are made.
  static CLI::App& without_help(CLI::App& app, bool lean) {
    if (lean) app.set_help_flag();
    return app;
  }

  void add_the_rest() {
    app.set_version_flag("--version", std::string("ringlet " RINGLET_VERSION));
    app.footer("`ringlet COMMAND --help` tells more.");
    run.footer(footer);  // made only when help is asked for
    devices = app.add_subcommand("devices", "list the types of device and their options");
    devices->add_option("type", device_type, "only this type")->type_name("TYPE");
    add_flag(*devices, "--markdown", "print the reference of all options, in Markdown");
    devices->allow_extras();
    check = app.add_subcommand("check", "tell whether and how well this host can run VMs");
    add_flag(*check, "--json", "print JSON");
    check->allow_extras();
  }
};

CommandLine run_line(const CLI::App& run) {
  refuse_options_as_values(run);
  CommandLine line;
  line.command = is_given(run, kDryRunOption.name) ? Command::DryRun : Command::Run;
  line.machine = machine_from_options(GivenOptions(run));
  return line;
}

template <typename Config>
std::string describe(const DeviceType<Config>& type) {
  return fmt::format("{}  {}\n  e.g. {}\n\n{}", type.name, type.title, type.example,
                     options_as_columns(help_of(type.options)));
}

}  // namespace

std::string describe_devices(std::string_view type) {
  std::string text;
  std::vector<std::string_view> names;
  for_each_device_type([&](const auto& candidate) {
    names.push_back(candidate.name);
    if (!type.empty() && type != candidate.name) return;
    text += (text.empty() ? "" : "\n") + describe(candidate);
  });
  if (!text.empty()) return text;
  throw ConfigError(
      fmt::format("devices: expected {}, got {}", fmt::join(names, " or "), in_quotes(type)));
}

std::string reference_as_markdown() {
  std::string text = "## Options of `ringlet run`\n\n";
  std::vector<OptionHelp> rows = help_of<MachineConfig>(kMachineOptions);
  for (const OtherOption& other : {kCpuidOption, kConfigOption, kDryRunOption}) {
    rows.push_back({.name = std::string_view(other.name).substr(2),
                    .value = other.value,
                    .default_value = "",
                    .doc = other.doc});
  }
  text += options_as_markdown(rows);
  text += "\n`cpuid` may be given several times; in JSON it is a list of such texts.\n";
  text += "\n## Devices\n";
  for_each_device_type([&](const auto& type) {
    text += fmt::format("\n### `--{}`\n\n{}, e.g. `{}`.\n\n{}", type.name, type.title, type.example,
                        options_as_markdown(help_of(type.options)));
  });
  return text + "\n## Exit status\n\n" + exit_statuses_as_markdown();
}

CommandLine parse_command_line(std::span<const char* const> args) {
  {
    Grammar run_only{OptionFilter(args)};
    if (run_only.takes_all_of(args)) return run_line(run_only.run);
  }
  Grammar grammar{OptionFilter()};
  CommandLine result;
  try {
    grammar.parse(args);
  } catch (const CLI::CallForHelp&) {
    result.text = grammar.app.help();
    return result;
  } catch (const CLI::CallForVersion& version) {
    result.text = std::string(version.what()) + "\n";
    return result;
  } catch (const CLI::ArgumentMismatch& error) {
    refuse_missing_value(grammar.run, error.what());
  } catch (const CLI::ParseError& error) {
    throw ConfigError(error.what());
  }
  refuse_options_as_values(grammar.run);
  refuse_extras(grammar.app);
  for (const auto* command : grammar.app.get_subcommands()) refuse_extras(*command);
  if (grammar.run.parsed()) return run_line(grammar.run);
  if (grammar.devices->parsed()) {
    result.text = is_given(*grammar.devices, "--markdown") ? reference_as_markdown()
                                                           : describe_devices(grammar.device_type);
  } else if (grammar.check->parsed()) {
    result.command = Command::Check;
    result.json = is_given(*grammar.check, "--json");
  } else {
    throw ConfigError("expected a command: run, devices or check (see ringlet --help)");
  }
  return result;
}

}  // namespace ringlet
