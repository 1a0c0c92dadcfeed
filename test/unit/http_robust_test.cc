// What a client can do wrong.
#include <catch2/catch.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

// Of what has been sent through this Unix socket, so much the other end has not taken yet.
int unread_bytes(int socket) {
  int count = 0;
  return ioctl(socket, SIOCOUTQ, &count) == 0 ? count : -1;
}

}  // namespace

TEST_CASE("what is not HTTP is answered with 400 and the end [H18 J12]") {
  const TestServer server;
  for (const std::string& bytes :
       {std::string("hello\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(300, '\0'),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nbad header\r\n\r\n"),
        std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29),
        std::string("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                    "chunked\r\n\r\nzz\r\n")}) {
    CAPTURE(bytes);
    const Reply reply(raw(server, bytes));
    CHECK((reply.status == 400 || reply.status == 413));
    CHECK(reply.has("Connection: close"));
  }
  CHECK(is_alive(server));
}

TEST_CASE("what follows an unknown encoding is not taken for a request [J12]") {
  const TestServer server;
  const Reply reply(
      raw(server,
          "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\n"
          "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  CHECK(reply.status == 501);
  CHECK(reply.has("Connection: close"));
  CHECK(reply.body == "501 Unsupported transfer encoding\n");
}

// Found by fuzz_http: an assertion of the library's ended the program.
TEST_CASE("a body may come in pieces of any size [J12]") {
  const TestServer server;
  const std::string header = "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n";
  for (const std::string& body :
       {std::string("0\r\n\r\n"), std::string("1\r\n0\r\n0\r\n\r\n"),
        std::string("6;x=y\r\n0x1000\r\n0;z\r\nTrailer: z\r\n\r\n"), std::string("0\r\nnothing\r\n\r\n")}) {
    for (std::size_t piece = 1; piece <= body.size(); ++piece) {
      CAPTURE(body, piece);
      const Client client(server.socket_path());
      const std::int64_t requests = number_fact(server, "requests");
      client.send(header + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
      REQUIRE(eventually([&] { return number_fact(server, "requests") == requests + 1; }));
      for (std::size_t at = 0; at < body.size(); at += piece) {
        client.send(body.substr(at, piece));
        // Read before the next one comes.
        REQUIRE(eventually([&] { return unread_bytes(client.fd()) == 0; }));
      }
      const bool is_right = body.find("nothing") == std::string::npos;
      CHECK(Reply(client.read_all()).status == (is_right ? 200 : 400));
    }
  }
  CHECK(number_fact(server, "restarts") == 0);
}

TEST_CASE("oversized headers and targets get 431 and do no harm [H18]") {
  const TestServer server;
  const std::string small =
      "GET /debug/pprof/heap?x=" + std::string(8192, 'a') + " HTTP/1.1\r\nHost: localhost\r\n";
  CHECK(Reply(raw(server, small + "Connection: close\r\n\r\n")).status == 200);
  CHECK(Reply(raw(server, "GET / HTTP/1.1\r\nX: " + std::string(64 << 10, 'a') + "\r\n\r\n")).status == 431);
  CHECK(Reply(raw(server, "GET /" + std::string(1 << 20, 'a') + " HTTP/1.1\r\n\r\n")).status == 431);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 5000; ++i) many += "X: y\r\n";
  CHECK(Reply(raw(server, many + "\r\n")).status == 431);
  CHECK(is_alive(server));
}

TEST_CASE("half-open and slow clients hold up nobody [H18 J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    if (i % 2 == 0) clients.back()->send("GET /debug/pprof/he");
  }
  CHECK(is_alive(server));
  // After five seconds an unfinished header is given up; a connection that has said nothing is only idle.
  for (int i = 0; i < 20; i += 2) CHECK(clients[static_cast<std::size_t>(i)]->read_all().empty());
  clients[1]->request("GET", "/debug/pprof/heap");
  CHECK(Reply(clients[1]->read_response()).body == kHeapBytes);
}

TEST_CASE("a byte a second is too slow for a header") {
  const TestServer server;
  const Client client(server.port());
  const std::string request = "GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n";
  std::size_t sent = 0;
  while (sent < request.size() && client.send(request.substr(sent, 1))) {
    ++sent;
    CHECK(is_alive(server));
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  CHECK(sent < request.size());
}

TEST_CASE("a hundred clients that leave in the middle cancel a hundred collections [D11 J10]") {
  const TestServer server;
  for (int i = 0; i < 100; ++i) {
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=30");
    if (i % 3 == 0) {
      const linger abort{1, 0};  // a reset instead of an end
      setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    }
    REQUIRE(eventually([&] { return FakeProfiles::collections_begun == i + 1; }));
  }
  CHECK(eventually([] { return FakeProfiles::collections_cancelled == 100; }));
  CHECK(is_alive(server));
  struct sigaction action = {};
  sigaction(SIGPIPE, nullptr, &action);
  CHECK(action.sa_handler == SIG_DFL);
}

TEST_CASE("a client that sends ahead while it waits and leaves is noticed too") {
  const TestServer server;
  {
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=30");
    client.send(std::string(20000, 'x'));
    REQUIRE(eventually([] { return FakeProfiles::collections_begun == 1; }));
  }
  CHECK(eventually([] { return FakeProfiles::collections_cancelled == 1; }));
}

}  // namespace profagent::test
