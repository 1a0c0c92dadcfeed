// Servers under load, with every wait recorded all the time. Those that this machine lacks are left out with
// a warning.
#include <atomic>
#include <sstream>
#include <thread>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/contention.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

}  // namespace

TEST_CASE("redis: its input threads wait for the main thread, which lets them go", "[programs]") {
  if (!available("redis-server") || !available("redis-benchmark")) return;
  const std::uint16_t port = free_port();
  const std::string address = std::to_string(port);
  // Its threads of input spin before they wait: few requests, or they are slow on few processors.
  Victim redis("redis-server",
               {"--port", address, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--io-threads",
                "2", "--io-threads-do-reads", "yes"},
               kEveryWait);
  REQUIRE(eventually([&] { return can_connect(Address::tcp(port)); }));
  const Outcome load = run({"redis-benchmark", "-p", address, "-n", "1500", "-c", "60", "-t", "incr", "-q"});
  CHECK(load.ok());
  CHECK(load.err.empty());
  CHECK(run({"redis-cli", "-p", address, "get", "counter:__rand_int__"}).out == "1500\n");

  const Profile block = redis.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  CHECK(top_of(of_kind(block, "mutex")).has("IOThreadMain"));
  CHECK(top_of(of_kind(block, "io")).has("aeMain"));
  CHECK(top_of(of_kind(block, "io")).stack.at(0).name == "epoll_wait");
  const Profile mutex = redis.profile("/debug/pprof/mutex");
  CHECK(broken_wait_rules(mutex) == kNone);
  const Sample culprit = top_of(mutex.samples());
  CAPTURE(culprit.key());
  CHECK(culprit.has("handleClientsWithPendingWritesUsingThreads"));
}

TEST_CASE("postgres under pgbench: backends wait for rows that others have locked", "[programs]") {
  if (!Postgres::is_installed()) return;
  Postgres postgres(kEveryWait);
  CHECK(postgres.client("pgbench", {"-i", "-q", "-n", "-s", "1", "postgres"}).ok());
  Outcome load;
  std::atomic<bool> over = false;
  std::jthread clients([&] {
    load = postgres.client("pgbench", {"-n", "-c", "8", "-T", "20", "postgres"});
    over = true;
  });
  // With one branch in the bank all transactions update its row, one after the other.
  const auto backends = [&] {
    std::istringstream pids(
        postgres.sql("select pid from pg_stat_activity where application_name = 'pgbench'").out);
    std::vector<pid_t> result;
    for (pid_t pid = 0; pids >> pid;) result.push_back(pid);
    return result;
  };
  CHECK(eventually([&] { return over || backends().size() == 8; }));
  bool waits_for_rows = false;
  for (const pid_t pid : backends()) {
    const Address address = postgres.address(pid);
    if (!eventually([&] { return over || can_connect(address); }) || over) break;
    const Profile block = Profile::parse(http_get(address, "/debug/pprof/block").body);
    CHECK(broken_wait_rules(block) == kNone);
    CHECK(broken_wait_rules(Profile::parse(http_get(address, "/debug/pprof/mutex").body)) == kNone);
    waits_for_rows = waits_for_rows || delay_in(of_kind(block, "io"), "ProcSleep") > 0;
  }
  CHECK(waits_for_rows);
  clients.join();
  CAPTURE(load.out, load.err);
  CHECK(load.ok());
  CHECK(load.out.find("number of failed transactions: 0") != std::string::npos);
  // What was done is there, once.
  CHECK(postgres
            .sql("select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from "
                 "pgbench_history)")
            .out == "t\n");
  CHECK(postgres.shut_down().ok());
}

namespace {

// One client of memcached's text protocol: sends a line, and waits for the line that answers it.
class Memcached {
 public:
  explicit Memcached(std::uint16_t port) : connection_(Address::tcp(port)) {}
  std::string ask(const std::string& line) {
    connection_.send(line + "\r\n");
    return connection_.read_line();
  }

 private:
  Connection connection_;
};

}  // namespace

TEST_CASE("memcached counts right while its threads contend", "[programs]") {
  if (!available("memcached")) return;
  const std::uint16_t port = free_port();
  Arguments arguments = {"-l", "127.0.0.1", "-p", std::to_string(port), "-t", "4"};
  if (geteuid() == 0) arguments.insert(arguments.end(), {"-u", "root"});
  Victim memcached("memcached", arguments, kEveryWait);
  REQUIRE(eventually([&] { return can_connect(Address::tcp(port)); }));
  CHECK(Memcached(port).ask("set hot 0 0 1\r\n0") == "STORED");
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i)
    clients.emplace_back([port] {
      Memcached client(port);
      for (int n = 0; n < 1000; ++n) client.ask("incr hot 1");
    });
  for (std::thread& client : clients) client.join();
  CHECK(Memcached(port).ask("incr hot 1") == "8001");

  const Profile block = memcached.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  CHECK(broken_wait_rules(memcached.profile("/debug/pprof/mutex")) == kNone);
  CHECK(delay_in(of_kind(block, "io"), "event_base_loop") > 0);
  memcached.process().signal(15);
  CHECK(memcached.finish().signal == 0);
}
