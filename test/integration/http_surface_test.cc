// The HTTP surface, H01-H24 of the conformance table: what every client of /debug/pprof relies on.
#include <algorithm>
#include <csignal>
#include <regex>
#include <thread>
#include <vector>

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

void check_go_error(const Response& answer, int status, const std::string& body) {
  CHECK(answer.status == status);
  CHECK(answer.header("content-type") == "text/plain; charset=utf-8");
  CHECK(answer.header("x-go-pprof") == "1");
  CHECK(answer.header("x-content-type-options") == "nosniff");
  CHECK_FALSE(answer.has("content-disposition"));
  CHECK(answer.body == body);
}

}  // namespace

TEST_CASE("the index lists every profile with a sentence", "[H01][H02]") {
  Victim victim("leak");
  const Response index = victim.get("/debug/pprof/");
  CHECK(index.status == 200);
  CHECK(index.header("content-type") == "text/html; charset=utf-8");
  CHECK(index.header("x-content-type-options") == "nosniff");
  CHECK(index.body.find("Types of profiles available:") != std::string::npos);
  for (const char* name : {"allocs", "cmdline", "heap", "symbol"}) {
    CAPTURE(name);
    CHECK(index.body.find("<a href='" + std::string(name) + "?debug=1'>") != std::string::npos);
  }
  static const std::regex link("<a href='([^'?]+)\\?debug=1'>");
  int links = 0;
  for (std::sregex_iterator it(index.body.begin(), index.body.end(), link), end; it != end; ++it, ++links) {
    const std::string name = (*it)[1];
    CAPTURE(name);
    CHECK(std::regex_search(index.body,
                            std::regex("<div class=profile-name>" + name + ": </div> [^\\s<][^<]+")));
  }
  CHECK(links >= 4);
}

TEST_CASE("the index without its slash redirects", "[H03]") {
  Victim victim("leak");
  const Response answer = victim.get("/debug/pprof");
  CHECK((answer.status == 307 || answer.status == 301));
  CHECK(answer.header("location") == "/debug/pprof/");
}

TEST_CASE("unknown profiles and paths are 404, and nothing is reflected", "[H04][H05][H06][H07]") {
  Victim victim("leak");
  check_go_error(victim.get("/debug/pprof/nosuch"), 404, "Unknown profile\n");
  check_go_error(victim.get("/debug/pprof/%3Cscript%3Escripty%3Cscript%3E"), 404, "Unknown profile\n");
  check_go_error(victim.get("/debug/pprof/heap/"), 404, "Unknown profile\n");
  CHECK(victim.get("/nosuch").status == 404);
  // No profile, but maybe a way to the index.
  CHECK_FALSE(victim.get("/").has("content-disposition"));
}

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

TEST_CASE("Accept-Encoding changes nothing", "[H12]") {
  Victim victim("leak");
  for (const char* target : {"/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/"}) {
    CAPTURE(target);
    const Response plain = victim.get(target);
    const Response asked = victim.request({.target = target, .headers = {{"Accept-Encoding", "gzip"}}});
    CHECK_FALSE(asked.has("content-encoding"));
    CHECK(asked.header("content-type") == plain.header("content-type"));
    CHECK(asked.body.substr(0, 2) == plain.body.substr(0, 2));
  }
}

TEST_CASE("other methods are refused", "[H13]") {
  Victim victim("leak");
  for (const char* method : {"POST", "PUT", "OPTIONS", "DELETE"}) {
    CAPTURE(method);
    const Response answer = victim.request({.method = method, .target = "/debug/pprof/heap"});
    CHECK(answer.status == 405);
    CHECK(answer.header("allow") == "GET, HEAD");
    CHECK(answer.header("content-type") == "text/plain; charset=utf-8");
    CHECK(answer.body == "Method Not Allowed\n");
    CHECK_FALSE(answer.has("x-go-pprof"));
  }
}

TEST_CASE("HEAD has GET's headers and no body", "[H14]") {
  Victim victim("leak");
  const Response get = victim.get("/debug/pprof/heap");
  Connection connection(victim.unix_address());
  const Response head = connection.request({.method = "HEAD", .target = "/debug/pprof/heap"});
  CHECK(head.status == 200);
  for (const char* name : {"content-type", "content-disposition", "x-content-type-options"})
    CHECK(head.header(name) == get.header(name));
  // Nothing of a body may be on the wire before the next answer.
  CHECK(connection.request({.target = "/debug/pprof/cmdline"}).status == 200);
}

