// The HTTP surface as every pprof client expects it. Names in brackets are the cases of the conformance list.
#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

using std::chrono::steady_clock;

constexpr const char* kNosniff = "X-Content-Type-Options: nosniff";
constexpr const char* kText = "Content-Type: text/plain; charset=utf-8";

double seconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

void check_unknown_profile(const Reply& reply) {
  CHECK(reply.status == 404);
  CHECK(reply.has(kText));
  CHECK(reply.has("X-Go-Pprof: 1"));
  CHECK(reply.has(kNosniff));
  CHECK_FALSE(reply.has_header("Content-Disposition"));
  CHECK(reply.body == "Unknown profile\n");
}

}  // namespace

TEST_CASE("the index lists and explains every endpoint [H01 H02]") {
  const TestServer server;
  const Reply reply = get(server, "/debug/pprof/");
  CHECK(reply.status == 200);
  CHECK(reply.has("Content-Type: text/html; charset=utf-8"));
  CHECK(reply.has(kNosniff));
  CHECK(contains(reply.body, "Types of profiles available:"));
  for (const std::string name : {"heap", "allocs", "custom", "cmdline", "symbol", "config", "agent"}) {
    CAPTURE(name);
    CHECK(contains(reply.body, "<a href='" + name + "?debug=1'>" + name + "</a>"));
    const std::string description = "<div class=profile-name>" + name + ": </div> ";
    const std::size_t at = reply.body.find(description);
    REQUIRE(at != std::string::npos);
    CHECK(reply.body[at + description.size()] != '<');
  }
  CHECK(contains(reply.body, "<td>42</td><td><a href='heap"));
  CHECK(contains(reply.body, "allocs: Off: the program &lt;defines&gt; malloc itself."));
  CHECK(contains(reply.body, "go tool pprof -http=:8888 http://localhost/debug/pprof/heap"));
}

TEST_CASE("over a Unix socket the index says how to fetch through that socket") {
  const TestServer server;
  const Client client(server.socket_path());
  client.send("GET /debug/pprof/ HTTP/1.0\r\n\r\n");
  const Reply reply(client.read_all());
  CHECK(contains(reply.body, "curl -s --unix-socket &#39;" + server.socket_path() + "&#39; -o heap.pb.gz"));
}

TEST_CASE("paths without the slash lead to the index [H03]") {
  const TestServer server;
  for (const char* path : {"/debug/pprof", "/"}) {
    const Reply reply = get(server, path);
    CHECK(reply.status == 307);
    CHECK(reply.has("Location: /debug/pprof/"));
    CHECK(reply.body == "<a href=\"/debug/pprof/\">Temporary Redirect</a>.\n\n");
  }
  CHECK(get(server, "/debug/pprof?a=<b>").has("Location: /debug/pprof/?a=<b>"));
  CHECK_FALSE(contains(get(server, "/debug/pprof?a=<b>").body, "<b>"));
  // Inside of this server, and escaped again.
  CHECK(get(server, "//evil.example/a%3Fb%23c%25d?e").has("Location: /evil.example/a%3Fb%23c%25d?e"));
  CHECK(get(server, "//%5Cevil.example").has("Location: /%5Cevil.example"));
  // Found by fuzz_http: what is not ASCII was in the header as it came.
  CHECK(get(server, "/debug/pprof?a=\xc3\xa9%20").has("Location: /debug/pprof/?a=%c3%a9%20"));
}

TEST_CASE("unknown profiles are refused in Go's words and reflect nothing [H04 H05 H06 V17]") {
  const TestServer server;
  check_unknown_profile(get(server, "/debug/pprof/nosuch"));
  check_unknown_profile(get(server, "/debug/pprof/%3Cscript%3Escripty%3Cscript%3E"));
  check_unknown_profile(get(server, "/debug/pprof/heap/"));
  check_unknown_profile(get(server, "/debug/pprof/nosuch?seconds=0"));
}

