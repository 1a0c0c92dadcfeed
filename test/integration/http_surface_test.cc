// What of the HTTP surface holds for every kind of profile, or needs a program of its own.
// test/conformance/surface.py asks the rest.
#include <csignal>

#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/kinds.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

bool is_gzip(const std::string& body) {
  return body.size() > 18 && body.compare(0, 3, "\x1f\x8b\x08") == 0;
}

}  // namespace

TEST_CASE("a snapshot profile is a gzip file under its own name", "[H08][H09]") {
  Victim victim("leak");
  for (const std::string& name : kSnapshotKinds) {
    CAPTURE(name);
    const Response answer = victim.get("/debug/pprof/" + name);
    CHECK(answer.status == 200);
    CHECK(answer.header("content-type") == "application/octet-stream");
    CHECK(answer.header("content-disposition") == "attachment; filename=\"" + name + "\"");
    CHECK(answer.header("x-content-type-options") == "nosniff");
    CHECK(is_gzip(answer.body));
    CHECK_FALSE(answer.has("server"));
    CHECK_FALSE(answer.has("access-control-allow-origin"));
  }
}

TEST_CASE("debug=1 is text, anything that is not a number is not", "[H10][H11]") {
  Victim victim("leak");
  for (const SnapshotKind& kind : kSnapshotKinds) {
    const std::string& name = kind.name;
    CAPTURE(name);
    const Response text = victim.get("/debug/pprof/" + name + "?debug=1");
    CHECK(text.status == 200);
    CHECK(text.header("content-type") == "text/plain; charset=utf-8");
    CHECK_FALSE(text.has("content-disposition"));
    CHECK(text.body.rfind(kind.text_head, 0) == 0);
    for (const char* query : {"?debug=0", "?debug=abc", "?debug="}) {
      CAPTURE(query);
      const Response binary = victim.get("/debug/pprof/" + name + query);
      CHECK(binary.header("content-type") == "application/octet-stream");
      CHECK(is_gzip(binary.body));
    }
  }
}

TEST_CASE("cmdline keeps empty arguments, spaces and UTF-8", "[H20]") {
  Victim victim("leak", {"", "two words", "späti ☕", ""});
  CHECK(victim.get("/debug/pprof/cmdline").body == victim.path() + std::string("\0", 1) +
                                                       std::string("\0two words", 10) + std::string("\0", 1) +
                                                       "späti ☕" + std::string("\0", 1));
}

TEST_CASE("the Unix socket answers as TCP does", "[H21]") {
  Victim victim("leak", {}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
  for (const char* target :
       {"/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/nosuch", "/debug/pprof/"}) {
    CAPTURE(target);
    Response local = victim.get(target);
    Response tcp = victim.get_tcp(target);
    local.headers.erase("date");
    tcp.headers.erase("date");
    local.headers.erase("content-length");
    tcp.headers.erase("content-length");
    CHECK(local.status == tcp.status);
    CHECK(local.headers == tcp.headers);
  }
  const Profile local = victim.profile();
  const Profile tcp = Profile::parse(victim.get_tcp("/debug/pprof/heap").body);
  CHECK(local.total("inuse_space").in("leaky") == tcp.total("inuse_space").in("leaky"));
}

TEST_CASE("the socket is for its owner only, goes with the process, and replaces a stale one", "[H22]") {
  Victim victim("leak");
  struct stat status {};
  REQUIRE(stat(victim.socket_path().c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  victim.finish();
  CHECK(access(victim.socket_path().c_str(), F_OK) != 0);

  const TempDir dir;
  const std::string path = dir.file("fixed.sock");
  const Environment fixed = {{"PROFAGENT_ADDR", "unix://" + path}};
  {
    Victim killed("leak", {}, fixed, {.serves = false});
    REQUIRE(eventually([&] { return can_connect(Address::unix_socket(path)); }));
    killed.process().signal(SIGKILL);
    eventually([&] { return !killed.process().running(); });
  }
  REQUIRE(access(path.c_str(), F_OK) == 0);
  Victim next("leak", {}, fixed, {.serves = false});
  REQUIRE(eventually([&] { return can_connect(Address::unix_socket(path)); }));
  CHECK(http_get(Address::unix_socket(path), "/debug/pprof/heap").status == 200);
}
