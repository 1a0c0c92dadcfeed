// surface.py against a program of ours under the agent, and against Go's own server: a case that Go does not
// pass is wrong.
#include <cstdlib>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

// For cmdline.
const Arguments kOddArguments = {"", "two words", "späti ☕"};

std::string folder(const char* variable) {
  return getenv(variable);  // NOLINT(concurrency-mt-unsafe)
}

// The table is the message.
void check_surface(const std::string& url, const Process& server, const std::string& socket,
                   const Arguments& more) {
  Arguments command = {
      "python3", folder("SURFACE"), url, "--pid", std::to_string(server.pid()), "--unix", socket,
      "--tools", folder("TOOL_DIR")};
  command.insert(command.end(), more.begin(), more.end());
  const Outcome outcome = run(command, {}, {}, std::chrono::seconds(290));
  INFO(outcome.out << outcome.err);
  CHECK(outcome.ok());
}

void check_ours(const Arguments& more) {
  Victim victim("small_service", kOddArguments, kEverything);
  check_surface(victim.url(), victim.process(), victim.socket_path(), more);
  CHECK(victim.process().running());
}

void check_go(const Arguments& more) {
  const TempDir dir;
  const std::string socket = dir.file("go.sock");
  Arguments command = {folder("TOOL_DIR") + "/go_server", socket};
  if (access(command[0].c_str(), X_OK) != 0) {
    WARN("no Go to compare with");
    return;
  }
  command.insert(command.end(), kOddArguments.begin(), kOddArguments.end());
  Process server(command, {});
  REQUIRE(server.wait_for_output("\n"));
  Arguments options = {"--go"};
  options.insert(options.end(), more.begin(), more.end());
  check_surface("http://127.0.0.1:" + std::to_string(std::stoi(server.out())), server, socket, options);
}

}  // namespace

TEST_CASE("a program under the agent has the surface that clients rely on", "[ours]") {
  check_ours({});
}

TEST_CASE("so has Go's own server", "[go]") {
  check_go({});
}

TEST_CASE("also in cases that take minutes", "[.long]") {
  check_ours({"--long"});
}

TEST_CASE("as Go's server does", "[.long]") {
  check_go({"--long"});
}