TEST_CASE("outside of /debug/pprof there is nothing [H07]") {
  const TestServer server;
  for (const char* path : {"/nosuch", "/debug", "/debug/pprofx", "/etc/passwd", "*"}) {
    CAPTURE(path);
    const Reply reply = get(server, path);
    CHECK(reply.status == 404);
  }
  const Reply reply = get(server, "/nosuch");
  CHECK(reply.body == "404 page not found\n");
  CHECK(reply.has(kText));
  CHECK(reply.has(kNosniff));
  CHECK_FALSE(reply.has_header("X-Go-Pprof"));
  CHECK(get(server, "/debug/pprof/%zz").status == 400);
}

TEST_CASE("a snapshot is a file to download, with the headers in Go's order [H08 H09 H12 H23]") {
  const TestServer server;
  const Reply reply = get(server, "/debug/pprof/heap", "Accept-Encoding: gzip\r\n");
  CHECK(reply.status == 200);
  CHECK(reply.body == kHeapBytes);
  CHECK_FALSE(reply.has_header("Content-Encoding"));
  CHECK_FALSE(reply.has_header("Server"));
  CHECK(contains(reply.head,
                 "HTTP/1.1 200 OK\r\n"
                 "Content-Disposition: attachment; filename=\"heap\"\r\n"
                 "Content-Type: application/octet-stream\r\n"
                 "X-Content-Type-Options: nosniff\r\n"
                 "Date: "));
  CHECK(contains(reply.head, " GMT\r\nContent-Length: 17\r\nConnection: close\r\n"));
  CHECK(get(server, "/debug/pprof/allocs").has("Content-Disposition: attachment; filename=\"allocs\""));
  CHECK(get(server, "/debug/pprof/heap?gc=1").body == kHeapBytes + "gc");
  CHECK(get(server, "/debug/pprof/custom?gc=1").status == 200);
  CHECK(get(server, "/debug/pprof/%68eap").body == kHeapBytes);
}

TEST_CASE("debug gives text, its wrong values give the file [H10 H11]") {
  const TestServer server;
  const Reply reply = get(server, "/debug/pprof/heap?debug=1");
  CHECK(reply.status == 200);
  CHECK(reply.has(kText));
  CHECK(reply.has(kNosniff));
  CHECK_FALSE(reply.has_header("Content-Disposition"));
  CHECK(reply.body == "heap text 1\n");
  CHECK(get(server, "/debug/pprof/heap?debug=2").body == "heap text 2\n");
  CHECK(get(server, "/debug/pprof/heap?debug=-1").body == "heap text 1\n");
  for (const char* query : {"debug=0", "debug=abc", "debug=", "debug=1x", "x=1"}) {
    CAPTURE(query);
    CHECK(get(server, std::string("/debug/pprof/heap?") + query).body == kHeapBytes);
  }
}

TEST_CASE("other methods are refused, with the list of those that are not [H13]") {
  const TestServer server;
  for (const char* method : {"POST", "PUT", "OPTIONS", "DELETE", "PATCH", "BREW"}) {
    CAPTURE(method);
    const Reply reply = ask(server, method, "/debug/pprof/heap", "", "a body");
    CHECK(reply.status == 405);
    CHECK(reply.has("Allow: GET, HEAD"));
    CHECK(reply.has(kText));
    CHECK(reply.has(kNosniff));
    CHECK_FALSE(reply.has_header("X-Go-Pprof"));
    CHECK(reply.body == "Method Not Allowed\n");
  }
  CHECK(ask(server, "PUT", "/debug/pprof/symbol").has("Allow: GET, HEAD, POST"));
  CHECK(ask(server, "PUT", "/nosuch").status == 404);
}

TEST_CASE("HEAD answers with the headers alone [H14]") {
  const TestServer server;
  Client client(server.port());
  client.request("HEAD", "/debug/pprof/heap");
  const Reply head(client.read_response(false));
  CHECK(head.status == 200);
  CHECK(head.has("Content-Disposition: attachment; filename=\"heap\""));
  CHECK_FALSE(head.has_header("Content-Length"));
  CHECK_FALSE(head.has_header("Transfer-Encoding"));
  // Were there a body, the next answer would not begin with a status line.
  client.request("GET", "/debug/pprof/heap");
  CHECK(Reply(client.read_response()).body == kHeapBytes);
}

