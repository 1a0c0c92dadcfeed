#include "agent/gate.h"

#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

namespace profagent {
namespace {

TEST_CASE("a gate lets in while nobody keeps it shut") {
  Gate gate;
  CHECK(gate.is_empty());
  REQUIRE(gate.enter());
  REQUIRE(gate.enter());
  CHECK_FALSE(gate.is_empty());
  gate.shut();
  gate.shut();
  CHECK_FALSE(gate.enter());
  gate.leave();
  CHECK_FALSE(gate.is_empty());
  gate.leave();
  CHECK(gate.is_empty());
  gate.open();
  CHECK_FALSE(gate.enter());
  gate.open();
  CHECK(gate.enter());
  gate.shut();
  gate.reset();
  CHECK(gate.is_empty());
  CHECK(gate.enter());
}

// Not atomic: what is done inside is seen by who waits until nobody is, and the other way round.
TEST_CASE("who has shut the gate and found nobody inside is alone") {
  constexpr int kShuttings = 20'000;
  Gate gate;
  long inside = 0;
  std::atomic<bool> stop = false;
  std::atomic<long> entered = 0;
  std::thread enters([&] {
    while (!stop) {
      if (!gate.enter()) continue;
      ++inside;
      ++entered;
      gate.leave();
    }
  });
  long alone = 0;
  long errors = 0;
  for (int i = 0; i < kShuttings; ++i) {
    gate.shut();
    while (!gate.is_empty()) {
    }
    const long before = inside;
    ++inside;
    ++alone;
    errors += inside != before + 1;
    gate.open();
    // Once in a while both take turns, also where there is one processor.
    if (i % 100 == 0) {
      const long seen = entered;
      while (entered == seen) std::this_thread::yield();
    }
  }
  stop = true;
  enters.join();
  CHECK(errors == 0);
  CHECK(inside == alone + entered);
}

}  // namespace
}  // namespace profagent
