// The library's file, run as a program.
#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

TEST_CASE("the library explains itself") {
  const Outcome help = run({agent_path(), "--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.out.find("LD_PRELOAD=") != std::string::npos);
  CHECK(help.err.empty());
  const Outcome nothing = run({agent_path()});
  CHECK(nothing.exit_code == 0);
  CHECK(nothing.out == help.out);
  const Outcome version = run({agent_path(), "--version"});
  CHECK(version.exit_code == 0);
  CHECK(version.out.starts_with("profagent "));
}

TEST_CASE("what it does not understand is wrong use") {
  const std::pair<Arguments, std::string> cases[] = {
      {{"--bogus"}, "--bogus"}, {{""}, ""}, {{"--version", "now"}, "now"}, {{"--symbolize", "file"}, "file"}};
  for (const auto& [arguments, word] : cases) {
    Arguments command = {agent_path()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Outcome outcome = run(command);
    INFO(word);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.out.empty());
    CHECK(outcome.err == "profagent: not understood: " + word + "\nTry --help.\n");
  }
}

TEST_CASE("the helper speaks to the agent only") {
  CHECK(run({agent_path(), "--symbolize"}).exit_code == 2);
}

TEST_CASE("as a program the library serves nobody, and says nothing of it") {
  const TempDir dir;
  Environment environment = {{"PROFAGENT_ADDR", "unix:" + dir.file("socket")}, {"PROFAGENT_LOG", "debug"}};
  // The log would tell of the address.
  REQUIRE_FALSE(
      run({victim_path("simple")}, {{"LD_PRELOAD", agent_path()}, {"PROFAGENT_LOG", "debug"}}).err.empty());
  for (const bool is_preloaded : {false, true}) {
    if (is_preloaded) environment["LD_PRELOAD"] = agent_path();
    const Outcome outcome = run({agent_path(), "--version"}, environment);
    CHECK(outcome.exit_code == 0);
    CHECK(outcome.out.starts_with("profagent "));
    CHECK(outcome.err.empty());
  }
}
