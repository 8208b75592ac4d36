// What the VMM hands over at start: memory map, command line, ACPI root pointer, modules.
#include "lib/start_info.h"

#include "lib/console.h"
#include "lib/memory.h"

namespace guest {
namespace {

constexpr uint32_t kStartInfoMagic = 0x336ec578;
constexpr size_t kMaxCommandLine = 4096;
constexpr size_t kMaxRanges = 64;
constexpr size_t kMaxModules = 4;

struct HvmStartInfo {
  uint32_t magic;
  uint32_t version;
  uint32_t flags;
  uint32_t nr_modules;
  uint64_t modlist_paddr;
  uint64_t cmdline_paddr;
  uint64_t rsdp_paddr;
  uint64_t memmap_paddr;  // this and the rest: from version 1 on
  uint32_t memmap_entries;
  uint32_t reserved;
};
static_assert(sizeof(HvmStartInfo) == 56);

struct HvmModule {
  uint64_t paddr;
  uint64_t size;
  uint64_t cmdline_paddr;
  uint64_t reserved;
};

struct HvmMemoryRange {
  uint64_t addr;
  uint64_t size;
  uint32_t type;
  uint32_t reserved;
};

constinit StartInfo info{};
char command_line[kMaxCommandLine];
MemoryRange ranges[kMaxRanges];
Module modules[kMaxModules];

// Calls visit(key, value) for each word of the command line.
template <typename F>
void for_each_word(Text line, F visit) {
  size_t at = 0;
  while (at < line.size) {
    size_t end = at;
    size_t equals = line.size;
    while (end < line.size && line.data[end] != ' ') {
      if (line.data[end] == '=' && equals == line.size) {
        equals = end;
      }
      ++end;
    }
    if (equals >= end) {
      visit(Text{line.data + at, end - at}, Text{});
    } else {
      visit(Text{line.data + at, equals - at}, Text{line.data + equals + 1, end - equals - 1});
    }
    at = end + 1;
  }
}

}  // namespace

const StartInfo& start_info() {
  return info;
}

void keep_command_line(uint64_t address) {
  const Text line{reinterpret_cast<const char*>(address)};
  expect(line.size <= kMaxCommandLine, "command line of {} bytes", line.size);
  memcpy(command_line, line.data, line.size);
  info.command_line = {command_line, line.size};
}

void keep_memory_range(const MemoryRange& range) {
  const size_t count = info.memory.size;
  expect(count < kMaxRanges, "too many memory ranges");
  ranges[count] = range;
  info.memory = {ranges, count + 1};
}

void keep_rsdp(uint64_t address) {
  info.rsdp = address;
}

void read_start_info(uint64_t address) {
  const auto& source = *reinterpret_cast<const HvmStartInfo*>(address);
  expect(source.magic == kStartInfoMagic, "start info magic is {}", hex(source.magic));
  info.address = address;
  info.version = source.version;
  keep_rsdp(source.rsdp_paddr);
  if (source.cmdline_paddr != 0) {
    keep_command_line(source.cmdline_paddr);
  }

  expect(source.nr_modules <= kMaxModules, "{} modules", source.nr_modules);
  const auto* module = reinterpret_cast<const HvmModule*>(source.modlist_paddr);
  for (uint32_t i = 0; i < source.nr_modules; ++i) {
    modules[i] = {module[i].paddr, module[i].size};
  }
  info.modules = {modules, source.nr_modules};

  if (source.version >= 1) {
    const auto* range = reinterpret_cast<const HvmMemoryRange*>(source.memmap_paddr);
    for (uint32_t i = 0; i < source.memmap_entries; ++i) {
      keep_memory_range({range[i].addr, range[i].size, static_cast<MemoryType>(range[i].type)});
    }
  }
}

bool option_given(Text key) {
  bool given = false;
  for_each_word(info.command_line, [&](Text word, Text) { given = given || word == key; });
  return given;
}

Text option_text(Text key, Text otherwise) {
  Text found = otherwise;
  for_each_word(info.command_line, [&](Text word, Text value) {
    if (word == key) {
      found = value;
    }
  });
  return found;
}

uint64_t option_number(Text key, uint64_t otherwise) {
  if (!option_given(key)) {
    return otherwise;
  }
  Text text = option_text(key, "");
  const uint64_t base = text.starts_with("0x") ? 16 : 10;
  if (base == 16) {
    text = text.drop(2);
  }
  expect(text.size > 0, "option {} wants a number", key);
  uint64_t number = 0;
  for (size_t i = 0; i < text.size; ++i) {
    const char c = text.data[i];
    const uint64_t digit = c >= '0' && c <= '9'   ? static_cast<uint64_t>(c - '0')
                           : c >= 'a' && c <= 'f' ? static_cast<uint64_t>(c - 'a') + 10
                                                  : 99;
    expect(digit < base, "option {} wants a number", key);
    number = number * base + digit;
  }
  return number;
}

}  // namespace guest
