// How users name CPUID bits: by feature, or by place.
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <system_error>

#include <fmt/core.h>

#include "kvm/cpuid.h"
#include "kvm/error.h"

namespace ringlet {
namespace {

using enum CpuidRegister;

// clang-format off
struct Feature {
  std::string_view name;
  CpuidBit bit;
};

/// The features people switch, by their names in /proc/cpuinfo.
constexpr std::array kFeatures{
    Feature{"pni",                {0x1, 0, Ecx, 0}},
    Feature{"pclmulqdq",          {0x1, 0, Ecx, 1}},
    Feature{"vmx",                {0x1, 0, Ecx, 5}},
    Feature{"ssse3",              {0x1, 0, Ecx, 9}},
    Feature{"fma",                {0x1, 0, Ecx, 12}},
    Feature{"cx16",               {0x1, 0, Ecx, 13}},
    Feature{"pcid",               {0x1, 0, Ecx, 17}},
    Feature{"sse4_1",             {0x1, 0, Ecx, 19}},
    Feature{"sse4_2",             {0x1, 0, Ecx, 20}},
    Feature{"x2apic",             {0x1, 0, Ecx, 21}},
    Feature{"movbe",              {0x1, 0, Ecx, 22}},
    Feature{"popcnt",             {0x1, 0, Ecx, 23}},
    Feature{"tsc_deadline_timer", {0x1, 0, Ecx, 24}},
    Feature{"aes",                {0x1, 0, Ecx, 25}},
    Feature{"xsave",              {0x1, 0, Ecx, 26}},
    Feature{"avx",                {0x1, 0, Ecx, 28}},
    Feature{"f16c",               {0x1, 0, Ecx, 29}},
    Feature{"rdrand",             {0x1, 0, Ecx, 30}},
    Feature{"hypervisor",         {0x1, 0, Ecx, 31}},
    Feature{"fsgsbase",           {0x7, 0, Ebx, 0}},
    Feature{"tsc_adjust",         {0x7, 0, Ebx, 1}},
    Feature{"bmi1",               {0x7, 0, Ebx, 3}},
    Feature{"hle",                {0x7, 0, Ebx, 4}},
    Feature{"avx2",               {0x7, 0, Ebx, 5}},
    Feature{"smep",               {0x7, 0, Ebx, 7}},
    Feature{"bmi2",               {0x7, 0, Ebx, 8}},
    Feature{"erms",               {0x7, 0, Ebx, 9}},
    Feature{"invpcid",            {0x7, 0, Ebx, 10}},
    Feature{"rtm",                {0x7, 0, Ebx, 11}},
    Feature{"avx512f",            {0x7, 0, Ebx, 16}},
    Feature{"avx512dq",           {0x7, 0, Ebx, 17}},
    Feature{"rdseed",             {0x7, 0, Ebx, 18}},
    Feature{"adx",                {0x7, 0, Ebx, 19}},
    Feature{"smap",               {0x7, 0, Ebx, 20}},
    Feature{"avx512ifma",         {0x7, 0, Ebx, 21}},
    Feature{"clflushopt",         {0x7, 0, Ebx, 23}},
    Feature{"clwb",               {0x7, 0, Ebx, 24}},
    Feature{"avx512cd",           {0x7, 0, Ebx, 28}},
    Feature{"sha_ni",             {0x7, 0, Ebx, 29}},
    Feature{"avx512bw",           {0x7, 0, Ebx, 30}},
    Feature{"avx512vl",           {0x7, 0, Ebx, 31}},
    Feature{"avx512vbmi",         {0x7, 0, Ecx, 1}},
    Feature{"umip",               {0x7, 0, Ecx, 2}},
    Feature{"pku",                {0x7, 0, Ecx, 3}},
    Feature{"waitpkg",            {0x7, 0, Ecx, 5}},
    Feature{"avx512_vbmi2",       {0x7, 0, Ecx, 6}},
    Feature{"gfni",               {0x7, 0, Ecx, 8}},
    Feature{"vaes",               {0x7, 0, Ecx, 9}},
    Feature{"vpclmulqdq",         {0x7, 0, Ecx, 10}},
    Feature{"avx512_vnni",        {0x7, 0, Ecx, 11}},
    Feature{"avx512_bitalg",      {0x7, 0, Ecx, 12}},
    Feature{"avx512_vpopcntdq",   {0x7, 0, Ecx, 14}},
    Feature{"la57",               {0x7, 0, Ecx, 16}},
    Feature{"rdpid",              {0x7, 0, Ecx, 22}},
    Feature{"fsrm",               {0x7, 0, Edx, 4}},
    Feature{"md_clear",           {0x7, 0, Edx, 10}},
    Feature{"serialize",          {0x7, 0, Edx, 14}},
    Feature{"arch_capabilities",  {0x7, 0, Edx, 29}},
    Feature{"avx_vnni",           {0x7, 1, Eax, 4}},
    Feature{"avx512_bf16",        {0x7, 1, Eax, 5}},
    Feature{"xsaveopt",           {0xd, 1, Eax, 0}},
    Feature{"xsavec",             {0xd, 1, Eax, 1}},
    Feature{"xsaves",             {0xd, 1, Eax, 3}},
    Feature{"lahf_lm",            {0x8000'0001, 0, Ecx, 0}},
    Feature{"svm",                {0x8000'0001, 0, Ecx, 2}},
    Feature{"abm",                {0x8000'0001, 0, Ecx, 5}},
    Feature{"sse4a",              {0x8000'0001, 0, Ecx, 6}},
    Feature{"topoext",            {0x8000'0001, 0, Ecx, 22}},
    Feature{"nx",                 {0x8000'0001, 0, Edx, 20}},
    Feature{"pdpe1gb",            {0x8000'0001, 0, Edx, 26}},
    Feature{"rdtscp",             {0x8000'0001, 0, Edx, 27}},
    Feature{"nonstop_tsc",        {0x8000'0007, 0, Edx, 8}},
};
// clang-format on

constexpr std::array<std::string_view, 4> kRegisterNames{"eax", "ebx", "ecx", "edx"};

/// What the user wrote, and where.
struct Source {
  std::string_view where;
  std::string_view text;
};

[[noreturn]] void reject(const Source& source, std::string_view why) {
  constexpr size_t kMaxShown = 80;
  throw ConfigError(
      fmt::format("{}: {}, got \"{}\"; expected FEATURE=on|off or LEAF,SUBLEAF,REGISTER,BIT=on|off",
                  source.where, why, source.text.substr(0, kMaxShown)));
}

std::optional<uint32_t> parse_number(std::string_view text) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  if (hex) text.remove_prefix(2);
  uint32_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

CpuidBit parse_bit(const Source& source, std::string_view place) {
  std::array<std::string_view, 4> parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    const size_t comma = i + 1 < parts.size() ? place.find(',') : place.size();
    if (comma == std::string_view::npos) reject(source, "four fields wanted before \"=\"");
    parts[i] = place.substr(0, comma);
    place.remove_prefix(std::min(place.size(), comma + 1));
  }
  const auto leaf = parse_number(parts[0]);
  const auto subleaf = parse_number(parts[1]);
  const auto reg = std::ranges::find(kRegisterNames, parts[2]);
  const auto bit = parse_number(parts[3]);
  if (!leaf || !subleaf) reject(source, "the leaf or subleaf is not a number");
  if (reg == kRegisterNames.end()) reject(source, "the register is not eax, ebx, ecx or edx");
  if (!bit || *bit > 31) reject(source, "the bit is not 0 to 31");
  return {.leaf = *leaf,
          .subleaf = *subleaf,
          .reg = static_cast<CpuidRegister>(reg - kRegisterNames.begin()),
          .bit = static_cast<uint8_t>(*bit)};
}

}  // namespace

CpuidChange parse_cpuid_change(std::string_view text, std::string_view where) {
  const Source source{where, text};
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos) reject(source, "no \"=on\" or \"=off\"");
  const std::string_view place = text.substr(0, equals);
  const std::string_view state = text.substr(equals + 1);
  if (state != "on" && state != "off") reject(source, "neither \"on\" nor \"off\"");
  const bool on = state == "on";
  if (place.find(',') != std::string_view::npos) {
    return {.bit = parse_bit(source, place), .on = on, .named = false};
  }
  const auto feature = std::ranges::find(kFeatures, place, &Feature::name);
  if (feature == kFeatures.end()) reject(source, "no feature is known by that name");
  return {.bit = feature->bit, .on = on, .named = true};
}

std::string to_string(const CpuidChange& change) {
  const std::string_view state = change.on ? "on" : "off";
  const auto feature = std::ranges::find(kFeatures, change.bit, &Feature::bit);
  if (change.named && feature != kFeatures.end()) return fmt::format("{}={}", feature->name, state);
  return fmt::format("{:#x},{},{},{}={}", change.bit.leaf, change.bit.subleaf,
                     kRegisterNames[static_cast<size_t>(change.bit.reg)], change.bit.bit, state);
}

}  // namespace ringlet
