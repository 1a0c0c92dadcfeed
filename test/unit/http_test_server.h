// The service with made-up profiles, in this process, and a client that says exactly what it is told to. For
// tests.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/service/server.h"
#include "test/support/eventually.h"

namespace profagent::test {

// What the made-up profiles report to the test.
struct FakeProfiles {
  static std::atomic<int> collections_begun;
  static std::atomic<int> collections_finished;
  static std::atomic<int> collections_cancelled;
  static std::atomic<int> finished_seconds;       // how long they took, as digits, in the order of their ends
  static std::atomic<int> begun_at_first_finish;  // collections
  static std::atomic<int> times_tended;           // of the site; it wants to be called again ten times, soon
  static std::atomic<bool> may_retire;            // whether an idle service may end
  static void reset();
};

// The bytes of the made-up heap snapshot: the magic number of gzip, then a name.
extern const std::string kHeapBytes;

// What the server shows: heap, allocs, custom (no deltas), broken (throws) and quick (over time).
service::Site make_fake_site();

class TestServer {
 public:
  explicit TestServer(unsigned idle_seconds = 0, service::AccessPolicy access = {});
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;
  ~TestServer();

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::string socket_path() const { return folder_ + "/test.sock"; }
  [[nodiscard]] service::Service& service() const;
  [[nodiscard]] service::Listeners& listeners() const;
  bool start() const;

 private:
  std::string folder_;
  unsigned idle_seconds_;
};

class Client {
 public:
  explicit Client(std::uint16_t port);
  explicit Client(const std::string& socket_path);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // False when the server has closed.
  bool send(std::string_view bytes) const;
  // "METHOD target HTTP/1.1" with a Host header.
  bool request(std::string_view method, std::string_view target, std::string_view more_headers = "",
               std::string_view body = "") const;
  // Everything until the server closes or says nothing for `patience`.
  [[nodiscard]] std::string read_all(std::chrono::milliseconds patience = std::chrono::seconds(10)) const;
  // One response with a Content-Length.
  [[nodiscard]] std::string read_response(bool has_body = true);
  void finish_sending() const;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
  std::string ahead_;
};

struct Reply {
  explicit Reply(std::string text);
  int status = 0;
  std::string head;  // with the status line, each line ended by \r\n
  std::string body;
  [[nodiscard]] bool has(std::string_view header_line) const;
  [[nodiscard]] bool has_header(std::string_view name) const;
};

// What it counts and tells of itself; -1 when there is no such number.
std::int64_t number_fact(const TestServer& server, std::string_view name);

// The line "KEY:\tVALUE" of the status that the kernel has of the service's thread; empty when there is none.
std::string thread_status(const std::string& key);

// One request on a connection of its own.
Reply get(const TestServer& server, std::string_view target, std::string_view more_headers = "");
Reply ask(const TestServer& server, std::string_view method, std::string_view target,
          std::string_view more_headers = "", std::string_view body = "");
bool is_alive(const TestServer& server);
// What comes back for these bytes on a connection of their own.
std::string raw(const TestServer& server, std::string_view bytes);

}  // namespace profagent::test
