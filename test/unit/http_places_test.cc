// Too many clients at once: who is served, who is told so, and who gives way.
#include "agent/service/http_places.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

constexpr uid_t kStranger = 65534;

using service::kHeaderDeadline;
using service::kMaxConnections;
using service::kMaxStrangers;
using service::kMaxTurnedAway;
using service::Standing;
using Time = service::Place::Time;

// A connection without a socket.
class FakeGuest : public service::Guest {
 public:
  FakeGuest(service::Places& places, Standing standing, Time now = {})
      : place_(places, *this, standing, now) {}

  void close() override {
    place_.leave();
    is_closed_ = true;
  }
  bool has_unread() override { return has_unread_; }

  void receive() { has_unread_ = true; }
  [[nodiscard]] bool is_closed() const { return is_closed_; }
  service::Place& place() { return place_; }

 private:
  bool is_closed_ = false;
  bool has_unread_ = false;
  service::Place place_;
};

struct Crowd {
  void come(std::size_t count, Standing standing, Time now = {}) {
    for (std::size_t i = 0; i < count; ++i)
      guests.push_back(std::make_unique<FakeGuest>(places, standing, now));
  }
  [[nodiscard]] std::size_t closed() const {
    std::size_t count = 0;
    for (const auto& guest : guests) count += guest->is_closed() ? 1 : 0;
    return count;
  }
  FakeGuest& last() { return *guests.back(); }

  service::ServiceCounters counters;
  service::Places places{counters};
  std::vector<std::unique_ptr<FakeGuest>> guests;
};

// Another user who opens connections to both addresses, one after the other, and keeps them. Made before the
// server: its process allocates, and the server's thread could hold an allocator's lock at the fork.
class HostileUser {
 public:
  HostileUser() {
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) == 0);
    child_ = fork();
    if (child_ == 0) _exit(open_all(ends_[1]));
    close(ends_[1]);
  }
  HostileUser(const HostileUser&) = delete;
  HostileUser& operator=(const HostileUser&) = delete;
  ~HostileUser() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    close(ends_[0]);
  }

  // False when one was refused.
  [[nodiscard]] bool open(const TestServer& server, int count) const {
    Order order = {.port = server.port(), .count = count, .path = {}};
    server.socket_path().copy(order.path, sizeof(order.path) - 1);
    char byte = 0;
    return write(ends_[0], &order, sizeof(order)) == sizeof(order) && read(ends_[0], &byte, 1) == 1;
  }

 private:
  struct Order {
    std::uint16_t port;
    int count;
    char path[108];
  };

  static int open_all(int other_end) try {
    alarm(60);
    Order order;
    if (setuid(kStranger) != 0 || read(other_end, &order, sizeof(order)) != sizeof(order)) return 1;
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < order.count; ++i) {
      clients.push_back(i % 2 == 0 ? std::make_unique<Client>(order.port)
                                   : std::make_unique<Client>(std::string(order.path)));
    }
    if (write(other_end, "", 1) != 1) return 1;
    for (;;) pause();
  } catch (const std::exception&) {
    return 1;
  }

  int ends_[2];
  pid_t child_ = 0;
};

}  // namespace

TEST_CASE("strangers crowd out each other, the oldest first, and nobody else [J9]") {
  Crowd crowd;
  crowd.come(kMaxConnections, Standing::kAllowed);
  crowd.come(kMaxStrangers, Standing::kRefused);
  CHECK(crowd.closed() == 0);
  crowd.come(1000, Standing::kRefused);
  CHECK(crowd.closed() == 1000);
  for (std::size_t i = 0; i < crowd.guests.size(); ++i) {
    const bool is_old_stranger = i >= kMaxConnections && i < crowd.guests.size() - kMaxStrangers;
    CHECK(crowd.guests[i]->is_closed() == is_old_stranger);
  }
  CHECK(crowd.counters.connections_crowded_out == 1000);
  CHECK(crowd.counters.connections_over_limit == 0);
  CHECK_FALSE(crowd.places.are_full());
}

TEST_CASE("who may still show a token stays longer than who may not ask at all") {
  Crowd crowd;
  crowd.come(1, Standing::kUnproven);
  crowd.come(kMaxStrangers - 1, Standing::kRefused);
  crowd.come(5 * kMaxStrangers, Standing::kRefused);
  CHECK_FALSE(crowd.guests[0]->is_closed());
  // Those who have shown a wrong one are like the others.
  crowd.guests[0]->place().refuse();
  crowd.come(kMaxStrangers, Standing::kRefused);
  CHECK(crowd.guests[0]->is_closed());
  // Among themselves the oldest goes.
  Crowd remote;
  remote.come(kMaxStrangers + 1, Standing::kUnproven);
  CHECK(remote.guests[0]->is_closed());
  CHECK(remote.closed() == 1);
}

TEST_CASE("who has shown the token has a place among those who may ask") {
  Crowd crowd;
  crowd.come(1, Standing::kUnproven);
  CHECK_FALSE(crowd.last().place().may_stay());
  crowd.last().place().let_in({});
  CHECK(crowd.last().place().may_stay());
  crowd.come(10 * kMaxStrangers, Standing::kUnproven);
  CHECK_FALSE(crowd.guests[0]->is_closed());
  // It counts there.
  crowd.come(kMaxConnections - 1, Standing::kAllowed);
  CHECK(crowd.last().place().may_stay());
  crowd.come(1, Standing::kAllowed);
  CHECK(crowd.last().place().is_turned_away());
  // Who is refused later was let in all the same.
  crowd.guests[0]->place().refuse();
  CHECK(crowd.guests[0]->place().may_stay());
}

