// How long the I/O loop looks around before it sleeps.
#include "kvm/poll_window.h"

#include <catch2/catch.hpp>

namespace ringlet {
namespace {

TEST_CASE("a window opens with short waits, up to its bound") {
  PollWindow window(50'000);
  CHECK(window.ns() == 0);
  window.waited(3'000);
  CHECK(window.ns() == 4'000);
  window.waited(20'000);
  CHECK(window.ns() == 8'000);
  for (int i = 0; i < 10; ++i) window.waited(50'000);
  CHECK(window.ns() == 50'000);
}

TEST_CASE("a wait that polling caught leaves the window as it is") {
  PollWindow window(50'000);
  window.waited(10'000);
  window.waited(10'000);
  window.waited(7'000);
  CHECK(window.ns() == 8'000);
}

TEST_CASE("a few long waits close a window") {
  PollWindow window(50'000);
  for (int i = 0; i < 10; ++i) window.waited(50'000);
  unsigned waits = 0;
  for (; window.ns() > 0; ++waits) window.waited(1'000'000);
  CHECK(waits == 5);
}

TEST_CASE("a bound of zero keeps the window closed") {
  PollWindow window(0);
  window.waited(0);
  window.waited(1);
  CHECK(window.ns() == 0);
}

TEST_CASE("a bound below the smallest window is the window") {
  PollWindow window(1'000);
  window.waited(500);
  CHECK(window.ns() == 1'000);
}

}  // namespace
}  // namespace ringlet
