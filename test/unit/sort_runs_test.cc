// Tables that are sorted piece by piece.
#include "agent/helper/sort_runs.h"

#include <functional>
#include <random>

#include <catch2/catch.hpp>

using profagent::helper::sort_runs;

namespace {

void check(std::vector<int> values) {
  std::vector<int> expected = values;
  std::sort(expected.begin(), expected.end());
  sort_runs(std::span(values), std::less<>());
  REQUIRE(values == expected);
}

}  // namespace

TEST_CASE("any number of runs of any length becomes one") {
  std::mt19937 random(1);
  for (unsigned runs = 0; runs < 40; ++runs) {
    for (const unsigned longest : {1U, 3U, 20U, 300U}) {
      std::vector<int> values;
      for (unsigned run = 0; run < runs; ++run) {
        int value = static_cast<int>(random() % 1000);
        for (unsigned i = random() % longest + 1; i != 0; --i) {
          values.push_back(value);
          value += static_cast<int>(random() % 3);
        }
      }
      CAPTURE(runs, longest);
      check(values);
    }
  }
}

TEST_CASE("what has no runs is sorted, too") {
  std::vector<int> values;
  for (int i = 1000; i != 0; --i) values.push_back(i);
  check(values);
}
