// When our thread has no memory for what a client wants.
#include <catch2/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

// So many allocations fail, one after the other, of the thread of this service.
std::atomic<const service::Service*> out_of_memory{nullptr};
std::atomic<int> failures_left{0};

void fail_next(const TestServer& server, int times = 1) {
  failures_left = times;
  out_of_memory = &server.service();
}

void fail_when_asked_to() {
  const service::Service* service = out_of_memory.load();
  if (service == nullptr || !service->is_this_thread()) return;
  if (--failures_left == 0) out_of_memory = nullptr;
  throw std::bad_alloc();
}

}  // namespace

}  // namespace profagent::test

// Not inlined: the compiler would find that they do not match where it has inlined only one of them.
[[gnu::noinline]] void* operator new(std::size_t size) {
  profagent::test::fail_when_asked_to();
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}

// Catch2's.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(size);
}

[[gnu::noinline]] void operator delete(void* block) noexcept {
  std::free(block);
}

[[gnu::noinline]] void operator delete(void* block, std::size_t /*size*/) noexcept {
  std::free(block);
}

namespace profagent::test {

TEST_CASE("when there is no memory for a client, the next one is served") {
  const TestServer server;
  REQUIRE(is_alive(server));
  REQUIRE(eventually(
      [&] { return number_fact(server, "connections_open") == 0; }));  // nobody else asks for memory
  fail_next(server);
  CHECK(Client(server.port()).read_all().empty());
  CHECK(out_of_memory == nullptr);
  CHECK(is_alive(server));
}

TEST_CASE("a request for which there is no memory costs its own connection and nothing else") {
  const TestServer server;
  // Nearly each exception reaches the loop, which gives up after a hundred that no request has caused.
  constexpr int kTimes = 130;
  const std::int64_t requests = number_fact(server, "requests");
  const std::int64_t restarts = number_fact(server, "restarts");
  for (int i = 1; i <= kTimes; ++i) {
    const Client client(server.port());
    client.request("POST", "/debug/pprof/symbol", "Transfer-Encoding: chunked\r\n");
    REQUIRE(eventually([&] { return number_fact(server, "requests") == requests + i; }));
    fail_next(server);
    client.send("20\r\n" + std::string(32, '0') + "\r\n");
    // At once, and not when the time for a body is over.
    REQUIRE(client.read_all().empty());
    REQUIRE(eventually([&] { return number_fact(server, "connections_open") == 0; }));
  }
  CHECK(number_fact(server, "restarts") > restarts + 101);
  CHECK(is_alive(server));
}

TEST_CASE("when there is no memory to say so either, the connection ends and its place is free") {
  const TestServer server;
  Client client(server.port());
  client.request("GET", "/debug/pprof/heap?seconds=3");
  REQUIRE(eventually([] { return FakeProfiles::collections_begun == 1; }));
  // While it collects, nothing asks for memory: the answer does, and then the refusal.
  fail_next(server, 2);
  CHECK(client.read_all().empty());
  CHECK(out_of_memory == nullptr);
  CHECK(FakeProfiles::collections_finished == 1);
  CHECK(eventually([&] { return number_fact(server, "connections_open") == 0; }));
  CHECK(is_alive(server));
}

TEST_CASE("when there is no memory for an answer, there is for saying so") {
  const TestServer server;
  Client client(server.port());
  client.request("GET", "/debug/pprof/heap?seconds=3");
  REQUIRE(eventually([] { return FakeProfiles::collections_begun == 1; }));
  fail_next(server);
  CHECK(Reply(client.read_response()).status == 500);
  client.request("GET", "/debug/pprof/heap");
  CHECK(Reply(client.read_response()).body == kHeapBytes);
}

TEST_CASE("bodies share the memory that there is for them [J11]") {
  const TestServer server;
  const std::string header = "Transfer-Encoding: chunked\r\n";
  const std::int64_t requests = number_fact(server, "requests");
  {
    const Client first(server.port());
    const Client second(server.port());
    first.request("POST", "/debug/pprof/symbol", header);
    second.request("POST", "/debug/pprof/symbol", header);
    REQUIRE(eventually([&] { return number_fact(server, "requests") == requests + 2; }));
    const Reply refusal = ask(server, "POST", "/debug/pprof/symbol", "", "0x1000");
    CHECK(refusal.status == 503);
    CHECK(refusal.has("Retry-After: 1"));
    CHECK(refusal.body == "other requests' bodies take all the memory that there is for them. Try again.\n");
    CHECK(is_alive(server));
    first.send("6\r\n0x1000\r\n0\r\n\r\n");
    CHECK(eventually([&] { return ask(server, "POST", "/debug/pprof/symbol", "", "0x1000").status == 200; }));
  }
  // Those that have left have given it back.
  for (int i = 0; i < 3; ++i) {
    const Client client(server.port());
    const std::int64_t before = number_fact(server, "requests");
    client.request("POST", "/debug/pprof/symbol", header);
    CHECK(eventually([&] { return number_fact(server, "requests") == before + 1; }));
  }
  CHECK(eventually([&] { return ask(server, "POST", "/debug/pprof/symbol", "", "0x1000").status == 200; }));
}

}  // namespace profagent::test
