// /debug/pprof/goroutine: where all threads stand. G01-G08 of the conformance table.
#include <algorithm>
#include <chrono>
#include <map>
#include <regex>
#include <sstream>
#include <thread>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const char* const kThreads = "/debug/pprof/goroutine";

// All of one process, but the agent's own.
std::int64_t thread_count(Victim& victim) {
  return static_cast<std::int64_t>(threads_of(victim.process().pid()).size()) - 1;
}

std::vector<std::string> names_of(const Sample& sample) {
  std::vector<std::string> names;
  for (const Frame& frame : sample.stack) names.push_back(frame.name);
  return names;
}

bool is_before(const std::vector<std::string>& names, const std::string& first, const std::string& second) {
  const auto at = std::find(names.begin(), names.end(), first);
  return at != names.end() && std::find(at, names.end(), second) != names.end();
}

// "50 40 10", and how many samples they are.
std::string standers(const Profile& profile) {
  std::ostringstream text;
  const Total total = profile.total("goroutine");
  text << total.in("f2") << ' ' << total.in("f3") << ' ' << total.in("f1") << " in "
       << profile.in("f1").size() + profile.in("f2").size() + profile.in("f3").size();
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A number in kB from /proc/PID/status.
std::int64_t kilobytes(Victim& victim, const std::string& name) {
  return std::stoll(status_line("/proc/" + std::to_string(victim.process().pid()) + "/status", name));
}

}  // namespace

TEST_CASE("a threads profile has Go's form, and every thread in it", "[G01]") {
  Victim victim("stands");
  const Response answer = victim.get(kThreads);
  CHECK(answer.status == 200);
  CHECK(answer.header("content-disposition") == "attachment; filename=\"goroutine\"");
  const Profile profile = Profile::parse(answer.body);
  CHECK(profile.types() == std::vector<std::string>{"goroutine/count"});
  CHECK(profile.text(profile.message().period_type().type()) == "goroutine");
  CHECK(profile.text(profile.message().period_type().unit()) == "count");
  CHECK(profile.message().period() == 1);
  CHECK(profile.message().duration_nanos() == 0);
  CHECK(profile.total("goroutine").all() == thread_count(victim));
  CHECK(Profile::parse(victim.get("/debug/pprof/threads").body).total("goroutine").all() ==
        thread_count(victim));
}

TEST_CASE("50, 40 and 10 threads are three samples, while others come and go", "[G02]") {
  Victim victim("stands", {"--churn"});
  CHECK(standers(victim.profile(kThreads)) == "50 40 10 in 3");
  std::map<std::string, int> seen;
  for (int i = 0; i < 1000; ++i) ++seen[standers(victim.profile(kThreads))];
  CHECK(seen == std::map<std::string, int>{{"50 40 10 in 3", 1000}});
}

TEST_CASE("each thread is where it is, and says why", "[G02][G06]") {
  Victim victim("stands", {"--burn"});
  const Profile profile = victim.profile(kThreads);
  const auto only = [&](const std::string& name) {
    const std::vector<Sample> samples = profile.of_thread(name);
    CAPTURE(name);
    REQUIRE(samples.size() == 1);
    return samples[0];
  };
  for (const auto& [function, state] :
       std::map<std::string, std::string>{{"f1", "io"}, {"f2", "semaphore"}, {"f3", "mutex"}}) {
    CAPTURE(function);
    const Sample sample = profile.in(function).at(0);
    CHECK(sample.labels.at("state") == state);
    CHECK(sample.stack.size() > 3);
    CHECK(is_before(names_of(sample), function, "start_thread"));
    for (const Frame& frame : sample.stack) CHECK(frame.mapping.find("libprofagent") == std::string::npos);
  }
  CHECK(is_before(names_of(only("unhooked")), "write", "waits_unhooked"));
  CHECK(is_before(names_of(only("unhooked")), "waits_unhooked", "start_thread"));
  CHECK(only("unhooked").labels.at("state") == "io");
  // The handler's wait and the one that it came upon.
  CHECK(is_before(names_of(only("handles")), "in_handler", "waits_in_handler"));
  CHECK(only("handles").labels.at("state") == "sleep");
  // Its wait site is that of the wait that it has left.
  CHECK(is_before(names_of(only("jumped")), "jumped", "start_thread"));
  CHECK_FALSE(only("jumped").has("leaves"));
  CHECK(only("jumped").labels.at("state") == "io");
  CHECK(is_before(names_of(only("holder")), "main", "_start"));
  CHECK(names_of(only("masked")) == std::vector<std::string>{"[running: signal blocked]"});
  CHECK(only("masked").labels.at("state") == "running");
}