TEST_CASE("HTTP/1.0 gets its answer and the end of the connection [H15]") {
  const TestServer server;
  for (const char* request :
       {"GET /debug/pprof/heap HTTP/1.0\r\n\r\n",
        "GET /debug/pprof/heap HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"}) {
    const Client client(server.port());
    client.send(request);
    const Reply reply(client.read_all());
    CHECK(reply.head.starts_with("HTTP/1.0 200 OK\r\n"));
    CHECK(reply.has("Content-Length: 17"));
    CHECK_FALSE(reply.has_header("Transfer-Encoding"));
    CHECK(reply.body == kHeapBytes);
  }
}

TEST_CASE("a connection serves many requests, also ones sent ahead [H16]") {
  const TestServer server;
  Client client(server.port());
  for (int i = 0; i < 3; ++i) {
    client.request("GET", "/debug/pprof/heap");
    const Reply reply(client.read_response());
    CHECK(reply.body == kHeapBytes);
    CHECK_FALSE(reply.has_header("Connection"));
  }
  client.send(
      "GET /debug/pprof/heap?debug=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
      "GET /debug/pprof/quick?seconds=0.1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
      "GET /debug/pprof/allocs?debug=4 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /debug/ppr");
  CHECK(Reply(client.read_response()).body == "heap text 3\n");
  client.send("of/heap?debug=5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(Reply(client.read_response()).has("Content-Disposition: attachment; filename=\"quick\""));
  CHECK(Reply(client.read_response()).body == "allocs text 4\n");
  CHECK(Reply(client.read_response()).body == "heap text 5\n");
}

TEST_CASE("cmdline has the arguments between single NULs [H19 H20]") {
  const TestServer server;
  const Reply reply = get(server, "/debug/pprof/cmdline");
  CHECK(reply.status == 200);
  CHECK(reply.has(kText));
  CHECK(reply.has(kNosniff));
  CHECK(reply.body == std::string("prog\0\0a b\0\xc3\xa9", 13));
}

TEST_CASE("the Unix socket serves the same [H21]") {
  const TestServer server;
  const Client client(server.socket_path());
  client.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
  CHECK(Reply(client.read_all()).body == kHeapBytes);
}

TEST_CASE("a parameter with a semicolon is no parameter [H24]") {
  const TestServer server;
  CHECK(get(server, "/debug/pprof/heap?seconds=1;debug=1").body == kHeapBytes);
}

TEST_CASE("a delta is another file, after the time asked for [D01 D05]") {
  const TestServer server;
  const auto begin = steady_clock::now();
  const Reply reply = get(server, "/debug/pprof/heap?seconds=1&debug=0");
  CHECK(seconds_since(begin) >= 1.0);
  CHECK(reply.status == 200);
  CHECK(reply.has("Content-Disposition: attachment; filename=\"heap-delta\""));
  CHECK(reply.has("Content-Type: application/octet-stream"));
  CHECK(reply.body == "\x1f\x8b\x08 delta");
  CHECK(FakeProfiles::collections_finished == 1);
  CHECK(get(server, "/debug/pprof/heap?seconds=").body == kHeapBytes);
}

TEST_CASE("wrong seconds are refused at once, before anything is collected [D03 D04 D06]") {
  const TestServer server;
  const auto check_refused = [&](const char* target, const char* text) {
    CAPTURE(target);
    const Reply reply = get(server, target);
    CHECK(reply.status == 400);
    CHECK(reply.has("X-Go-Pprof: 1"));
    CHECK(reply.has(kText));
    CHECK_FALSE(reply.has_header("Content-Disposition"));
    CHECK(reply.body == text);
  };
  const char* invalid = "invalid value for \"seconds\" - must be a positive integer\n";
  check_refused("/debug/pprof/heap?seconds=0", invalid);
  check_refused("/debug/pprof/heap?seconds=-1", invalid);
  check_refused("/debug/pprof/heap?seconds=abc", invalid);
  check_refused("/debug/pprof/heap?seconds=1.5", invalid);
  check_refused("/debug/pprof/heap?seconds=1e1", invalid);
  check_refused("/debug/pprof/heap?seconds=+1", invalid);
  check_refused("/debug/pprof/custom?seconds=0", invalid);
  check_refused("/debug/pprof/heap?seconds=9223372036854775808", invalid);
  check_refused("/debug/pprof/heap?seconds=1&debug=1", "seconds and debug params are incompatible\n");
  check_refused("/debug/pprof/custom?seconds=1",
                "\"seconds\" parameter is not supported for this profile type\n");
  check_refused("/debug/pprof/heap?seconds=3601", "\"seconds\" must be at most 3600\n");
  CHECK(FakeProfiles::collections_begun == 0);
}

