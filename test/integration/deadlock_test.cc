// /debug/pprof/deadlock: finds what is there, and nothing that is not.
#include <regex>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

using Json = nlohmann::json;

constexpr const char* kText = "/debug/pprof/deadlock";
constexpr const char* kJson = "/debug/pprof/deadlock?format=json";

Json report_of(const Address& address) {
  const Response answer = http_get(address, kJson);
  REQUIRE(answer.status == 200);
  CHECK(answer.header("content-type") == "application/json");
  return Json::parse(answer.body);
}

Json report_of(Victim& victim) {
  return report_of(victim.unix_address());
}

bool has_frame(const Json& thread, const std::string& function) {
  for (const Json& frame : thread["stack"]) {
    if (frame["function"] == function) return true;
  }
  return false;
}

// The thread of that name; each waits for the next.
const Json& thread_in(const Json& threads, const std::string& name) {
  for (const Json& thread : threads) {
    if (thread["name"] == name) return thread;
  }
  throw std::runtime_error("no thread " + name + " in " + threads.dump());
}

void check_circle(const Json& threads) {
  for (std::size_t i = 0; i < threads.size(); ++i) {
    const Json& next = threads[(i + 1) % threads.size()];
    CHECK(threads[i]["holder"]["tid"] == next["tid"]);
    CHECK(threads[i]["holder"]["name"] == next["name"]);
  }
}

void check_abba(const Json& report, bool timed) {
  CHECK(report["deadlock"] == true);
  REQUIRE(report["cycles"].size() == 1);
  const Json& threads = report["cycles"][0]["threads"];
  REQUIRE(threads.size() == 2);
  CHECK(report["cycles"][0]["behind"] == 0);
  check_circle(threads);
  const Json& first = thread_in(threads, "first");
  const Json& second = thread_in(threads, "second");
  CHECK(first["waits_for"]["kind"] == "mutex");
  CHECK(first["waits_for"]["has_time_limit"] == timed);
  CHECK(second["waits_for"]["has_time_limit"] == false);
  CHECK(first["waits_for"]["address"] != second["waits_for"]["address"]);
  CHECK(has_frame(first, timed ? "tries_a_then_b" : "takes_a_then_b"));
  CHECK(has_frame(second, "takes_b_then_a"));
  CHECK_FALSE(has_frame(second, "takes_a_then_b"));
  CHECK(report["chains"].empty());
  CHECK(report["abandoned_locks"].empty());
}

}  // namespace

TEST_CASE("two threads that take two mutexes in different orders are a deadlock") {
  Victim victim("deadlocks", {"abba"});
  check_abba(report_of(victim), false);
  const Response text = victim.get(kText);
  CHECK(text.status == 200);
  CHECK(text.header("content-type") == "text/plain; charset=utf-8");
  CHECK(text.body.rfind("1 deadlock, 0 locks of threads that have ended\n", 0) == 0);
  CHECK(text.body.find("deadlock: 2 threads wait for each other in a circle\n") != std::string::npos);
  CHECK(
      std::regex_search(text.body, std::regex("\nthread \\d+ \"first\" waits for mutex 0x[0-9a-f]+, held by "
                                              "thread \\d+ \"second\"\n#\t0x")));
  CHECK(std::regex_search(text.body,
                          std::regex("\n#\t0x[0-9a-f]+\ttakes_a_then_b\\+0x[0-9a-f]+\t[^\n]*deadlocks\n")));
  // It stays one, and asking changes nothing.
  for (int i = 0; i < 5; ++i) CHECK(report_of(victim)["cycles"].size() == 1);
}

TEST_CASE("a program that tries whether there are filters is seen to wait as any other") {
  Victim victim("deadlocks", {"probed"});
  check_abba(report_of(victim), false);
}

TEST_CASE("a deadlock that ends by a time limit says so") {
  Victim victim("deadlocks", {"timed"});
  check_abba(report_of(victim), true);
  CHECK(victim.get(kText).body.find("\"second\" (with a time limit)\n") != std::string::npos);
}

TEST_CASE("a deadlock is found although its threads are interrupted") {
  Victim victim("deadlocks", {"signals"});
  // A look that meets a handler finds nothing; the next one may.
  REQUIRE(eventually([&] { return report_of(victim)["cycles"].size() == 1; }));
}

TEST_CASE("a circle of a mutex, a read-write lock and a join, and one more behind it") {
  Victim victim("deadlocks", {"three"});
  const Json report = report_of(victim);
  REQUIRE(report["cycles"].size() == 1);
  const Json& threads = report["cycles"][0]["threads"];
  REQUIRE(threads.size() == 3);
  check_circle(threads);
  CHECK(report["cycles"][0]["behind"] == 1);
  CHECK(thread_in(threads, "first")["waits_for"]["kind"] == "rwlock");
  CHECK(thread_in(threads, "second")["waits_for"]["kind"] == "join");
  CHECK(thread_in(threads, "third")["waits_for"]["kind"] == "mutex");
  CHECK(has_frame(thread_in(threads, "first"), "waits_for_door"));
  CHECK(has_frame(thread_in(threads, "second"), "joins_third"));
  CHECK(has_frame(thread_in(threads, "third"), "third_takes_a"));
  CHECK(report["chains"].empty());
  CHECK(victim.get(kText).body.find("waits for the end of thread ") != std::string::npos);
}