TEST_CASE("HTTP/1.0 gets an answer that ends with the connection", "[H15]") {
  Victim victim("leak");
  Connection connection(victim.unix_address());
  connection.send("GET /debug/pprof/heap HTTP/1.0\r\nHost: localhost\r\n\r\n");
  const std::string all = connection.read_to_end();
  const std::size_t head_end = all.find("\r\n\r\n");
  REQUIRE(head_end != std::string::npos);
  CHECK(all.rfind("HTTP/1.0 200", 0) == 0);
  CHECK(all.substr(0, head_end).find("chunked") == std::string::npos);
  CHECK(Profile::parse(all.substr(head_end + 4)).types().size() == 4);
}

TEST_CASE("a connection serves many requests, also when they come at once", "[H16]") {
  Victim victim("leak");
  Connection connection(victim.tcp_address());
  for (int i = 0; i < 3; ++i) {
    CHECK(connection.request({.target = "/debug/pprof/heap"}).status == 200);
    CHECK(connection.request({.target = "/debug/pprof/nosuch"}).status == 404);
  }
  const std::string one = to_bytes({.target = "/debug/pprof/cmdline"});
  connection.send(one + one + one);
  for (int i = 0; i < 3; ++i) CHECK(connection.read_response().status == 200);
}

TEST_CASE("parallel requests of all snapshot profiles while another one waits", "[H17]") {
  Victim victim("leak");
  std::vector<std::thread> clients;
  std::vector<Response> answers(17);
  clients.emplace_back([&] { answers[16] = victim.get("/debug/pprof/heap?seconds=1"); });
  for (std::size_t i = 0; i < 16; ++i) {
    clients.emplace_back([&victim, &answers, i] {
      answers[i] = victim.get("/debug/pprof/" + kSnapshotKinds[i % std::size(kSnapshotKinds)].name);
    });
  }
  for (std::thread& client : clients) client.join();
  for (const Response& answer : answers) {
    CHECK(answer.status == 200);
    CHECK_NOTHROW(Profile::parse(answer.body));
  }
}

TEST_CASE("long lines, long headers, garbage and half-open connections do not hurt", "[H18]") {
  Victim victim("leak");
  const auto answer_to = [&](const std::string& bytes) {
    Connection connection(victim.unix_address());
    connection.send(bytes);
    connection.shut_write();
    return connection.read_to_end();
  };
  const auto refused = [](const std::string& answer) {
    return answer.empty() || (answer.rfind("HTTP/1.", 0) == 0 && answer[9] == '4');
  };
  const std::string long_query =
      answer_to("GET /debug/pprof/heap?x=" + std::string(8192, 'q') + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK((refused(long_query) || long_query.rfind("HTTP/1.1 200", 0) == 0));
  CHECK(refused(answer_to(
      "GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(1 << 20, 'h') + "\r\n\r\n")));
  CHECK(refused(answer_to(std::string("\x16\x03\x01\x00\xff\x00\x80garbage\r\n\r\n", 18))));
  CHECK(refused(answer_to(std::string(4096, '\0'))));
  CHECK(refused(answer_to("GET")));
  CHECK(refused(answer_to("")));
  Connection half_open(victim.unix_address());
  half_open.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: local");
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(victim.process().running());
}

TEST_CASE("cmdline is argv with single zero bytes between", "[H19]") {
  Victim victim("leak", {"--keep", "10"});
  const Response answer = victim.get("/debug/pprof/cmdline");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "text/plain; charset=utf-8");
  CHECK(answer.header("x-content-type-options") == "nosniff");
  CHECK(answer.body == victim.path() + std::string("\0--keep\0", 8) + "10");
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

TEST_CASE("gc=1 is accepted, and a query with a semicolon is ignored", "[H23][H24]") {
  Victim victim("leak");
  for (const std::string& name : kSnapshotKinds)
    CHECK(victim.get("/debug/pprof/" + name + "?gc=1").status == 200);
  const Response answer = victim.get("/debug/pprof/heap?seconds=1;debug=1");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-disposition") == "attachment; filename=\"heap\"");
}

TEST_CASE("the Host must be ours: a rebound name in a browser gets nothing") {
  Victim victim("leak");
  const auto status_for = [&](const std::string& host) {
    return http(victim.tcp_address(), {.target = "/debug/pprof/heap", .headers = {{"Host", host}}}).status;
  };
  const std::string port = ":" + std::to_string(victim.port());
  CHECK(status_for("localhost" + port) == 200);
  CHECK(status_for("127.0.0.1" + port) == 200);
  CHECK(status_for("[::1]" + port) == 200);
  for (const char* host :
       {"evil.example", "localhost6", "127.0.0.1.evil.example", "localhost.evil.example", ""}) {
    CAPTURE(host);
    const int status = status_for(host);
    CHECK(status >= 400);
    CHECK(status < 500);
  }
}
