// Rows A1-A16 of the fault table: being loaded must change nothing.
#include <regex>
#include <set>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

std::string readelf(const std::string& options) {
  return run({"readelf", options, "-W", agent_path()}).out;
}

// The counts that the counting library behind the agent prints at exit, "mallocs M callocs C reallocs R frees
// F".
std::string allocator_calls(const Arguments& program, bool agent, const Environment& more = {}) {
  const TempDir dir;
  Environment environment = agent_environment(dir.path(), more);
  environment["LD_PRELOAD"] = (agent ? agent_path() + " " : "") + victim_path("libcount.so");
  const Outcome outcome = run(program, environment);
  CHECK(outcome.ok());
  CHECK(outcome.err.empty());
  return outcome.out;
}

}  // namespace

// Also C9 and C12: what reaches the allocator behind the agent is what the program asked for, call by call.
TEST_CASE("the program's allocator gets the program's calls and no other", "[A1][C9][C12]") {
  for (const char* rate : {"1", "524288", "0"}) {
    const Environment environment = {{"PROFAGENT_MEM_PROFILE_RATE", rate}};
    for (const Arguments& program :
         {Arguments{"/bin/true"}, Arguments{"/bin/ls", "/"}, Arguments{victim_path("two_sizes")},
          Arguments{victim_path("inner_dlopen")}, Arguments{victim_path("news")}}) {
      CAPTURE(rate, program);
      const std::string alone = allocator_calls(program, false);
      REQUIRE(alone.find("mallocs ") != std::string::npos);
      CHECK(allocator_calls(program, true, environment) == alone);
    }
  }
}

TEST_CASE("names that are not there are looked up while every allocation is recorded", "[A1][A7]") {
  const Outcome outcome = run_victim("inner_dlopen", {}, kExact);
  CHECK(outcome.out == "ok\n");
  CHECK(outcome.ok());
}

TEST_CASE("hooks work before the agent's constructor, and its blocks live on", "[A3][A4][C11]") {
  Victim victim("early", {}, kExact);
  CHECK(victim.process().out() == "ready\n");
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_objects").in("later_home") == 16);
  CHECK(heap.total("inuse_space").in("later_home") == 16 * 7001);
  CHECK(heap.total("inuse_objects").in("early_alloc") == 0);
  victim.command("free");
  CHECK(victim.profile().total("inuse_space").in("later_home") == 0);
  const Outcome end = victim.finish();
  CHECK(end.ok());
}

TEST_CASE("destructors of every kind may use the heap", "[A4][C10]") {
  const Outcome alone = run_victim_alone("afterlife");
  REQUIRE(alone.ok());
  for (const char* rate : {"1", "1000", "0"}) {
    const Outcome outcome = run_victim("afterlife", {}, {{"PROFAGENT_MEM_PROFILE_RATE", rate}});
    CHECK(outcome.out == alone.out);
    CHECK(outcome.err.empty());
    CHECK(outcome.ok());
  }
}

TEST_CASE("one constructor, no destructor: nothing of ours runs at exit", "[A4]") {
  const std::string sections = readelf("-S");
  CAPTURE(sections);
  std::smatch match;
  // name, type, address, offset, size
  REQUIRE(std::regex_search(sections, match, std::regex("\\.init_array\\s+INIT_ARRAY\\s+\\w+ \\w+ (\\w+)")));
  // GCC's own frame_dummy, and one of ours.
  CHECK(std::stoul(match[1], nullptr, 16) / 8 <= 2);
}

TEST_CASE("little static TLS: the agent may be opened late and threads keep their stacks", "[A5][A6]") {
  std::smatch match;
  const std::string segments = readelf("-l");
  if (std::regex_search(segments, match, std::regex("\\n\\s+TLS\\s+\\w+ \\w+ \\w+ \\w+ (0x\\w+)")))
    CHECK(std::stoul(match[1], nullptr, 16) < 512);
  const Outcome late = run({victim_path("load_late"), agent_path()}, {{"PROFAGENT_ADDR", "off"}});
  CHECK(late.out == "loaded\nok\n");
  CHECK(late.ok());

  Victim victim("small_stack", {}, kExact);
  CHECK(victim.process().out() == "100 worked\nready\n");
  CHECK(victim.profile().total("alloc_objects").in("small_worker") == 100);
}

