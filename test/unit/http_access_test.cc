// Who gets answers.
#include <catch2/catch.hpp>

#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

constexpr uid_t kStranger = 65534;

}  // namespace

TEST_CASE("only our own names and pages get answers [J2 J3]") {
  const TestServer server;
  const auto status = [&](const std::string& headers) {
    return Reply(raw(server, "GET /debug/pprof/heap HTTP/1.1\r\n" + headers + "Connection: close\r\n\r\n"))
        .status;
  };
  CHECK(status("") == 400);
  CHECK(status("Host: localhost\r\nHost: localhost\r\n") == 400);
  CHECK(status("Host: LOCALHOST:1234\r\n") == 200);
  CHECK(status("Host: [::1]:6060\r\n") == 200);
  for (const char* host : {"evil.com", "localhost6", "127.0.0.1.", ""}) {
    CAPTURE(host);
    CHECK(status(std::string("Host: ") + host + "\r\n") == 403);
  }
  CHECK(status("Host: localhost:6060\r\nOrigin: http://localhost:6060\r\n") == 200);
  CHECK(status("Host: localhost:6060\r\nOrigin: http://evil.com\r\n") == 403);
  CHECK(status("Host: localhost:6060\r\nOrigin: null\r\n") == 403);
  // An image of a page elsewhere has no Origin.
  for (const char* from : {"cross-site", "same-site"}) {
    CAPTURE(from);
    CHECK(status(std::string("Host: localhost:6060\r\nSec-Fetch-Site: ") + from + "\r\n") == 403);
  }
  for (const char* from : {"same-origin", "none"}) {
    CAPTURE(from);
    CHECK(status(std::string("Host: localhost:6060\r\nSec-Fetch-Site: ") + from + "\r\n") == 200);
  }
  // Who is refused does not keep the connection either.
  const Reply reply(raw(server, "GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n"));
  CHECK(reply.has("Connection: close"));
  CHECK(reply.has("X-Go-Pprof: 1"));
  CHECK(reply.body.find("http://localhost/") != std::string::npos);
  CHECK_FALSE(get(server, "/debug/pprof/heap").has_header("Access-Control-Allow-Origin"));
}

TEST_CASE("another user gets 403 and is told what to do, root and listed users get answers [J1 J6]") {
  if (geteuid() != 0) return;
  const auto ask_as = [](const TestServer& server, uid_t uid) {
    REQUIRE(seteuid(uid) == 0);
    const Client client(server.port());
    REQUIRE(seteuid(0) == 0);
    client.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
    return Reply(client.read_all());
  };
  {
    const TestServer server;
    const Reply reply = ask_as(server, kStranger);
    CHECK(reply.status == 403);
    CHECK(reply.body.find("PROFAGENT_ALLOW_UIDS=65534") != std::string::npos);
    CHECK(ask_as(server, 0).status == 200);
  }
  service::AccessPolicy listed;
  listed.uids = {kStranger};
  {
    const TestServer server(0, listed);
    CHECK(ask_as(server, kStranger).status == 200);
    CHECK(ask_as(server, kStranger - 1).status == 403);
  }
  // The file's mode keeps strangers away from the Unix socket; where a mode does not, the kernel's word does.
  const TestServer server;
  chmod(server.socket_path().c_str(), 0666);
  chmod(server.socket_path().substr(0, server.socket_path().rfind('/')).c_str(), 0755);
  REQUIRE(seteuid(kStranger) == 0);
  const Client client(server.socket_path());
  REQUIRE(seteuid(0) == 0);
  client.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
  CHECK(Reply(client.read_all()).status == 403);
}

}  // namespace profagent::test