TEST_CASE("a profile over time has a default and takes wrong values for it") {
  const TestServer server;
  for (const char* query :
       {"", "?seconds=abc", "?seconds=0", "?seconds=-3", "?seconds=nan", "?seconds=inf"}) {
    CAPTURE(query);
    const auto begin = steady_clock::now();
    const Reply reply = get(server, std::string("/debug/pprof/quick") + query);
    CHECK(reply.has("Content-Disposition: attachment; filename=\"quick\""));
    CHECK(seconds_since(begin) >= 0.25);
  }
  CHECK(get(server, "/debug/fakeprof?seconds=0.01").status == 200);
  CHECK(get(server, "/debug/pprof/quick?seconds=99999").status == 400);
}

TEST_CASE("a client that leaves cancels what it asked for [D11]") {
  const TestServer server;
  {
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=30");
    while (FakeProfiles::collections_begun == 0) CHECK(get(server, "/debug/pprof/heap").status == 200);
  }
  // Far from the thirty seconds that it asked for.
  CHECK(eventually([] { return FakeProfiles::collections_cancelled == 1; }));
  CHECK(FakeProfiles::collections_finished == 0);
  CHECK(get(server, "/debug/pprof/heap").status == 200);
}

TEST_CASE("what wants to be called again is, though nobody comes") {
  FakeProfiles::reset();
  const TestServer server;
  CHECK(eventually([] { return FakeProfiles::times_tended >= 10; }));
}

TEST_CASE("deltas overlap and each takes its own time [D12]") {
  const TestServer server;
  const auto begin = steady_clock::now();
  Client longer(server.port());
  Client shorter(server.port());
  longer.request("GET", "/debug/pprof/allocs?seconds=3");
  shorter.request("GET", "/debug/pprof/heap?seconds=1");
  CHECK(Reply(shorter.read_response()).has("Content-Disposition: attachment; filename=\"heap-delta\""));
  CHECK(Reply(longer.read_response()).has("Content-Disposition: attachment; filename=\"allocs-delta\""));
  CHECK(FakeProfiles::begun_at_first_finish == 2);
  CHECK(FakeProfiles::finished_seconds == 13);
  CHECK(seconds_since(begin) >= 3.0);
}

TEST_CASE("what a profile throws is a 500 with its text, and the connection goes on") {
  const TestServer server;
  Client client(server.port());
  for (const char* target : {"/debug/pprof/broken", "/debug/pprof/heap?seconds=2"}) {
    client.request("GET", target);
    const Reply reply(client.read_response());
    CHECK(reply.status == 500);
    CHECK(reply.has("X-Go-Pprof: 1"));
    CHECK_FALSE(reply.has_header("Content-Disposition"));
    CHECK(reply.body.starts_with("failed to "));
  }
  client.request("GET", "/debug/pprof/heap");
  CHECK(Reply(client.read_response()).body == kHeapBytes);
}

TEST_CASE("symbol answers what it knows, in the order asked [S01 S02 S03 S04]") {
  const TestServer server;
  const auto symbols = [&](const std::string& query) {
    return get(server, "/debug/pprof/symbol" + query).body;
  };
  CHECK(get(server, "/debug/pprof/symbol").has(kText));
  CHECK(symbols("") == "num_symbols: 1\n");
  CHECK(symbols("?0x2001+0x1002") == "num_symbols: 1\n0x2001 name with space\n0x1002 _Z3foov\n");
  CHECK(symbols("?garbage+0+0xfffffffffffffffff+4097+0X1001+0b1000000000001+010001+0x1_001") ==
        "num_symbols: 1\n0x1001 _Z3foov\n0x1001 _Z3foov\n0x1001 _Z3foov\n0x1001 _Z3foov\n0x1001 _Z3foov\n");
  CHECK(symbols("?0x1001%2B0x1002") == "num_symbols: 1\n");
  CHECK(symbols("?0x1001,0x1002") == "num_symbols: 1\n");
  CHECK(symbols("?" + std::string(5000, '1')) == "num_symbols: 1\nreading request: bufio: buffer full\n");

  for (const char* type : {"application/octet-stream", "application/x-www-form-urlencoded"}) {
    const std::string header = std::string("Content-Type: ") + type + "\r\n";
    const Reply reply = ask(server, "POST", "/debug/pprof/symbol?0x1001", header, "0x1002+0x2001");
    CHECK(reply.status == 200);
    CHECK(reply.body == "num_symbols: 1\n0x1002 _Z3foov\n0x2001 name with space\n");
  }
}

