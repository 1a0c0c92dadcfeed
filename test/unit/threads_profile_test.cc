// Many threads are looked at in slices, between which others are served: at both ends of a delta.
#include "agent/service/threads_profile.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "test/unit/idle_threads.h"

namespace profagent::service {
namespace {

// How often a collection wanted to be called again at once before each of its pauses, or before its end.
std::vector<int> slices_of(Collection& collection) {
  constexpr double kAtOnce = 1e-5;
  std::vector<int> slices{0};
  for (double pause = collection.tend(); pause > 0; pause = collection.tend()) {
    if (pause <= kAtOnce) {
      ++slices.back();
      continue;
    }
    if (slices.back() != 0) slices.push_back(0);
    std::this_thread::sleep_for(std::chrono::duration<double>(pause));
  }
  return slices;
}

TEST_CASE("a snapshot, and both ends of a delta, are taken in slices") {
  // It takes some microseconds to look at one.
  const test::IdleThreads threads(3000);
  SymbolSources symbols;
  ThreadWatch watch([] { return 0; }, -1);
  const auto source = make_threads_source(symbols, watch);
  const auto now = source->begin_now(0, Query(""));
  CHECK(now->times_itself());
  CHECK(slices_of(*now).at(0) > 2);
  CHECK_FALSE(now->finish().empty());
  // On a busy machine the first end may take so long that there is nothing between it and the second.
  std::unique_ptr<Collection> delta;
  std::vector<int> slices;
  for (int tries = 0; tries < 20 && slices.size() != 2; ++tries) {
    delta = source->begin(2, Query(""));
    CHECK(delta->times_itself());
    slices = slices_of(*delta);
  }
  REQUIRE(slices.size() == 2);
  CHECK(slices[0] > 2);
  CHECK(slices[1] > 2);
  CHECK_FALSE(delta->finish().empty());
}

}  // namespace
}  // namespace profagent::service
