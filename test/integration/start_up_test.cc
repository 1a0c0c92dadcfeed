// Rows A1-A16 of the fault table: being loaded must change nothing.
#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

std::string readelf(const std::string& options) {
  return run({"readelf", options, "-W", agent_path()}).out;
}

// The counts that the counting library behind the agent leaves at exit, "mallocs M callocs C reallocs R frees
// F".
std::string allocator_calls(const Arguments& program, bool agent, const Environment& more = {}) {
  const TempDir dir;
  Environment environment = agent_environment(dir.path(), more);
  environment["LD_PRELOAD"] = (agent ? agent_path() + " " : "") + victim_path("libcount.so");
  environment["COUNT_FILE"] = dir.file("counts");
  const Outcome outcome = run(program, environment);
  CHECK(outcome.ok());
  CHECK(outcome.err.empty());
  return read_text(dir.file("counts"));
}

}  // namespace

// What reaches the allocator behind the agent is what the program asked for, call by call. Nobody is served
// here: our thread, as any thread, costs the one calloc of pthread_create, in a program that has threads of
// its own.
TEST_CASE("the program's allocator gets the program's calls and no other", "[A1][C9][C12]") {
  for (const char* rate : {"1", "524288", "0"}) {
    const Environment environment = {{"PROFAGENT_MEM_PROFILE_RATE", rate}, {"PROFAGENT_ADDR", "off"}};
    for (const Arguments& program :
         {Arguments{"/bin/true"}, Arguments{"/bin/ls", "/"}, Arguments{victim_path("two_sizes")},
          Arguments{victim_path("inner_dlopen"), "1"}, Arguments{victim_path("news")}}) {
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

// What the loader runs for us at load and at exit, by function name: one of each is ours, the others belong
// to the libraries inside (a checksum table, the exception pool, two error categories). A global of ours with
// a constructor shows here.
TEST_CASE("of ours one constructor runs, and one destructor", "[A4]") {
  const std::set<std::string> known = {"frame_dummy",
                                       "__do_global_dtors_aux",
                                       "on_load",
                                       "on_exit",
                                       "crc64_set_func",
                                       "crc32_set_func",
                                       "_GLOBAL__sub_I_eh_alloc.cc",
                                       "_GLOBAL__sub_I_system_error.cc",
                                       "_GLOBAL__sub_I_http_server.cc",
                                       "_GLOBAL__sub_I_http_session.cc"};
  const std::string sections = readelf("-S");
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  static const std::regex section("\\.(?:init|fini)_array\\s+\\w+\\s+(\\w+) \\w+ (\\w+)");
  for (std::sregex_iterator it(sections.begin(), sections.end(), section), none; it != none; ++it) {
    const std::uint64_t start = std::stoull((*it)[1], nullptr, 16);
    begin = begin == 0 ? start : std::min(begin, start);
    end = std::max(end, start + std::stoul((*it)[2], nullptr, 16));
  }
  REQUIRE(begin != 0);
  Arguments lookup = {"addr2line", "-sfe", agent_path()};
  const std::string relocations = readelf("-r");
  static const std::regex entry("(?:^|\\n)(\\w{16})  \\w+ R_X86_64_RELATIVE\\s+(\\w+)");
  for (std::sregex_iterator it(relocations.begin(), relocations.end(), entry), none; it != none; ++it) {
    const std::uint64_t at = std::stoull((*it)[1], nullptr, 16);
    if (at >= begin && at < end) lookup.push_back("0x" + (*it)[2].str());
  }
  REQUIRE(lookup.size() > 4);
  // Function and line in turn.
  std::istringstream lines(run(lookup).out);
  std::string function;
  for (std::string line; std::getline(lines, function) && std::getline(lines, line);) {
    CAPTURE(function, line);
    // Demangled or not: the last word of the name.
    const bool ours_or_known = std::any_of(known.begin(), known.end(), [&](const std::string& name) {
      return function == name || function.find(std::to_string(name.size()) + name) != std::string::npos;
    });
    CHECK(ours_or_known);
  }
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

TEST_CASE("a log that nobody reads neither ends a program nor holds it up", "[G7]") {
  const std::string script =
      "import fcntl, os, subprocess, sys\n"
      "reader, writer = os.pipe()\n"
      "if sys.argv[1] == 'full':\n"
      "    flags = fcntl.fcntl(writer, fcntl.F_GETFL)\n"
      "    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)\n"
      "    for size in 65536, 1:\n"
      "        try:\n"
      "            while os.write(writer, b'x' * size): pass\n"
      "        except BlockingIOError: pass\n"
      "    fcntl.fcntl(writer, fcntl.F_SETFL, flags)\n"
      "else: os.close(reader)\n"
      "agent = dict(os.environ, LD_PRELOAD=sys.argv[2], PROFAGENT_LOG='debug', "
      "PROFAGENT_ADDR='127.0.0.1:0')\n"
      "print(subprocess.run(['/bin/true'], stderr=writer, env=agent, timeout=20).returncode)\n";
  for (const char* pipe : {"closed", "full"}) {
    CAPTURE(pipe);
    CHECK(run({"python3", "-c", script, pipe, agent_path()}).out == "0\n");
  }
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