TEST_CASE("a thread that locks a mutex twice waits for itself") {
  Victim victim("deadlocks", {"self"});
  const Json report = report_of(victim);
  REQUIRE(report["cycles"].size() == 1);
  REQUIRE(report["cycles"][0]["threads"].size() == 1);
  check_circle(report["cycles"][0]["threads"]);
  CHECK(has_frame(report["cycles"][0]["threads"][0], "locks_twice"));
  CHECK(victim.get(kText).body.find("deadlock: a thread waits for itself\n") != std::string::npos);
}

TEST_CASE("the mutex that a condition's waiter wants again is seen") {
  Victim victim("deadlocks", {"condition"});
  // Who was woken is on its way to the mutex.
  REQUIRE(eventually([&] { return report_of(victim)["cycles"].size() == 1; }));
  const Json report = report_of(victim);
  const Json& threads = report["cycles"][0]["threads"];
  REQUIRE(threads.size() == 2);
  check_circle(threads);
  CHECK(thread_in(threads, "first")["waits_for"]["kind"] == "mutex");
  CHECK(has_frame(thread_in(threads, "first"), "waits_for_bell"));
  CHECK(has_frame(thread_in(threads, "second"), "rings_bell"));
}

TEST_CASE("a long chain is no deadlock, and shows who holds up all") {
  Victim victim("deadlocks", {"chain", "300"});
  const Json report = report_of(victim);
  CHECK(report["deadlock"] == false);
  CHECK(report["cycles"].empty());
  CHECK(report["abandoned_locks"].empty());
  REQUIRE(report["chains"].size() == 1);
  const Json& chain = report["chains"][0];
  CHECK(chain["behind"] == 299);
  const Json& threads = chain["threads"];
  REQUIRE(threads.size() == 20);
  CHECK(threads[0]["holder"]["tid"] == chain["head"]["tid"]);
  for (std::size_t i = 1; i < threads.size(); ++i)
    CHECK(threads[i]["holder"]["tid"] == threads[i - 1]["tid"]);
  for (const Json& thread : threads) CHECK(has_frame(thread, "is_link"));
  const std::string text = victim.get(kText).body;
  CHECK(text.rfind("no deadlock\n", 0) == 0);
  CHECK(text.find("299 threads wait for thread ") != std::string::npos);
}

TEST_CASE("a mutex whose holder has ended") {
  Victim victim("deadlocks", {"dead"});
  // The kernel's list shows the other thread for a moment longer.
  REQUIRE(eventually([&] { return report_of(victim)["abandoned_locks"].size() == 1; }));
  const Json report = report_of(victim);
  CHECK(report["deadlock"] == true);
  CHECK(report["cycles"].empty());
  CHECK(report["chains"].empty());
  REQUIRE(report["abandoned_locks"][0]["threads"].size() == 1);
  CHECK(report["abandoned_locks"][0]["threads"][0]["name"] == "first");
  CHECK(has_frame(report["abandoned_locks"][0]["threads"][0], "waits_for_dead"));
  CHECK(victim.get(kText).body.rfind("0 deadlocks, 1 lock of threads that have ended\n", 0) == 0);
}

TEST_CASE("a mutex that another thread had when the process was forked") {
  Victim victim("deadlocks", {"fork"});
  REQUIRE(victim.process().wait_for_output("child "));
  std::smatch match;
  const std::string out = victim.process().out();
  REQUIRE(std::regex_search(out, match, std::regex("child (\\d+)\n")));
  const std::string path = victim.socket_path();
  const Address address =
      Address::unix_socket(path.substr(0, path.rfind('/') + 1) + match[1].str() + ".sock");
  REQUIRE(eventually([&] { return can_connect(address); }));
  const Json report = report_of(address);
  REQUIRE(report["abandoned_locks"].size() == 1);
  CHECK(has_frame(report["abandoned_locks"][0]["threads"][0], "waits_for_dead"));
  CHECK(report_of(victim)["deadlock"] == false);
}

TEST_CASE("who reads is not known, so that this deadlock is not seen") {
  Victim victim("deadlocks", {"readers"});
  const Json report = report_of(victim);
  CHECK(report["cycles"].empty());
  // But who holds up whom is, as far as it is known.
  REQUIRE(report["chains"].size() == 1);
  CHECK(report["chains"][0]["head"]["name"] == "second");
}

TEST_CASE("a program without locks has no deadlock") {
  Victim victim("simple");
  const Response answer = victim.get(kText);
  CHECK(answer.status == 200);
  CHECK(answer.body == "no deadlock\n\n");
  CHECK(report_of(victim)["deadlock"] == false);
}

// The threads that cross wait for each other in turns: seen at different moments that is a circle. (What
// makes sure of it is shown in test/unit/lock_waits_test.cc, where nothing is left to chance.)
TEST_CASE("in heavy traffic there is never a deadlock") {
  Victim victim("lock_traffic", {"6"});
  int requests = 0;
  int chains = 0;
  while (victim.process().out().find("traffic over\n") == std::string::npos) {
    const Json report = report_of(victim);
    CAPTURE(report.dump());
    REQUIRE(report["cycles"].empty());
    REQUIRE(report["abandoned_locks"].empty());
    if (!report["chains"].empty()) ++chains;
    ++requests;
  }
  CHECK(requests > 0);
  INFO(requests << " requests");
  CHECK(chains > 0);
  CHECK(report_of(victim)["chains"].empty());
}