TEST_CASE("one more than are served is turned away, unless another leaves first") {
  Crowd crowd;
  crowd.come(kMaxConnections, Standing::kAllowed);
  crowd.come(1, Standing::kUnproven);
  FakeGuest& remote = crowd.last();
  remote.place().let_in({});
  CHECK(remote.place().is_turned_away());
  CHECK_FALSE(remote.place().may_stay());
  CHECK(crowd.counters.connections_over_limit == 1);
  crowd.guests[0]->close();
  CHECK_FALSE(remote.place().is_turned_away());
  crowd.come(kMaxTurnedAway, Standing::kAllowed);
  CHECK(crowd.places.are_full());
  crowd.last().close();
  CHECK_FALSE(crowd.places.are_full());
}

TEST_CASE("of the idle the one that has waited longest gives way, when it has waited long enough") {
  Crowd crowd;
  const Time begin{};
  const Time later = begin + std::chrono::seconds(1);
  crowd.come(kMaxConnections, Standing::kAllowed);
  for (std::size_t i = 0; i < 3; ++i) crowd.guests[i]->place().begin_idle(i == 2 ? later : begin);
  crowd.come(1, Standing::kAllowed, begin + kHeaderDeadline - std::chrono::nanoseconds(1));
  CHECK(crowd.closed() == 0);
  CHECK(crowd.last().place().is_turned_away());
  crowd.last().close();
  // Something has come for the first, which is about to look at it.
  crowd.guests[0]->receive();
  crowd.come(1, Standing::kAllowed, begin + kHeaderDeadline);
  CHECK(crowd.guests[1]->is_closed());
  CHECK(crowd.last().place().may_stay());
  crowd.come(1, Standing::kAllowed, begin + kHeaderDeadline);
  CHECK_FALSE(crowd.guests[2]->is_closed());
  crowd.last().close();
  crowd.guests[2]->place().end_idle();
  crowd.come(1, Standing::kAllowed, later + kHeaderDeadline);
  CHECK(crowd.last().place().is_turned_away());
}

TEST_CASE("who has left takes nothing any more") {
  Crowd crowd;
  crowd.come(1, Standing::kUnproven);
  crowd.come(1, Standing::kAllowed);
  for (const auto& guest : crowd.guests) {
    guest->close();
    // As handlers do that were queued already.
    guest->place().let_in({});
    guest->place().begin_idle({});
  }
  crowd.come(kMaxConnections, Standing::kAllowed);
  CHECK(crowd.last().place().may_stay());
  crowd.come(1, Standing::kAllowed, Time{} + 2 * kHeaderDeadline);
  CHECK(crowd.last().place().is_turned_away());
}

TEST_CASE("another user's thousand connections keep nobody out [J1 J9]") {
  if (geteuid() != 0) return;
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  const rlimit enough = {std::min<rlim_t>(files.rlim_max, 4096), files.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &enough) == 0);
  {
    const HostileUser hostile;
    const TestServer server;
    chmod(server.socket_path().c_str(), 0666);
    chmod(server.socket_path().substr(0, server.socket_path().rfind('/')).c_str(), 0755);
    REQUIRE(hostile.open(server, 1000));
    for (int i = 0; i < 10; ++i) {
      CHECK(is_alive(server));
      const Client local(server.socket_path());
      local.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
      CHECK(Reply(local.read_all()).body == kHeapBytes);
    }
    CHECK(number_fact(server, "connections_crowded_out") > 0);
    CHECK(number_fact(server, "connections_over_limit") == 0);
  }
  setrlimit(RLIMIT_NOFILE, &files);
}

TEST_CASE("beyond 64 connections every new one is told so, the others go on [J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->request("GET", "/debug/pprof/heap");
    CHECK(Reply(clients.back()->read_response()).status == 200);
  }
  {
    // Some more than are taken from the kernel's queue at a time.
    std::vector<std::unique_ptr<Client>> late;
    for (int i = 0; i < 20; ++i) {
      late.push_back(std::make_unique<Client>(server.port()));
      late.back()->request("GET", "/debug/pprof/heap");
    }
    CHECK(eventually([&] { return number_fact(server, "connections_open") == 80; }));
    for (auto& client : late) {
      const Reply refusal(client->read_all());
      CHECK(number_fact(server, "connections_open") <= 80);
      client.reset();
      CHECK(refusal.status == 503);
      CHECK(refusal.has("X-Go-Pprof: 1"));
      CHECK(refusal.has("Retry-After: 1"));
      CHECK(refusal.has("Connection: close"));
      CHECK(refusal.body == "profagent answers 64 connections at a time. Try again.\n");
    }
  }
  CHECK(eventually([&] {
    clients[0]->request("GET", "/debug/pprof/agent?format=text");
    const Reply facts(clients[0]->read_response());
    return facts.body.find("service.connections_open: 64\n") != std::string::npos &&
           facts.body.find("service.connections_over_limit: 20\n") != std::string::npos;
  }));
  clients.pop_back();
  CHECK(eventually([&] { return is_alive(server); }));
}

TEST_CASE("of 64 connections those without a request give way to new ones, the others do not [J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  clients[0]->request("GET", "/debug/pprof/heap?seconds=60");
  // After the five seconds that a request may take to come.
  bool is_served = false;
  for (int i = 0; i < 100 && !is_served; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    is_served = is_alive(server);
  }
  CHECK(is_served);
  CHECK(clients[1]->read_all().empty());
  CHECK(FakeProfiles::collections_begun == 1);
  CHECK(FakeProfiles::collections_cancelled == 0);
}

}  // namespace profagent::test
