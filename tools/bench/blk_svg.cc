// Draws the disk benchmark's ratios as a picture for the documentation.
#include "tools/bench/blk_svg.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/core.h>

namespace ringlet::bench {

namespace {

constexpr int kNameWidth = 220;
constexpr int kPanelWidth = 290;
constexpr int kGap = 40;
constexpr int kTop = 66;
constexpr int kRow = 26;
constexpr int kBar = 14;
constexpr int kBottom = 44;
constexpr int kWidth = kNameWidth + 2 * kPanelWidth + 2 * kGap + 20;
/// Longer bars are cut: what is shown is who is ahead.
constexpr double kMostShown = 3;

// Colours that are legible on light and on dark pages; the text follows the page.
constexpr const char* kStyle =
    "<style>"
    "text{font:13px system-ui,sans-serif;fill:#1f2328}"
    ".small{font-size:11px;fill:#59636e}"
    ".head{font-weight:600}"
    ".axis{stroke:#818b98;stroke-width:1}"
    ".grid{stroke:#818b98;stroke-width:.5;stroke-dasharray:2 3}"
    ".better{fill:#2da44e}.worse{fill:#cf5b5b}.undecided{fill:#8c959f}"
    ".spread{stroke:#1f2328;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){"
    "text{fill:#e6edf3}.small{fill:#9198a1}.spread{stroke:#e6edf3}"
    ".better{fill:#3fb950}.worse{fill:#e5706b}.undecided{fill:#6e7681}}"
    "</style>\n";

const char* class_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::Better: return "better";
    case Verdict::Worse: return "worse";
    case Verdict::Undecided: return "undecided";
  }
  return "";
}

std::string escape(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '&': safe += "&amp;"; break;
      default: safe += c;
    }
  }
  return safe;
}

/// One column of bars; all share its scale.
struct Panel {
  int left = 0;
  double most = 1;

  double x(double ratio) const { return left + std::min(ratio, most) / most * kPanelWidth; }
};

std::string draw_frame(const Panel& panel, const std::string& title, int height) {
  std::string svg =
      fmt::format("<text class=\"head\" x=\"{}\" y=\"24\">{}</text>\n", panel.left, escape(title));
  for (int half = 1; half * 0.5 <= panel.most; ++half) {
    const double ratio = half * 0.5;
    svg += fmt::format(
        "<line class=\"{}\" x1=\"{x:.1f}\" x2=\"{x:.1f}\" y1=\"{}\" y2=\"{}\"/>"
        "<text class=\"small\" text-anchor=\"middle\" x=\"{x:.1f}\" y=\"{}\">{:g}</text>\n",
        half == 2 ? "axis" : "grid", kTop - 12, height - kBottom + 4, kTop - 18, ratio,
        fmt::arg("x", panel.x(ratio)));
  }
  return svg;
}

std::string draw_bar(const Panel& panel, const Comparison& comparison, int y) {
  const Summary& ratio = comparison.ratio;
  const double end = panel.x(ratio.median);
  const int middle = y + kBar / 2;
  std::string svg =
      fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" rx=\"2\"/>",
                  class_of(comparison.verdict), panel.left, y, end - panel.left, kBar);
  svg += fmt::format("<line class=\"spread\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{y}\" y2=\"{y}\"/>",
                     panel.x(ratio.low), panel.x(ratio.high), fmt::arg("y", middle));
  return svg + fmt::format("<text class=\"small\" x=\"{:.1f}\" y=\"{}\">{:.2f}</text>\n",
                           std::max(end, panel.x(ratio.high)) + 5, middle + 4, ratio.median);
}

/// Room for the longest bar, in steps of one half.
double scale(const std::vector<Comparison>& bars) {
  double most = 1.5;
  for (const Comparison& bar : bars) most = std::max(most, bar.ratio.median);
  return std::min(std::ceil(most * 2) / 2, kMostShown);
}

}  // namespace

std::string draw_svg(const std::vector<CaseResult>& results, const std::string& caption) {
  std::vector<std::string> names;
  std::array<std::vector<Comparison>, 2> bars;
  for (const CaseResult& result : results) {
    const std::string qemu = best_qemu(result);
    if (qemu.empty() || !result.load.is_load()) continue;
    const auto& ours = result.rounds.at("ringlet");
    const auto& theirs = result.rounds.at(qemu);
    names.push_back(result.load.name());
    bars[0].push_back(compare(iops_of(ours), iops_of(theirs), Better::More));
    bars[1].push_back(compare(cpu_of(ours), cpu_of(theirs), Better::Less));
  }
  const int height = kTop + static_cast<int>(names.size()) * kRow + kBottom;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\" aria-label=\"ringlet against QEMU's best\">\n",
      kWidth, height);
  svg += kStyle;
  const std::array<const char*, 2> titles{"IOPS / QEMU's best: more is better",
                                          "CPU per request / QEMU's: less is better"};
  for (size_t column = 0; column < bars.size(); ++column) {
    const Panel panel{kNameWidth + static_cast<int>(column) * (kPanelWidth + kGap),
                      scale(bars[column])};
    svg += draw_frame(panel, titles[column], height);
    for (size_t row = 0; row < names.size(); ++row) {
      svg += draw_bar(panel, bars[column][row], kTop + static_cast<int>(row) * kRow);
    }
  }
  for (size_t row = 0; row < names.size(); ++row) {
    svg += fmt::format("<text x=\"4\" y=\"{}\">{}</text>\n",
                       kTop + static_cast<int>(row) * kRow + kBar - 2, escape(names[row]));
  }
  svg += fmt::format("<text class=\"small\" x=\"4\" y=\"{}\">{}</text>\n</svg>\n", height - 14,
                     escape(caption));
  return svg;
}

}  // namespace ringlet::bench
