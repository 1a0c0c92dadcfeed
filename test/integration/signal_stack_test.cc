// Alternate signal stacks without room for a signal: the kernel ends a process whose thread is to take one
// there. So nothing of ours may send one, whatever it is for, and in whatever moment the stack comes.
#include <atomic>
#include <csignal>
#include <future>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// Without the connection by which a Victim otherwise finds out that it is served: nobody has asked yet.
class NotAsked : public Victim {
 public:
  NotAsked() : Victim("signal_stacks", {}, {}, {.serves = false}) {
    REQUIRE(process().wait_for_output("ready\n"));
    CHECK(thread_count() == 1);
  }
  std::size_t thread_count() { return threads_of(process().pid()).size(); }
  bool is_served() { return get("/debug/pprof/heap").status == 200 && process().running(); }
};

// The status of the answer to a client whose signal is pending.
std::future<int> ask_while_blocked(Victim& victim) {
  victim.command("pending");
  auto answer = std::async(std::launch::async, [&] { return victim.get("/debug/pprof/heap").status; });
  const std::string status = "/proc/" + std::to_string(victim.process().pid()) + "/status";
  REQUIRE(eventually([&] { return std::stoull(status_line(status, "ShdPnd"), nullptr, 16) != 0; }));
  return answer;
}

// Some kernels are built to refuse a stack that has no room.
bool is_refused(Victim& victim) {
  if (victim.process().out().find("refused") == std::string::npos) return false;
  WARN("not tried: the kernel refuses small alternate stacks");
  return true;
}

// The last that the victim has said it has.
pid_t child_of(Victim& victim) {
  REQUIRE(eventually([&] { return !last_line(victim.process(), "child").empty(); }));
  return std::stoi(last_line(victim.process(), "child"));
}

Address address_of_child(Victim& victim) {
  const std::string path = victim.socket_path();
  return Address::unix_socket(path.substr(0, path.rfind('/') + 1) + std::to_string(child_of(victim)) +
                              ".sock");
}

}  // namespace

TEST_CASE("the first client does not end a program of one thread", "[fault D13][H1]") {
  for (const char* way : {"small", "raw"}) {
    CAPTURE(way);
    NotAsked victim;
    victim.command(way);
    if (is_refused(victim)) return;
    // No signal tells of clients any more, so there is a thread before the first one comes.
    CHECK(eventually([&] { return victim.thread_count() == 2; }));
    CHECK(victim.is_served());
  }
}

TEST_CASE("a large alternate stack changes nothing", "[fault D13][H1]") {
  NotAsked victim;
  victim.command("large");
  CHECK(victim.thread_count() == 1);
  CHECK(victim.is_served());
}

TEST_CASE("a stack that was small only for a moment leaves the program reachable", "[fault D13]") {
  NotAsked victim;
  victim.command("quietly");
  CHECK(victim.thread_count() == 1);
  CHECK(victim.is_served());
}

TEST_CASE("a client that came before the stack, while its signal was blocked", "[fault D13]") {
  NotAsked victim;
  auto answer = ask_while_blocked(victim);
  victim.command("small");
  victim.command("unblock");
  CHECK(answer.get() == 200);
  CHECK(victim.is_served());
}

TEST_CASE("a client's signal that is still pending when there is a thread already", "[fault D13]") {
  NotAsked victim;
  auto answer = ask_while_blocked(victim);
  victim.command("brief 1");
  CHECK(answer.get() == 200);
  victim.command("small");
  victim.command("unblock");
  CHECK(victim.is_served());
}

TEST_CASE("a handler that the program has set past us stays", "[fault D13]") {
  NotAsked victim;
  victim.command("handler");
  victim.command("small");
  victim.command("large");
  REQUIRE(kill(victim.process().pid(), SIGURG) == 0);
  CHECK(eventually([&] { return answer_to(victim, "report") == "handled"; }));
}

TEST_CASE("somebody else's signal is ignored as ever", "[fault D13]") {
  NotAsked victim;
  victim.command("small");
  for (const int number : {SIGURG, SIGCONT}) {
    REQUIRE(kill(victim.process().pid(), number) == 0);
    victim.command("again");
    CHECK(victim.process().running());
  }
  CHECK(victim.is_served());
}