TEST_CASE("a running thread says where it is", "[G01]") {
  Victim victim("stands", {"--burn"});
  // It has 20 ms for its answer, which a busy machine may not give it.
  const bool answers = eventually([&] {
    const Profile profile = victim.profile(kThreads);
    const std::vector<Sample> samples = profile.of_thread("burner");
    if (samples.size() != 1 || samples[0].labels.at("state") != "running") return false;
    return names_of(samples[0]).at(0) == "burns" && samples[0].has("start_thread");
  });
  CHECK(answers);
}

TEST_CASE("the text counts, sorts, and tells the labels", "[G03][G08]") {
  Victim victim("stands", {"--burn"});
  const Response answer = victim.get("/debug/pprof/goroutine?debug=1");
  CHECK(answer.header("content-type") == "text/plain; charset=utf-8");
  const std::vector<std::string> lines = lines_of(answer.body);
  CHECK(lines.at(0) == "goroutine profile: total " + std::to_string(thread_count(victim)));
  static const std::regex record("(\\d+) @(?: 0x[0-9a-f]+)+");
  std::vector<int> counts;
  for (std::size_t i = 0; i + 1 < lines.size() && lines[i] != "--- Memory map: ---"; ++i) {
    if (lines[i].find(" @") == std::string::npos) continue;
    CAPTURE(lines[i]);
    std::smatch match;
    REQUIRE(std::regex_match(lines[i], match, record));
    counts.push_back(std::stoi(match[1]));
    static const std::regex labels(R"(# labels: \{"state":"[a-z]+", "thread":"[a-z]+"\})");
    CHECK(std::regex_match(lines[i + 1], labels));
  }
  CHECK(counts.size() >= 3);
  CHECK(std::is_sorted(counts.rbegin(), counts.rend()));
  CHECK(counts.at(0) == 50);
  CHECK(counts.at(1) == 40);
  CHECK(counts.at(2) == 10);
  CHECK(answer.body.find("[running: signal blocked]") != std::string::npos);
}

TEST_CASE("two clients at the same time while threads come and go", "[G04]") {
  Victim victim("stands", {"--churn"});
  const auto ask = [&](std::vector<std::string>& wrong) {
    for (int i = 0; i < 500; ++i) {
      try {
        const Profile profile = victim.profile(kThreads);
        if (standers(profile) != "50 40 10 in 3") wrong.push_back(standers(profile));
      } catch (const std::exception& error) {
        wrong.emplace_back(error.what());
      }
    }
  };
  std::vector<std::string> first, second;
  std::thread other([&] { ask(first); });
  ask(second);
  other.join();
  CHECK(first == std::vector<std::string>{});
  CHECK(second == std::vector<std::string>{});
  CHECK(victim.process().running());
}

TEST_CASE("debug=2 is a dump as of Go's goroutines", "[G05]") {
  Victim victim("stands");
  const std::vector<std::string> lines = lines_of(victim.get("/debug/pprof/goroutine?debug=2").body);
  static const std::regex head(R"(goroutine (\d+) \[([^,\]]+)(?:, (\d+) minutes)?\]:)");
  std::map<std::string, int> states;
  std::size_t at = 0;
  while (at < lines.size() && lines[at].rfind("goroutine ", 0) == 0) {
    std::smatch match;
    CAPTURE(lines[at]);
    REQUIRE(std::regex_match(lines[at], match, head));
    if (states.empty()) CHECK(match[2] == "running");
    ++states[match[2]];
    ++at;
    std::size_t frames = 0;
    for (; at + 1 < lines.size() && !lines[at].empty(); at += 2, ++frames) {
      CAPTURE(lines[at], lines[at + 1]);
      CHECK(std::regex_match(lines[at], std::regex(R"(.+\((\.\.\.|0x[0-9a-f]+)\))")));
      CHECK(std::regex_match(lines[at + 1], std::regex(R"(\t.+:\d+ \+0x[0-9a-f]+)")));
    }
    CHECK(frames > 0);
    ++at;
  }
  int records = 0;
  for (const auto& [state, count] : states) records += count;
  // And our own thread.
  CHECK(records == thread_count(victim) + 1);
  CHECK(states["sync.Mutex.Lock"] == 40);
  CHECK(states["semacquire"] == 50);
  CHECK(states["IO wait"] >= 10);
  // Behind them who waits for what.
  static const std::regex waits(R"(# \d+ "stander": mutex (0x[0-9a-f]+), held by (\d+) "holder")");
  int waiting = 0;
  for (; at < lines.size(); ++at) {
    CHECK(lines[at].rfind("# ", 0) == 0);
    std::smatch match;
    if (!std::regex_match(lines[at], match, waits)) continue;
    ++waiting;
    CHECK(match[2] == std::to_string(victim.process().pid()));
  }
  CHECK(waiting == 40);
}

