// Tests of bus:device.function numbers.
#include "pci/bdf.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

TEST_CASE("a function's address is printed as lspci prints it") {
  CHECK(to_string(Bdf(0, 0x1f, 0)) == "00:1f.0");
  CHECK(to_string(Bdf(0xfe, 3, 7)) == "fe:03.7");
  CHECK(to_string_with_domain(Bdf(0, 1, 0)) == "0000:00:01.0");
  CHECK(to_string_with_domain(Bdf(0, 1, 0), 0x10) == "0010:00:01.0");
}

TEST_CASE("a function's address is 8 bits of bus, 5 of device and 3 of function") {
  CHECK(Bdf(0x12, 0x1f, 5).value() == 0x12fd);
  CHECK(Bdf::from_value(0x12fd) == Bdf(0x12, 0x1f, 5));
  CHECK(Bdf::from_value(0x12fd).bus() == 0x12);
  CHECK(Bdf::from_value(0x12fd).device() == 0x1f);
  CHECK(Bdf::from_value(0x12fd).function() == 5);
}

}  // namespace
}  // namespace ringlet
