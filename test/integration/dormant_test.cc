// A single-threaded program has no thread of ours before somebody asks, and does not notice when one comes or
// goes.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <thread>
#include <utility>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

std::size_t thread_count(pid_t pid) {
  const std::filesystem::directory_iterator tasks("/proc/" + std::to_string(pid) + "/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

// Without the connection by which a Victim otherwise finds out that it is served: nobody has asked yet.
constexpr VictimOptions kNotAsked = {.serves = false};

bool handles_signal(pid_t pid, int number) {
  const std::string status = read_text("/proc/" + std::to_string(pid) + "/status");
  const std::string caught = status.substr(status.find("SigCgt:") + 7, 32);
  return ((std::stoull(caught, nullptr, 16) >> (number - 1)) & 1) != 0;
}

}  // namespace

TEST_CASE("a sleep goes on after the first client has come", "[D3][H1]") {
  Victim victim("perl", {"-e", "$| = 1; print sleep 3"});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(thread_count(victim.process().pid()) == 2);
  const Outcome outcome = victim.finish();
  // Whole seconds of the wall clock; a sleep that was cut short would say 0 or 1. That none is longer is seen
  // in threads_test, beside a program that nobody asks.
  CHECK(std::stoi(outcome.out) >= 3);
}

TEST_CASE("a program that only waits for signals is reachable and goes on waiting", "[D1][H1]") {
  const std::pair<const char*, const char*> kWaits[] = {{"pause", "34 "},
                                                        {"sigsuspend(POSIX::SigSet->new)", "130 "}};
  for (const auto& [wait, system_call] : kWaits) {
    CAPTURE(wait);
    Victim victim(
        "perl",
        {"-e", std::string("use POSIX; $| = 1; $SIG{USR1} = sub { print 'asked ' }; print 'waits '; ") +
                   wait + "; print 'woken'"},
        {}, kNotAsked);
    const std::string shown = "/proc/" + std::to_string(victim.process().pid()) + "/syscall";
    const auto waits = [&, number = system_call] { return read_text(shown).find(number) == 0; };
    REQUIRE(victim.process().wait_for_output("waits "));
    REQUIRE(eventually(waits));
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    CHECK(thread_count(victim.process().pid()) == 2);
    CHECK(eventually(waits));
    CHECK(victim.process().out() == "waits ");
    victim.process().signal(SIGUSR1);
    CHECK(victim.finish().out == "waits asked woken");
  }
}

TEST_CASE("our thread makes way for a call that wants the process to have one thread only", "[G3]") {
  // unshare(CLONE_VM): the system call itself fails beside another thread, the function ends ours first.
  Victim victim("/usr/bin/python3", {"-c",
                                     "import ctypes, sys\n"
                                     "libc = ctypes.CDLL(None)\n"
                                     "print('ready', flush=True)\n"
                                     "sys.stdin.readline()\n"
                                     "print(libc.syscall(272, 0x100), libc.unshare(0x100), flush=True)\n"
                                     "sys.stdin.readline()\n"});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().tell("go");
  CHECK(victim.process().wait_for_output("-1 0\n"));
  // And it is back for the next one who asks.
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().close_input();
  CHECK(victim.finish().ok());
}

TEST_CASE("a program that changes its rights and then only waits is woken again", "[G1][H1]") {
  Victim victim("drop_rights");
  for (int round = 0; round < 3; ++round) {
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    CHECK(thread_count(victim.process().pid()) == 2);
    victim.command("drop");
    CHECK(thread_count(victim.process().pid()) == 1);
  }
  CHECK(victim.get("/debug/pprof/heap").status == 200);
}

TEST_CASE("no thread that is made meanwhile brings ours back while rights change", "[G1][G3]") {
  Victim victim("rights_storm", {}, {}, {.preload = "@ " + victim_path("librights_watch.so")});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.command("storm");
  CHECK(victim.process().out() == "ready\ndone\n");
  // And it is not kept out for ever.
  for (int i = 0; i < 3; ++i) CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(victim.finish().ok());
}

// It allows a few system calls, none of which is ours; the return from a signal handler is not among them. At
// "all" the thread that goes on has not installed it.
TEST_CASE("a program that forbids itself all but its own system calls never sees us again", "[G4]") {
  const bool was_asked = GENERATE(false, true);
  const std::string way = GENERATE("filter", "raw", "twice", "all");
  CAPTURE(was_asked, way);
  Victim victim("sandboxed");
  if (was_asked) CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.command("refused");
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.command("child");
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.command(way);
  Connection client(victim.tcp_address());
  client.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n");
  for (int i = 0; i < 3; ++i) victim.command("allocate");
  CHECK_FALSE(client.has_input());
  CHECK(victim.finish().ok());
}

TEST_CASE("our thread ends before a filter for all that comes from under another one", "[G4]") {
  Victim victim("sandboxed");
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().tell("again");
  REQUIRE(victim.process().wait_for_output("back "));
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().tell("now");
  REQUIRE(victim.process().wait_for_output("done\n"));
  Connection next(victim.tcp_address());
  next.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n");
  for (int i = 0; i < 3; ++i) victim.command("allocate");
  CHECK_FALSE(next.has_input());
  CHECK(victim.finish().ok());
}

TEST_CASE("what was ours is given up under a filter without a question to the kernel", "[G4]") {
  const std::string command = GENERATE("signals", "close", "fork");
  const bool was_profiled = GENERATE(false, true);
  CAPTURE(command, was_profiled);
  Victim victim("sandboxed");
  // Takes both signals, fills the caches.
  if (was_profiled) {
    CHECK(victim.get("/debug/pprof/profile?seconds=1").status == 200);
    CHECK(victim.get("/debug/pprof/goroutine").status == 200);
  }
  victim.command(command);
  const Outcome outcome = victim.finish();
  CHECK(outcome.ok());
  CHECK(outcome.out == "ready\ndone\n");
}

// The signal of a client goes to the main thread first, which may not even return from its handler.
TEST_CASE("no signal is sent to a program one of whose threads is under a filter", "[G4]") {
  const bool was_asked = GENERATE(false, true);
  CAPTURE(was_asked);
  Victim victim("sandboxed");
  if (was_asked) CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.command("beside");
  Connection client(victim.tcp_address());
  client.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n");
  for (int i = 0; i < 3; ++i) victim.command("allocate");
  CHECK(victim.finish().ok());
}

TEST_CASE("a thread that one under a system call filter has made asks nothing either", "[G4]") {
  Victim victim("sandboxed");
  Connection client(victim.tcp_address());
  client.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n");
  REQUIRE(eventually([&] { return client.has_input(); }));
  // Our thread has gone, and somebody waits for it to come back.
  Connection next(victim.tcp_address());
  next.send("GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n");
  victim.command("maker");
  CHECK(victim.finish().ok());
}

TEST_CASE("our thread reads the clock although the thread that made it must not", "[G4]") {
  Victim victim("no_counter", {"first"}, {}, kNotAsked);
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(victim.get("/debug/pprof/profile?seconds=1").status == 200);
  CHECK(victim.finish().ok());
}

TEST_CASE("a program that handles SIGURG itself is woken by another signal", "[D4][H1]") {
  for (const char* how : {"sigaction", "signal"}) {
    CAPTURE(how);
    Victim victim("own_urg", {how}, {}, kNotAsked);
    const pid_t pid = victim.process().pid();
    CHECK(handles_signal(pid, SIGCONT));
    CHECK(thread_count(pid) == 1);
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    victim.command("count");
    CHECK(victim.process().wait_for_output("handled 0 done\n"));
    // Its own signal is its own, beside our thread, too.
    victim.process().signal(SIGURG);
    CHECK(eventually([&] {
      victim.command("count");
      return victim.process().out().find("handled 1 done\n") != std::string::npos;
    }));
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    victim.command("count");
    CHECK(victim.process().out().find("handled 2 ") == std::string::npos);
    CHECK(victim.finish().ok());
  }
}

// A minute without clients, see kIdleSeconds in agent/serving.cc.
TEST_CASE("our thread leaves a single-threaded program whose clients are gone, and comes back",
          "[H1][.long]") {
  Victim victim("own_urg", {}, {}, kNotAsked);
  Victim with_threads("pingpong");
  const auto threads = [](Victim& program) { return thread_count(program.process().pid()); };
  CHECK(threads(victim) == 1);
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(with_threads.get("/debug/pprof/heap").status == 200);
  CHECK(threads(victim) == 2);
  const std::size_t all = threads(with_threads);
  std::this_thread::sleep_for(std::chrono::seconds(45));
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  // The last client counts, not the first.
  std::this_thread::sleep_for(std::chrono::seconds(45));
  CHECK(threads(victim) == 2);
  CHECK(eventually([&] { return threads(victim) == 1; }));
  // A program that makes threads itself loses nothing by ours: it stays.
  CHECK(threads(with_threads) == all);
  for (int round = 0; round < 2; ++round) {
    CHECK(victim.get("/debug/pprof/heap").status == 200);
    CHECK(threads(victim) == 2);
  }
  CHECK(victim.finish().ok());
}