TEST_CASE("a child that shares our memory has a stack of its own", "[fault D13][F2]") {
  NotAsked victim;
  victim.command("small");
  victim.command("vfork");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=2&hz=1000");
  victim.command("spin");
  CHECK(broken_rules(waiting.profile()) == kNone);
  CHECK(victim.is_served());
}

TEST_CASE("a child that shares our memory moves no signal of ours", "[D5][F2]") {
  Victim victim("signal_stacks");
  victim.command("vfork handler");
  auto spinning = std::async(std::launch::async, [&] { victim.command("spin"); });
  bool is_seen = false;
  while (!is_seen && spinning.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    is_seen = !victim.profile("/debug/pprof/goroutine").in("obey").empty();
  CHECK(is_seen);
}

TEST_CASE("the child of a fork has its parent's stack", "[fault D13][F3]") {
  Victim victim("signal_stacks");
  victim.command("small");
  if (is_refused(victim)) return;
  victim.command("fork");
  // It has our thread before anybody asks, and is not ended by the first who does.
  REQUIRE(eventually([&] { return threads_of(child_of(victim)).size() == 2; }));
  for (int i = 0; i < 3; ++i) CHECK(http_get(address_of_child(victim), "/debug/pprof/heap").status == 200);
}

TEST_CASE("a program that has closed our descriptors does not get a thread again and again",
          "[fault D13][F8]") {
  NotAsked victim;
  victim.command("close");
  victim.command("small");
  victim.command("allocate");
  // The child has copied the number, and has descriptors of its own.
  victim.command("fork");
  REQUIRE(eventually([&] { return can_connect(address_of_child(victim)); }));
  const std::int64_t starts = agent_number(address_of_child(victim), "service_starts");
  CHECK(starts >= 1);
  CHECK(starts < 5);
}

TEST_CASE("after more threads than the registry has room for", "[fault D13]") {
  Victim victim("signal_stacks");
  victim.command("brief 33000");
  victim.command("thread");
  if (is_refused(victim)) return;
  const auto profile = [&] { return victim.profile("/debug/pprof/profile?seconds=1&hz=1000"); };
  for (int i = 0; i < 2; ++i) CHECK(not_sampled_by_thread(profile()).count("stays") == 1);
  CHECK(victim.process().running());
  // It may have a slot by then.
  victim.command("no longer");
  CHECK(eventually([&] { return nanos_in(profile(), "stay_small") > 0; }));
}

// Profiles begin and end, so that timers are made all the time, and running threads are asked where they are.
TEST_CASE("a stack that becomes small in the middle of anything", "[fault D13][D10]") {
  Victim victim("signal_stacks");
  victim.command("change");
  std::atomic<bool> stop = false;
  auto snapshots = std::async(std::launch::async, [&] {
    int answers = 0;
    for (; !stop; ++answers)
      if (victim.get("/debug/pprof/goroutine?debug=1").status != 200) return 0;
    return answers;
  });
  // Which asks them one by one.
  auto wall = std::async(std::launch::async,
                         [&] { return victim.get("/debug/pprof/wall?seconds=3&hz=1000").status; });
  const pid_t pid = victim.process().pid();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (victim.process().running() && std::chrono::steady_clock::now() < end) {
    CHECK_NOTHROW(abort_a_profile(victim, "/debug/pprof/profile?seconds=30&hz=1000"));
    // Otherwise too many connections are open, and no timer is made.
    REQUIRE(eventually([&] { return cpu_timer_count(pid) <= 0; }));
  }
  stop = true;
  CHECK(snapshots.get() > 0);
  CHECK(wall.get() == 200);
  CHECK(victim.process().running());
}

TEST_CASE("time under stacks that come and go is charged once", "[fault D13]") {
  Victim victim("signal_stacks");
  victim.command("change");
  const CpuMeter meter(victim.process().pid());
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=4&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(nanos_in(profile, "change_often") > 0);
  const double used = meter.used_in(profile);
  const auto charged = static_cast<double>(profile.total("cpu").all());
  // As in cpu_accuracy_test, for two threads.
  CHECK(std::abs(charged - used) <= std::max(0.02 * used, untold(profile)) + 2 * meter.doubt_in(profile));
}
