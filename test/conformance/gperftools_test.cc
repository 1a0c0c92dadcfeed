// The Perl program pprof of gperftools, which is older than Go's and knows paths and forms of its own.
#include <regex>
#include <string>

#include <catch2/catch.hpp>

#include "test/support/programs.h"

using namespace profagent::test;

namespace {

Outcome google_pprof(Arguments arguments) {
  const TempDir dir;  // where it keeps what it has fetched
  arguments.insert(arguments.begin(), "google-pprof");
  return run(arguments, {{"PPROF_TMPDIR", dir.path()}, {"HOME", dir.path()}});
}

}  // namespace

TEST_CASE("gperftools' paths answer in gperftools' forms") {
  Victim victim("leak", {}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
  CHECK(victim.get("/pprof/cmdline").body == victim.get("/debug/pprof/cmdline").body);
  CHECK(victim.get("/pprof/symbol").body == "num_symbols: 1\n");
  CHECK(victim.request({.method = "POST", .target = "/pprof/symbol", .body = "0x1+0x2"}).status == 200);
  CHECK(victim.get("/pprof/heap").body.find("heap profile: ") == 0);
  CHECK(victim.get("/pprof/heap").header("content-type") == "text/plain; charset=utf-8");
  CHECK(victim.get("/pprof/contention").body.find("--- contention:\ncycles/second=") == 0);
  // Words: 0, 3, version 0, period 10000 us.
  const std::string cpu = victim.get("/pprof/profile?seconds=1").body;
  REQUIRE(cpu.size() > 40);
  CHECK(cpu.substr(0, 40) ==
        std::string("\0\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\x27\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                    40));
  CHECK(cpu.find(" r-xp ") != std::string::npos);
  for (const char* other : {"/pprof/growth", "/pprof/", "/pprof", "/pprof/pmuprofile"}) {
    CAPTURE(other);
    CHECK(victim.get(other).status == 404);
  }
  CHECK(victim.request({.method = "PUT", .target = "/pprof/heap"}).status == 405);
}

TEST_CASE("gperftools' pprof reads the heap, with our names and sizes") {
  if (!available("google-pprof")) return;
  Victim victim("leak", {"--times", "3"}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
  const Outcome top = google_pprof({"--text", "--show_bytes", victim.url("/pprof/heap")});
  CAPTURE(top.err, top.out);
  CHECK(top.ok());
  CHECK(std::regex_search(top.out,
                          std::regex("\n\\s*5999979\\s+\\S+%\\s+\\S+%\\s+5999979\\s+\\S+%\\s+leaky\n")));
}

TEST_CASE("gperftools' pprof reads a CPU profile and finds its functions") {
  if (!available("google-pprof")) return;
  Victim victim("cpu_shares");
  const Outcome top = google_pprof({"--text", "--seconds=2", victim.url("/pprof/profile")});
  CAPTURE(top.err, top.out);
  CHECK(top.ok());
  CHECK(std::regex_search(top.out, std::regex("Total: \\d+ samples\n")));
  CHECK(std::regex_search(top.out, std::regex("\\d+\\s+\\S+%\\s+\\S+%\\s+\\d+\\s+\\S+%\\s+share_")));
}

TEST_CASE("gperftools' pprof reads where threads wait") {
  if (!available("google-pprof")) return;
  Victim victim("mutex_hog", {}, {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"}});
  victim.command("hog1 2 50");
  const Outcome top = google_pprof({"--text", "--contentions", victim.url("/pprof/contention")});
  CAPTURE(top.err, top.out);
  CHECK(top.ok());
  CHECK(top.out.find("pthread_mutex_lock") != std::string::npos);
}
