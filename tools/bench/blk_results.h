// Results of the disk benchmark: samples by case and party, and what may be said of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tools/bench/blk_cases.h"
#include "tools/bench/blk_run.h"
#include "tools/bench/statistics.h"

namespace ringlet::bench {

/// All parties' samples of one case, one a round; the same rounds for all.
struct CaseResult {
  BlkCase load;
  std::map<std::string, std::vector<BlkSample>> rounds;
  /// From the discarded round, where system calls are counted.
  std::map<std::string, BlkSample> first;
  size_t attempts = 1;
};

std::vector<double> iops_of(const std::vector<BlkSample>& samples);
std::vector<double> cpu_of(const std::vector<BlkSample>& samples);

/// The interquartile range of the control's IOPS over its median.
double control_spread(const CaseResult& result);
/// A control that varies more makes the case be measured again.
inline constexpr double kMaxControlSpread = 0.1;

/// The QEMU with the highest median IOPS; empty when there is none.
std::string best_qemu(const CaseResult& result);

enum class Better { More, Less };
enum class Verdict { Better, Worse, Undecided };

/// How one party stands against another: quotients of samples of the same round.
struct Comparison {
  Summary ratio;
  Verdict verdict = Verdict::Undecided;
};
/// Undecided when equality lies within the quartiles, or when equals would differ in one direction
/// that often by a chance of more than 5 %: so always with less than 6 rounds.
Comparison compare(const std::vector<double>& samples, const std::vector<double>& others,
                   Better better);

/// "1.31 (1.28-1.35) better"
std::string show(const Comparison& comparison);

/// Tables of every case, and of every comparison with QEMU's best and with fio.
void print_results(const std::vector<CaseResult>& results, const std::vector<Party>& parties);

}  // namespace ringlet::bench