TEST_CASE("no wait is interrupted or shortened, no transfer cut, at 50 snapshots a second", "[D1][D2][D3]") {
  Victim victim("cpu_waits");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(8);
  std::int64_t waiting = 0;
  std::int64_t running = 0;
  // Until both kinds of threads were looked at; on a busy machine few of those that run have a stack.
  const auto take_snapshot = [&] {
    const Profile profile = victim.profile(kThreads);
    for (const Sample& sample : profile.in("wait_often"))
      ++(sample.labels.at("state") == "running" ? running : waiting);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return std::chrono::steady_clock::now() > end && waiting > 10 && running > 10;
  };
  if (!eventually(take_snapshot)) WARN("few looks: " << waiting << " waiting, " << running << " running");
  CHECK(waiting > 0);
  CHECK(running > 0);
  CHECK(harmed_waits(victim) == std::vector<std::string>());
  CHECK(victim.finish().ok());
}

TEST_CASE("what counts harmed waits notices a signal in each of them but one", "[D1][D2]") {
  Victim victim("cpu_waits");
  // Under way, all of them.
  REQUIRE(eventually([&] { return harmed_waits(victim).empty(); }));
  victim.command("disturb");
  // A condition's wait goes on after a signal.
  CHECK(harmed_waits(victim).size() == kCountedWaits - 1);
}

