// What the agent adds to locks that nobody else wants while it profiles none, in instructions: they do not
// depend on the machine. Times are in bench.py's tables. Rows H2 and B14 of the fault table.
#include <cstdlib>
#include <regex>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

constexpr long kPairs = 50'000;

// Of a whole run.
double instructions(bool with_agent, const std::string& operation, long pairs) {
  const std::string bench = std::getenv("LOCK_BENCH");  // NOLINT(concurrency-mt-unsafe)
  const Arguments command = {"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                             bench,      operation,          std::to_string(pairs)};
  const Outcome outcome = with_agent ? run_under_agent(command) : run(command);
  CAPTURE(outcome.err);
  std::smatch match;
  REQUIRE(std::regex_search(outcome.err, match, std::regex("Collected : (\\d+)")));
  return std::stod(match[1]);
}

}  // namespace

TEST_CASE("a free lock costs a few instructions more", "[H2][B14]") {
  if (!run({"valgrind", "--version"}).ok()) {
    WARN("no valgrind on this machine");
    return;
  }
  // Two calls in a pair: to try, to compare and to return are 8 each; the value of a semaphore is one call
  // more.
  const std::pair<const char*, double> kLimits[] = {
      {"mutex", 16}, {"read", 16}, {"write", 16}, {"semaphore", 24}, {"cond", 0.5}};
  // What a run has besides its pairs differs by less than one instruction a pair.
  const double starting = instructions(false, "mutex", 1);
  const double starting_watched = instructions(true, "mutex", 1);
  for (const auto& [operation, limit] : kLimits) {
    const double alone = (instructions(false, operation, kPairs) - starting) / kPairs;
    const double watched = (instructions(true, operation, kPairs) - starting_watched) / kPairs;
    CAPTURE(operation, alone, watched);
    CHECK(alone > 20);
    CHECK(watched - alone <= limit);
  }
}
