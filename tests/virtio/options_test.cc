// Tests of option tables, by way of a made-up device and the disk's own table.
#include "virtio/options.h"

#include <catch2/catch.hpp>

#include "kvm/error.h"
#include "virtio/blk_config.h"

namespace ringlet {
namespace {

using Catch::Message;

enum class Mode : uint8_t { Slow, Fast };

struct Gadget {
  std::string path;
  std::string label = "none";
  bool loud = false;
  bool shiny = true;
  uint16_t lanes = 1;
  uint32_t depth = 256;
  uint64_t memory = 64ull << 20;
  uint64_t pause_ms = 1500;
  Mode mode = Mode::Slow;
  std::optional<uint16_t> port;
};

constexpr std::string_view kModes[] = {"slow", "fast"};
constexpr Option<Gadget> kGadgetOptions[] = {
    option<&Gadget::path>({.name = "path",
                           .doc = "a path",
                           .form = OptionForm::File,
                           .required = true,
                           .implied = true}),
    option<&Gadget::label>(
        {.name = "label", .doc = "a label", .form = OptionForm::Ascii, .max = 8}),
    option<&Gadget::loud>({.name = "loud", .doc = "a loud"}),
    option<&Gadget::shiny>({.name = "shiny", .doc = "a shiny"}),
    option<&Gadget::lanes>({.name = "lanes", .doc = "how many lanes", .min = 1, .max = 64}),
    option<&Gadget::depth>(
        {.name = "depth", .doc = "a depth", .form = OptionForm::PowerOfTwo, .min = 2, .max = 1024}),
    option<&Gadget::memory>({.name = "memory",
                             .doc = "a memory",
                             .form = OptionForm::Memory,
                             .min = 16ull << 20,
                             .max = 4ull << 40}),
    option<&Gadget::pause_ms>(
        {.name = "pause", .doc = "a pause", .form = OptionForm::Duration, .max = 60'000}),
    option<&Gadget::mode>({.name = "mode", .doc = "a mode", .choices = kModes}),
    option<&Gadget::port>({.name = "port", .doc = "a port", .form = OptionForm::Port, .min = 1}),
};

}  // namespace

template <>
inline constexpr DeviceType<Gadget> kDeviceType<Gadget>{
    .name = "gadget", .title = "", .example = "", .options = kGadgetOptions};

namespace {

Gadget parse(std::string_view list) {
  return parse_device<Gadget>(list, "--gadget");
}

std::string print(const Gadget& gadget) {
  std::string text;
  for (const auto& row : kGadgetOptions) {
    text += std::string(row.spec.name) + "=" + print_option(row.spec, row.get(gadget)) + " ";
  }
  return text;
}

OptionValue convert(size_t row, const OptionValue& value) {
  return convert_option(kGadgetOptions[row].spec, value, "gadgets[1].x");
}

TEST_CASE("what the list leaves out keeps the default of the struct") {
  CHECK(print(parse("path=x")) ==
        "path=x label=none loud=off shiny=on lanes=1 depth=256 memory=64M pause=1500ms "
        "mode=slow port= ");
}

TEST_CASE("every kind of option takes the value written for it") {
  CHECK(print(parse("path=a=b,label=A 1,loud=on,shiny=off,lanes=0x10,depth=2,memory=3GiB,"
                    "pause=5s,mode=fast,port=0xf4")) ==
        "path=a=b label=A 1 loud=on shiny=off lanes=16 depth=2 memory=3G pause=5s mode=fast "
        "port=0xf4 ");
}

TEST_CASE("a flag alone means on") {
  CHECK(parse("path=x,loud").loud);
}

TEST_CASE("a first value without a name is the implied option's") {
  CHECK(parse("root.img,loud").path == "root.img");
  CHECK(parse("loud,path=root.img").loud);
}

TEST_CASE("a comma in a value is written twice") {
  CHECK(parse("path=a,,b,loud").path == "a,b");
  CHECK(parse("a,,b").path == "a,b");
}

TEST_CASE("sizes take suffixes and count in MiB without one") {
  CHECK(parse("x,memory=512").memory == 536'870'912);
  CHECK(parse("x,memory=1g").memory == 1'073'741'824);
  CHECK(parse("x,memory=16777217B").memory == 16'777'217);
  CHECK(print_option(kGadgetOptions[6].spec, uint64_t{16'777'217}) == "16777217B");
}

TEST_CASE("times take suffixes and count in seconds without one") {
  CHECK(parse("x,pause=2").pause_ms == 2000);
  CHECK(parse("x,pause=250ms").pause_ms == 250);
}

TEST_CASE("short times take suffixes and count in microseconds without one") {
  constexpr OptionSpec kShort{.name = "look",
                              .doc = "a look",
                              .form = OptionForm::Instant,
                              .max = 10'000,
                              .kind = OptionKind::Number};
  const auto parsed = [&](const char* text) {
    return std::get<uint64_t>(convert_option(kShort, OptionValue(std::string(text)), "look"));
  };
  CHECK(parsed("50us") == 50);
  CHECK(parsed("50") == 50);
  CHECK(parsed("2ms") == 2000);
  CHECK(print_option(kShort, uint64_t{2500}) == "2500us");
  CHECK_THROWS_MATCHES(parsed("1s"), ConfigError,
                       Message("look: expected a time from 0 to 10ms such as 50us or 1ms (a plain "
                               "number is in microseconds), got \"1s\""));
}

TEST_CASE("errors name the option, what was expected and what came instead") {
  CHECK_THROWS_MATCHES(parse("x,lanes=65"), ConfigError,
                       Message("--gadget lanes: expected a number from 1 to 64, got \"65\""));
  CHECK_THROWS_MATCHES(parse("x,lanes="), ConfigError,
                       Message("--gadget lanes: expected a number from 1 to 64, got \"\""));
  CHECK_THROWS_MATCHES(parse("x,lanes=7x"), ConfigError,
                       Message("--gadget lanes: expected a number from 1 to 64, got \"7x\""));
  CHECK_THROWS_MATCHES(parse("x,depth=100"), ConfigError,
                       Message("--gadget depth: expected a power of two from 2 to 1024, "
                               "got \"100\""));
  CHECK_THROWS_MATCHES(parse("x,memory=512MB"), ConfigError,
                       Message("--gadget memory: expected a size from 16M to 4T such as 512M or "
                               "1G (a plain number is in MiB), got \"512MB\""));
  CHECK_THROWS_MATCHES(parse("x,pause=61s"), ConfigError,
                       Message("--gadget pause: expected a time from 0 to 60s such as 10s or "
                               "500ms (a plain number is in seconds), got \"61s\""));
  CHECK_THROWS_MATCHES(parse("x,loud=yes"), ConfigError,
                       Message("--gadget loud: expected on or off, got \"yes\""));
  CHECK_THROWS_MATCHES(parse("x,mode=faster"), ConfigError,
                       Message("--gadget mode: expected slow or fast, got \"faster\""));
  CHECK_THROWS_MATCHES(parse("x,label=\xc3\xa4"), ConfigError,
                       Message("--gadget label: expected at most 8 printable ASCII characters, "
                               "got \"\xc3\xa4\""));
  CHECK_THROWS_MATCHES(parse("x,port=0x10000"), ConfigError,
                       Message("--gadget port: expected an I/O port from 0x1 to 0xffff, "
                               "got \"0x10000\""));
}

TEST_CASE("an unknown option is refused, with the likeliest known one") {
  CHECK_THROWS_MATCHES(parse("x,lane=2"), ConfigError,
                       Message("--gadget: unknown option \"lane\"; did you mean \"lanes\"?"));
  CHECK_THROWS_MATCHES(parse("x,zzz=2"), ConfigError,
                       Message("--gadget: unknown option \"zzz\"; expected path, label, loud, "
                               "shiny, lanes, depth, memory, pause, mode, port"));
}

TEST_CASE("an option given twice is refused") {
  CHECK_THROWS_MATCHES(parse("x,loud,loud=off"), ConfigError,
                       Message("--gadget loud: given twice"));
  CHECK_THROWS_MATCHES(parse("x,path=y"), ConfigError, Message("--gadget path: given twice"));
}

TEST_CASE("a list that leaves out what is required is refused") {
  CHECK_THROWS_MATCHES(parse(""), ConfigError, Message("--gadget: expected path=FILE"));
  CHECK_THROWS_MATCHES(parse("loud"), ConfigError, Message("--gadget: expected path=FILE"));
  CHECK_THROWS_MATCHES(parse("path="), ConfigError,
                       Message("--gadget path: required, expected a file name"));
}

TEST_CASE("an option without its value is refused") {
  CHECK_THROWS_MATCHES(parse("x,lanes"), ConfigError, Message("--gadget lanes: expected lanes=N"));
  CHECK_THROWS_AS(parse("x,"), ConfigError);
}

TEST_CASE("numbers that do not fit 64 bits are refused, not wrapped") {
  CHECK_THROWS_AS(parse("x,lanes=18446744073709551617"), ConfigError);
  CHECK_THROWS_AS(parse("x,memory=17592186044416M"), ConfigError);
  CHECK_THROWS_AS(parse("x,memory=-1"), ConfigError);
}

TEST_CASE("unprintable bytes of a wrong value do not reach the message") {
  CHECK_THROWS_MATCHES(parse("x,mode=\x1b[2J"), ConfigError,
                       Message("--gadget mode: expected slow or fast, got \"?[2J\""));
}

TEST_CASE("typed values are taken as they are, and text only where there are units") {
  CHECK(convert(4, uint64_t{7}) == OptionValue(uint64_t{7}));
  CHECK(convert(2, true) == OptionValue(true));
  CHECK(convert(6, std::string("1G")) == OptionValue(uint64_t{1} << 30));
  CHECK(convert(6, uint64_t{512}) == OptionValue(uint64_t{512} << 20));
  CHECK(convert(9, std::string("0xf4")) == OptionValue(uint64_t{0xf4}));
  CHECK_THROWS_MATCHES(convert(4, std::string("7")), ConfigError,
                       Message("gadgets[1].x: expected a number from 1 to 64, got \"7\""));
  CHECK_THROWS_MATCHES(convert(2, uint64_t{1}), ConfigError,
                       Message("gadgets[1].x: expected true or false, got 1"));
  CHECK_THROWS_MATCHES(convert(0, false), ConfigError,
                       Message("gadgets[1].x: expected a file name, got false"));
}

TEST_CASE("a struct filled by other means is held to the same table") {
  Gadget gadget = parse("x");
  CHECK_NOTHROW(check_options<Gadget>(kGadgetOptions, gadget, "gadgets[0]."));
  gadget.lanes = 65;
  CHECK_THROWS_MATCHES(check_options<Gadget>(kGadgetOptions, gadget, "gadgets[0]."), ConfigError,
                       Message("gadgets[0].lanes: expected a number from 1 to 64, got 65"));
}

TEST_CASE("the documentation shows what to write and the default") {
  const auto rows = help_of<Gadget>(kGadgetOptions);
  CHECK(options_as_markdown(std::span(rows).subspan(3, 2)) ==
        "| option | value | default | meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| `shiny` | on\\|off | on | a shiny |\n"
        "| `lanes` | N | 1 | how many lanes |\n");
  CHECK(options_as_columns(std::span(rows).subspan(3, 2)) ==
        "  shiny=on|off  on  a shiny\n"
        "  lanes=N       1   how many lanes\n");
}

TEST_CASE("a disk is described by its path alone") {
  const auto disk = parse_device<BlkConfig>("root.ext4", "--disk");
  CHECK(disk.path == "root.ext4");
  CHECK_FALSE(disk.readonly);
  CHECK_FALSE(disk.direct);
  CHECK(disk.queues == 1);
  CHECK(disk.queue_size == 256);
  CHECK(disk.discard);
  CHECK(disk.writeback);
}

TEST_CASE("a disk's serial number has at most the 20 bytes that GET_ID carries") {
  CHECK(parse_device<BlkConfig>("a,serial=12345678901234567890", "--disk").serial.size() == 20);
  CHECK_THROWS_AS(parse_device<BlkConfig>("a,serial=123456789012345678901", "--disk"), ConfigError);
}

}  // namespace
}  // namespace ringlet