// Beside one that nobody asks, as a machine may stop for a while.
TEST_CASE("a sleep under snapshots is as long as without", "[D3]") {
  const Arguments sleeps = {"-e", "$| = 1; for (1 .. 3) { my $r = sleep 1; print \"slept $r\\n\" }"};
  Arguments alone = {"perl"};
  alone.insert(alone.end(), sleeps.begin(), sleeps.end());
  Process control(alone, {});
  Victim victim("perl", sleeps);
  while (victim.process().running()) {
    try {
      static_cast<void>(victim.get(kThreads));
    } catch (const std::exception&) {
      break;  // it has ended
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto longest = [](const Outcome& outcome) {
    CAPTURE(outcome.out);
    REQUIRE(std::regex_match(outcome.out, std::regex("(slept [1-9]\n){3}")));
    char most = '0';
    for (const char c : outcome.out)
      if (c > most && c <= '9') most = c;
    return most - '0';
  };
  // perl counts in whole seconds of the clock.
  CHECK(longest(victim.finish()) <= longest(control.finish()) + 1);
}

TEST_CASE("a hundred threads that block all signals are listed, and receive none", "[D7][G06]") {
  Victim victim("blocked_signals", {"many"});
  std::size_t listed = 0;
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 20; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const Profile profile = victim.profile(kThreads);
    fastest = std::min(fastest, std::chrono::steady_clock::now() - begin);
    listed = 0;
    for (const Sample& sample : profile.samples())
      listed += sample.labels.at("thread").rfind("blocked-", 0) == 0 ? 1 : 0;
    CHECK(listed == 100);
  }
  CHECK(fastest < std::chrono::seconds(1));
  victim.command("report");
  CHECK(last_line(victim.process(), "received") == "0, last 0");
}

TEST_CASE("a wait of more than a minute is shown as one, and a thread that runs now and then has none",
          "[G05][.long]") {
  Victim victim("stands", {"--churn"});
  const auto minutes = [&] {
    std::map<std::string, int> by_state;
    static const std::regex head(R"(goroutine \d+ \[([^,\]]+), (\d+) minutes\]:)");
    for (const std::string& line : lines_of(victim.get("/debug/pprof/goroutine?debug=2").body)) {
      std::smatch match;
      if (std::regex_match(line, match, head) && match[2] == "1") ++by_state[match[1]];
    }
    return by_state;
  };
  CHECK(minutes().empty());
  std::this_thread::sleep_for(std::chrono::seconds(61));
  const auto after = minutes();
  CHECK(after.at("sync.Mutex.Lock") == 40);
  CHECK(after.at("semacquire") == 50);
  // In the handler; those that create threads sleep between.
  CHECK(after.at("sleep") == 1);
}

TEST_CASE("three hundred execs while threads are asked, and none is killed", "[D8]") {
  const TempDir dir;
  const Outcome outcome = run({victim_path("cpu_execs"), dir.path(), "300", "threads"},
                              agent_environment(dir.path()), {}, std::chrono::seconds(200));
  CAPTURE(outcome.exit_code, outcome.signal, outcome.timed_out, outcome.err);
  CHECK(outcome.out == "survived\n");
  CHECK(outcome.ok());
}

TEST_CASE("the main thread has ended", "[F14]") {
  Victim victim("main_gone");
  const Profile profile = victim.profile(kThreads);
  CHECK(profile.total("goroutine").all() == 2);
  CHECK(profile.total("goroutine").in("go_on") == 1);
  CHECK(profile.total("goroutine").in("[ended]") == 1);
}

TEST_CASE("ten thousand threads in two seconds and 16 MiB", "[F16]") {
  Victim victim("stands", {"--idle", "9900"});
  const std::int64_t before = kilobytes(victim, "VmRSS");
  if (thread_count(victim) < 10000) {
    WARN("this machine has no room for so many threads");
    return;
  }
  // The last ones are still on their way.
  REQUIRE(eventually([&] { return victim.profile(kThreads).in("f2").size() == 1; }));
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const Profile profile = victim.profile(kThreads);
    fastest = std::min(fastest, std::chrono::steady_clock::now() - begin);
    CHECK(profile.total("goroutine").in("f2") == 9950);
    CHECK(profile.in("f2").size() == 1);
  }
  CHECK(fastest < std::chrono::seconds(2));
  CHECK(victim.get("/debug/pprof/goroutine?debug=2").status == 200);
  CHECK(kilobytes(victim, "VmHWM") - before < 16 << 10);
}

TEST_CASE("other requests are answered while many threads are looked at", "[F16]") {
  Victim victim("stands", {"--idle", "1900"});
  CHECK(eventually([&] {
    const std::int64_t before = agent_number(victim, "requests");
    Connection snapshot(victim.unix_address());
    snapshot.send(to_bytes({.target = kThreads}));
    // It has been begun before the first of these questions, which are all answered before it. One alone
    // could come between the looking and the answer.
    const bool has_begun = agent_number(victim, "requests") == before + 2;
    for (int more = 0; more < 2; ++more) static_cast<void>(agent_number(victim, "requests"));
    return has_begun && !snapshot.has_input();
  }));
}

TEST_CASE("a process that has given up its rights shows what its own slots tell", "[G6]") {
  if (geteuid() != 0) {
    WARN("needs root");
    return;
  }
  Victim victim("stands");
  victim.command("nobody");
  const Profile profile = victim.profile(kThreads);
  CHECK(profile.total("goroutine").all() == thread_count(victim));
  CHECK(standers(profile) == "50 40 10 in 3");
  for (const Sample& sample : profile.in("f3")) CHECK(sample.labels.at("state") == "mutex");
  CHECK(profile.of_thread("jumped").size() == 1);
  CHECK_FALSE(profile.of_thread("jumped").at(0).has("waits_in_handler"));
}

TEST_CASE("a process without /proc shows what its own slots tell", "[G5]") {
  if (geteuid() != 0) {
    WARN("needs root");
    return;
  }
  const TempDir empty;
  Victim victim("stands", {empty.path()});
  victim.command("chroot");
  const Profile profile = victim.profile(kThreads);
  // Names of functions are in files, which cannot be opened either.
  std::map<std::string, std::int64_t> states;
  for (const Sample& sample : profile.samples()) {
    states[sample.labels.at("state")] += sample.values[0];
    if (sample.labels.at("state") != "unknown") CHECK(sample.stack.size() > 2);
  }
  CHECK(states["semaphore"] == 50);
  CHECK(states["mutex"] == 40);
  CHECK(states["io"] == 11);
}