TEST_CASE("no dynamic TLS, no lazy binding, and nothing needed but libc", "[A7][A15][A9]") {
  const std::string relocations = readelf("-r");
  CHECK(relocations.find("DTPMOD64") == std::string::npos);
  CHECK(relocations.find("TLSDESC") == std::string::npos);
  CHECK(readelf("-s").find("__tls_get_addr") == std::string::npos);
  const std::string dynamic = readelf("-d");
  CHECK(std::regex_search(dynamic, std::regex("BIND_NOW|Flags: .*NOW")));
  CHECK(dynamic.find("TEXTREL") == std::string::npos);
  static const std::regex needed("\\(NEEDED\\).*\\[(.*)\\]");
  for (std::sregex_iterator it(dynamic.begin(), dynamic.end(), needed), end; it != end; ++it) {
    const std::string library = (*it)[1];
    CAPTURE(library);
    CHECK((library == "libc.so.6" || library == "ld-linux-x86-64.so.2"));
  }
}

TEST_CASE("threads whose cheap keys are all taken", "[A8]") {
  Victim victim("tsd_keys", {}, kExact);
  CHECK(victim.process().out() == "ready\n");
  CHECK(victim.profile().total("alloc_objects").in("keyed_home") == 40);
}

TEST_CASE("the agent's symbols do not take the place of the program's", "[A9]") {
  const Outcome nm = run({"nm", "-D", "--defined-only", agent_path()});
  // Plain C names only: no C++ name, no typeinfo, nothing of a library linked in.
  CHECK(nm.out.find(" _Z") == std::string::npos);
  for (const char* foreign : {"inflate", "deflate", "crc32", "_Unwind_", "__cxa_", "getenv"})
    CHECK(nm.out.find(foreign) == std::string::npos);
  CHECK(run_under_agent({"/bin/bash", "-c", "echo ok"}).out == "ok\n");
  const Outcome protoc = run({"protoc", "--version"});
  if (protoc.ok()) CHECK(run_under_agent({"protoc", "--version"}).out == protoc.out);
}

TEST_CASE("a C++ program with the same libraries inside is not disturbed", "[A9]") {
  // This test links libprotobuf and zlib itself, and uses both before it prints anything.
  const Outcome alone = run({"gzip", "-l", "/dev/null"});
  const Outcome under = run_under_agent({"gzip", "-l", "/dev/null"});
  CHECK(under.out == alone.out);
  CHECK(under.exit_code == alone.exit_code);
}

TEST_CASE("nothing is written to standard output or error, whatever happens", "[A14]") {
  const Environment settings[] = {
      {},
      {{"PROFAGENT_ADDR", "unix:///no/such/folder/x.sock"}},
      {{"PROFAGENT_ADDR", "nonsense"}},
      {{"PROFAGENT_ADDR", "0.0.0.0:0"}},
      {{"PROFAGENT_MEM_PROFILE_RATE", "many"}},
      {{"PROFAGENT_LOG", "nosuch"}, {"PROFAGENT_STACK_DEPTH", "-1"}},
      {{"PROFAGENT_MAX_MEMORY", "1048576"}, {"PROFAGENT_MEM_PROFILE_RATE", "1"}},
  };
  for (const Environment& environment : settings) {
    for (const Arguments& program :
         {Arguments{"/bin/echo", "hello"}, Arguments{"/bin/sh", "-c", "echo hello; exit 3"},
          Arguments{"python3", "-c", "print('hello')"}}) {
      CAPTURE(program);
      const Outcome alone = run(program);
      const Outcome under = run_under_agent(program, environment);
      CHECK(under.out == alone.out);
      CHECK(under.err == alone.err);
      CHECK(under.exit_code == alone.exit_code);
    }
  }
}

TEST_CASE("of two copies one works and the other forwards", "[A16]") {
  const TempDir dir;
  const std::string copy = dir.file("copy-of-agent.so");
  REQUIRE(run({"cp", agent_path(), copy}).ok());
  const Outcome twice =
      run({"/bin/echo", "ok"}, agent_environment(dir.path(), {{"LD_PRELOAD", agent_path() + " " + copy}}));
  CHECK(twice.out == "ok\n");
  CHECK(twice.err.empty());
  CHECK(twice.ok());
  Victim victim("leak", {"--times", "2"}, kExact, {.preload = "@ " + copy});
  CHECK(victim.profile().total("inuse_space").in("leaky") == 2 * 1999993);
  CHECK(victim.profile().total("inuse_objects").in("leaky") == 2);
}

TEST_CASE("static programs run, without us", "[A12]") {
  Victim victim("simple_static", {}, {}, {.serves = false});
  CHECK(victim.process().out() == "ready\n");
  const Outcome end = victim.finish();
  CHECK(end.ok());
  CHECK(end.err.empty());
}
