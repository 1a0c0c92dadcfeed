// What the agent adds to locks that nobody else wants, while nobody asks and with both profiles on, in
// instructions: they do not depend on the machine. Times are in bench.py's tables. Rows H2 and B14 of the
// fault table.
#include <cstdlib>
#include <regex>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

constexpr long kPairs = 400'000;

const Environment kOn = {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"}, {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};

// Of a whole run.
double instructions(const std::string& operation, long pairs, const Environment* agent) {
  const std::string bench = std::getenv("LOCK_BENCH");  // NOLINT(concurrency-mt-unsafe)
  const Arguments command = {"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                             bench,      operation,          std::to_string(pairs)};
  const Outcome outcome = agent != nullptr ? run_under_agent(command, *agent) : run(command);
  CAPTURE(outcome.err);
  std::smatch match;
  REQUIRE(std::regex_search(outcome.err, match, std::regex("Collected : (\\d+)")));
  return std::stod(match[1]);
}

// What a run has besides its pairs differs by less than one instruction a pair.
double instructions_of_pair(const std::string& operation, const Environment* agent) {
  return (instructions(operation, kPairs, agent) - instructions(operation, 1, agent)) / kPairs;
}

}  // namespace

TEST_CASE("a free lock costs a few instructions more", "[H2][B14]") {
  if (!run({"valgrind", "--version"}).ok()) {
    WARN("no valgrind on this machine");
    return;
  }
  struct Limit {
    const char* operation;
    double off;
    double on;
  };
  // Half an instruction: the starts of two runs differ by up to some 50,000.
  const Limit kLimits[] = {{"mutex", 8.5, 13.5},
                           {"read", 8.5, 13.5},
                           {"write", 8.5, 13.5},
                           {"semaphore", 8.5, 24.5},
                           {"cond", 6.5, 6.5}};
  const Environment off;
  for (const auto& [operation, limit_off, limit_on] : kLimits) {
    const double alone = instructions_of_pair(operation, nullptr);
    const double watched = instructions_of_pair(operation, &off);
    const double measured = instructions_of_pair(operation, &kOn);
    CAPTURE(operation, alone, watched, measured);
    CHECK(alone > 20);
    CHECK(watched - alone <= limit_off);
    CHECK(measured - alone <= limit_on);
  }
}