TEST_CASE("symbol takes a hundred thousand addresses [S05]") {
  const TestServer server;
  std::string body;
  for (int i = 0; i < 100000; ++i)
    body += (i > 0 ? "+0x0000000000" : "0x0000000000") + std::to_string(100000 + i);
  REQUIRE(body.size() > 1'800'000);
  const Reply reply = ask(server, "POST", "/debug/pprof/symbol", "", body);
  CHECK(std::count(reply.body.begin(), reply.body.end(), '\n') == 100001);
}

TEST_CASE("symbol takes chunked bodies and asks for announced ones [S07]") {
  const TestServer server;
  {
    const Client client(server.port());
    client.request("POST", "/debug/pprof/symbol", "Transfer-Encoding: chunked\r\nConnection: close\r\n");
    client.send("6\r\n0x1002\r\n7\r\n+0x2001\r\n0\r\n\r\n");
    CHECK(Reply(client.read_all()).body == "num_symbols: 1\n0x1002 _Z3foov\n0x2001 name with space\n");
  }
  Client client(server.port());
  client.send(
      "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: "
      "6\r\n\r\n");
  CHECK(client.read_response() == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("0x1002");
  CHECK(Reply(client.read_response()).body == "num_symbols: 1\n0x1002 _Z3foov\n");

  client.request("GET", "/debug/pprof/heap", "Expect: miracles\r\n");
  CHECK(Reply(client.read_response()).status == 417);
}

TEST_CASE("a body that nobody needs is not read, one that is too large is refused") {
  const TestServer server;
  Client client(server.port());
  client.send("PUT /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n");
  CHECK(Reply(client.read_response()).status == 413);
  Client other(server.port());
  other.send("PUT /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n");
  CHECK(Reply(other.read_response()).status == 405);
  Client third(server.port());
  third.send("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "100000\r\n" + std::string(1 << 20, '1') + "\r\n";
  for (int i = 0; i < 17 && third.send(chunk); ++i) {
  }
  CHECK(Reply(third.read_response()).status == 413);
  // Each page has its own limit, also for a length that is announced.
  Client fourth(server.port());
  fourth.send(
      "PUT /debug/pprof/config HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 65537\r\n\r\n");
  CHECK(Reply(fourth.read_response()).status == 413);
  Client fifth(server.port());
  fifth.send(
      "PUT /debug/pprof/config HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n10001\r\n" +
      std::string(65537, ' ') + "\r\n");
  CHECK(Reply(fifth.read_response()).status == 413);
  CHECK(get(server, "/debug/pprof/heap").status == 200);
}

TEST_CASE("config and agent are JSON, agent also text") {
  const TestServer server;
  const Reply config = get(server, "/debug/pprof/config");
  CHECK(config.has("Content-Type: application/json"));
  CHECK(contains(config.body, "\"name\": \"mem_profile_rate\""));
  CHECK(contains(config.body, "\"current\": 1"));
  CHECK(contains(config.body, "\"default\": 524288"));
  CHECK(contains(config.body, "\"max\": null"));
  const Reply agent = get(server, "/debug/pprof/agent");
  CHECK(agent.has("Content-Type: application/json"));
  CHECK(contains(agent.body, "\"unix://" + server.socket_path() + "\""));
  const Reply text = get(server, "/debug/pprof/agent?format=text");
  CHECK(text.has(kText));
  CHECK(contains(text.body, "service.pid: " + std::to_string(getpid()) + "\n"));
  CHECK(contains(text.body, "service.listeners: 127.0.0.1:" + std::to_string(server.port()) + "\n"));
}

}  // namespace profagent::test
