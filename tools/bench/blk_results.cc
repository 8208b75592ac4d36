// Results of the disk benchmark: samples by case and party, and what may be said of them.
#include "tools/bench/blk_results.h"

#include <algorithm>

#include <fmt/core.h>

namespace ringlet::bench {

namespace {

constexpr double kMaxChance = 0.05;

template <typename Member>
std::vector<double> column(const std::vector<BlkSample>& samples, Member member) {
  std::vector<double> values;
  for (const BlkSample& sample : samples) values.push_back(sample.*member);
  return values;
}

void print_party(const std::string& name, const std::vector<BlkSample>& samples,
                 const BlkSample& first) {
  const Summary iops = summarize(iops_of(samples));
  const Summary cpu = summarize(cpu_of(samples));
  fmt::print("  {:<14} {:>9.0f} ({:.0f}-{:.0f})", name, iops.median, iops.low, iops.high);
  fmt::print("  {:>7.2f} ({:.2f}-{:.2f})", cpu.median, cpu.low, cpu.high);
  fmt::print("  {:>8}", first.calls ? fmt::format("{:.3f}", *first.calls) : "-");
  fmt::print("  {:>8}", first.kicks ? fmt::format("{:.3f}", *first.kicks) : "-");
  fmt::print("  {:>8.1f} {:>8.1f}\n", summarize(column(samples, &BlkSample::p50_us)).median,
             summarize(column(samples, &BlkSample::p99_us)).median);
}

void print_comparison(const CaseResult& result, const std::string& name, const std::string& other) {
  if (!result.rounds.contains(name) || !result.rounds.contains(other)) return;
  const auto& ours = result.rounds.at(name);
  const auto& theirs = result.rounds.at(other);
  fmt::print("    {:<26} IOPS {:<28}", fmt::format("{} / {}", name, other),
             show(compare(iops_of(ours), iops_of(theirs), Better::More)));
  // An access may be none of the I/O side's business.
  if (result.load.is_load()) {
    fmt::print(" CPU {}", show(compare(cpu_of(ours), cpu_of(theirs), Better::Less)));
  }
  fmt::print("\n");
}

std::string about_control(const CaseResult& result) {
  if (!result.rounds.contains("host fio")) return "";
  std::string text = fmt::format(": control varies by {:.0f} %", 100 * control_spread(result));
  if (result.attempts > 1) text += fmt::format(", the best of {} attempts", result.attempts);
  return text;
}

}  // namespace

std::vector<double> iops_of(const std::vector<BlkSample>& samples) {
  return column(samples, &BlkSample::iops);
}

std::vector<double> cpu_of(const std::vector<BlkSample>& samples) {
  return column(samples, &BlkSample::cpu_us);
}

double control_spread(const CaseResult& result) {
  const auto fio = result.rounds.find("host fio");
  if (fio == result.rounds.end()) return 0;
  const Summary summary = summarize(iops_of(fio->second));
  return (summary.high - summary.low) / summary.median;
}

std::string best_qemu(const CaseResult& result) {
  std::string best;
  double most = 0;
  for (const auto& [name, samples] : result.rounds) {
    const double median = summarize(iops_of(samples)).median;
    if (name.starts_with("qemu") && median > most) {
      best = name;
      most = median;
    }
  }
  return best;
}

Comparison compare(const std::vector<double>& samples, const std::vector<double>& others,
                   Better better) {
  const std::vector<double> ratios = ratios_of(samples, others);
  Comparison comparison{.ratio = summarize(ratios)};
  if (chance_of_equals(ratios) > kMaxChance) return comparison;
  const bool more = comparison.ratio.low > 1;
  const bool less = comparison.ratio.high < 1;
  if (more || less) {
    comparison.verdict = more == (better == Better::More) ? Verdict::Better : Verdict::Worse;
  }
  return comparison;
}

std::string show(const Comparison& comparison) {
  const char* const word = comparison.verdict == Verdict::Better  ? "better"
                           : comparison.verdict == Verdict::Worse ? "worse"
                                                                  : "undecided";
  return fmt::format("{} {}", show(comparison.ratio), word);
}

void print_results(const std::vector<CaseResult>& results, const std::vector<Party>& parties) {
  fmt::print("\n  {:<14} {:>9} {:<15} {:>9} {:<11} {:>8}  {:>8}  {:>8} {:>8}\n", "", "IOPS", "",
             "CPU us", "", "calls", "kicks", "p50 us", "p99 us");
  for (const CaseResult& result : results) {
    fmt::print("\n{}{}\n", result.load.name(), about_control(result));
    for (const Party& party : parties) {
      if (!party.takes(result.load)) continue;
      print_party(party.name, result.rounds.at(party.name), result.first.at(party.name));
    }
    const std::string qemu = best_qemu(result);
    print_comparison(result, "ringlet", qemu);
    print_comparison(result, "ringlet", "host fio");
    print_comparison(result, "ringlet", "fio + spinner");
    print_comparison(result, "registered", qemu);
    print_comparison(result, "registered", "host fio");
    print_comparison(result, "registered", "ringlet");
    print_comparison(result, "ringlet", "also");
  }
}

}  // namespace ringlet::bench
