// /debug/pprof/wall: where all threads spend their time. The victims measure their own truth, and what is
// compared is time with time, so it does not matter how busy the machine is.
//
// The statistics. A thread that changes its place is found where it was, and where it is now, by two looks;
// the time between is divided in the middle. With looks T apart on the average, at random in their periods,
// the error of one change has a standard deviation of T / sqrt(8), that of n changes sqrt(n) times as much.
// Windows are added until that is half a point; two points are allowed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <regex>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::string kWall = "/debug/pprof/wall?seconds=";

std::int64_t nanos_of(const std::vector<Sample>& samples) {
  return std::accumulate(samples.begin(), samples.end(), std::int64_t{0},
                         [](std::int64_t sum, const Sample& sample) { return sum + sample.values.at(1); });
}

std::vector<Sample> of_thread(const Profile& profile, const std::string& name) {
  std::vector<Sample> result;
  for (const Sample& sample : profile.samples())
    if (sample.labels.count("thread") == 1 && sample.labels.at("thread") == name) result.push_back(sample);
  return result;
}

bool is_obstacle(const Sample& sample) {
  return sample.stack[0].name.rfind("[running: ", 0) == 0;
}

// What every wall profile has to obey; what it does not, in words.
std::vector<std::string> broken_wall_rules(const Profile& profile) {
  std::vector<std::string> broken;
  const auto demand = [&](bool holds, const std::string& rule) {
    if (!holds) broken.push_back(rule);
  };
  const auto& message = profile.message();
  demand(profile.types() == std::vector<std::string>{"samples/count", "wall/nanoseconds"}, "types");
  demand(profile.text(message.period_type().type()) == "wall", "type of the period");
  demand(profile.text(message.period_type().unit()) == "nanoseconds", "unit of the period");
  demand(profile.text(message.default_sample_type()) == "wall", "default type");
  demand(message.period() > 0 && message.duration_nanos() > 0 && message.time_nanos() > 0, "times");
  for (const Sample& sample : profile.samples()) {
    const std::string key = sample.key();
    demand(sample.values[0] >= 0 && sample.values[1] > 0, "a sample of nothing: " + key);
    demand(!sample.stack.empty(), "no stack: " + key);
    demand(sample.labels.count("state") == 1, "no state: " + key);
    for (const Frame& frame : sample.stack) {
      // What the program's threads run in our hooks is their time.
      const bool is_ours = frame.mapping.find("libprofagent") != std::string::npos;
      demand(!is_ours || sample.labels.at("state") == "running", "a frame of ours: " + key);
    }
  }
  return broken;
}

const std::vector<std::string> kNone;

// ns, by the numeric label.
std::map<std::int64_t, std::int64_t> nanos_by_tid(const Profile& profile) {
  std::map<std::int64_t, std::int64_t> result;
  for (const Sample& sample : profile.samples()) result[sample.numbers.at("tid")] += sample.values[1];
  return result;
}

// How often each thread was looked at.
double rounds_of(const Profile& profile) {
  static const std::regex text("every thread was looked at (\\d+) times");
  std::smatch match;
  for (const std::string& comment : profile.comments())
    if (std::regex_match(comment, match, text)) return std::stod(match[1]);
  return 1;
}

// The CPU time that the agent's thread has used, ns.
std::int64_t cost(Victim& victim) {
  const std::string folder = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  for (const pid_t tid : threads_of(victim.process().pid())) {
    const std::string task = folder + std::to_string(tid);
    if (read_text(task + "/comm") == "profagent\n") return std::stoll(read_text(task + "/schedstat"));
  }
  return 0;
}

bool is_running(Victim& victim) {
  return victim.get("/debug/pprof/").body.find("<li>wall: running</li>") != std::string::npos;
}

}  // namespace

TEST_CASE("a wall profile has the form of fgprof's, under both of its paths") {
  Victim victim("stands");
  const Response answer = victim.get(kWall + "1");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/octet-stream");
  CHECK(answer.header("content-disposition") == "attachment; filename=\"wall\"");
  const Profile profile = Profile::parse(answer.body);
  CHECK(broken_wall_rules(profile) == kNone);
  CHECK(profile.message().period() == 10000000);
  CHECK(profile.message().duration_nanos() >= kSecond * 99 / 100);
  CHECK_FALSE(profile.samples().empty());
  CHECK(broken_wall_rules(victim.profile("/debug/fgprof?seconds=1")) == kNone);
}

TEST_CASE("every thread is charged with the whole time, where it stands and why") {
  Victim victim("stands", {"--burn"});
  const Profile profile = victim.profile(kWall + "2&tids=1");
  CHECK(broken_wall_rules(profile) == kNone);
  // All but the agent's own.
  const auto by_tid = nanos_by_tid(profile);
  CHECK(by_tid.size() == threads_of(victim.process().pid()).size() - 1);
  for (const auto& [tid, nanos] : by_tid) {
    CAPTURE(tid);
    CHECK(nanos == profile.message().duration_nanos());
  }
  const std::string tasks = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  for (const Sample& sample : profile.samples())
    CHECK(read_text(tasks + std::to_string(sample.numbers.at("tid")) + "/comm") ==
          sample.labels.at("thread") + "\n");
  const std::int64_t each = profile.message().duration_nanos();
  for (const auto& [function, threads, state] : std::vector<std::tuple<std::string, int, std::string>>{
           {"f1", 10, "io"}, {"f2", 50, "semaphore"}, {"f3", 40, "mutex"}}) {
    CAPTURE(function);
    CHECK(nanos_of(profile.in(function)) == threads * each);
    for (const Sample& sample : profile.in(function)) CHECK(sample.labels.at("state") == state);
  }
  for (const Sample& sample : of_thread(profile, "burner")) CHECK(sample.labels.at("state") == "running");
  for (const Sample& sample : of_thread(profile, "masked"))
    CHECK(sample.stack.at(0).name == "[running: signal blocked]");
}

TEST_CASE("without tids one sample stands for all threads of a name in a place") {
  Victim victim("stands");
  const Profile profile = victim.profile(kWall + "1");
  const std::vector<Sample> standers = profile.in("f2");
  CHECK(standers.size() == 1);
  CHECK(nanos_of(standers) == 50 * profile.message().duration_nanos());
  CHECK(standers.at(0).numbers.empty());
}

// A thread that runs and gets no processor to answer with has no stack: that time may belong to any of the
// functions. On a busy machine there are fewer looks, so it takes longer until chance is small.
TEST_CASE("shares of running, sleep and lock are true") {
  Victim victim("wall_shares");
  victim.command("work");
  std::map<std::string, double> truth, seen;
  double unanswered = 0;
  double total = 0;
  double rounds = 0;
  const auto deviation = [&] {
    constexpr double kWorkers = 3;
    constexpr double kMeanTurn = 0.13 * kSecond;
    const double between = total / kWorkers / rounds;
    return between * std::sqrt(total / kMeanTurn / 8) / total;
  };
  for (int run = 0; run < 10 && (run == 0 || deviation() > 0.005); ++run) {
    const Profile profile = victim.profile(kWall + "12");
    CHECK(broken_wall_rules(profile) == kNone);
    victim.command("window " + std::to_string(begin_of(profile)) + " " + std::to_string(end_of(profile)));
    std::istringstream line(last_line(victim.process(), "functions"));
    const std::vector<Sample> workers = of_thread(profile, "worker");
    CHECK(nanos_of(workers) == 3 * profile.message().duration_nanos());
    total += static_cast<double>(nanos_of(workers));
    rounds += rounds_of(profile);
    for (const std::string function : {"runs", "sleeps", "locks"}) {
      double spent = 0;
      line >> spent;
      truth[function] += spent;
      seen[function] += static_cast<double>(nanos_of(profile.in(function)));
    }
    for (const Sample& sample : workers) {
      unanswered += is_obstacle(sample) ? static_cast<double>(sample.values[1]) : 0;
      const std::string& state = sample.labels.at("state");
      CAPTURE(sample.key());
      if (sample.has("sleeps") && state != "running") CHECK(state == "sleep");
      // A futex' when another thread was faster at a mutex that looked free (hooks/sync_locks.cc).
      if (sample.has("locks") && state != "running") CHECK((state == "mutex" || state == "futex"));
      if (sample.has("runs")) CHECK(state == "running");
    }
  }
  CAPTURE(total, rounds, unanswered);
  CHECK(unanswered < 0.5 * truth["runs"]);
  for (const auto& [function, spent] : truth) {
    CAPTURE(function, spent, seen[function]);
    CHECK(spent > seen[function] - 0.02 * total);
    CHECK(spent < seen[function] + unanswered + 0.02 * total);
  }
}

TEST_CASE("threads that are born and end in the window count for their lives") {
  Victim victim("wall_shares");
  InBackground waiting(victim, kWall + "10");
  REQUIRE(eventually([&] { return is_running(victim); }));
  victim.command("live 48 300");
  const Profile profile = waiting.profile();
  CHECK(broken_wall_rules(profile) == kNone);
  const auto lived = std::stod(last_line(victim.process(), "lived"));
  const auto seen = static_cast<double>(nanos_of(profile.in("lives")));
  CAPTURE(lived, seen);
  CHECK(std::abs(seen - lived) < 0.1 * lived);
  for (const Sample& sample : profile.in("lives"))
    if (sample.has("clock_nanosleep")) CHECK(sample.labels.at("thread") == "brief");
}

TEST_CASE("threads that live shorter than a period are seen as often as they should be") {
  Victim victim("wall_shares");
  InBackground waiting(victim, kWall + "10");
  REQUIRE(eventually([&] { return is_running(victim); }));
  victim.command("live 4000 4");
  const Profile profile = waiting.profile();
  CHECK(broken_wall_rules(profile) == kNone);
  const auto lived = std::stod(last_line(victim.process(), "lived"));
  // Those that are gone by the time that they are looked at have no name.
  std::int64_t seen = nanos_of(of_thread(profile, "brief"));
  for (const Sample& sample : profile.samples())
    seen += sample.labels.count("thread") == 0 ? sample.values[1] : 0;
  CAPTURE(lived, seen);
  CHECK(static_cast<double>(seen) > 0.7 * lived);
  CHECK(static_cast<double>(seen) < 1.5 * lived);
}

TEST_CASE("a thousand idle threads cost a hundredth of a processor, and no time is missing", "[F16]") {
  Victim victim("stands", {"--idle", "900"});
  REQUIRE(eventually([&] { return victim.profile("/debug/pprof/goroutine").in("f2").size() == 1; }));
  const auto threads = static_cast<std::int64_t>(threads_of(victim.process().pid()).size()) - 1;
  REQUIRE(threads > 1000);
  const std::int64_t before = cost(victim);
  const Profile profile = victim.profile(kWall + "10");
  const std::int64_t used = cost(victim) - before;
  CAPTURE(used);
  CHECK(used > 0);
  // A hundredth, and room for a machine on which everything costs three times as much.
  CHECK(used < profile.message().duration_nanos() * 3 / 100);
  CHECK(profile.total("wall").all() == threads * profile.message().duration_nanos());
  CHECK(nanos_of(profile.in("f2")) == 950 * profile.message().duration_nanos());
  for (const Sample& sample : profile.in("f2")) CHECK(sample.labels.at("state") == "semaphore");
  // Looked at again and again all the same.
  CHECK(profile.in("f2").at(0).values[0] > 5 * 950);
}

TEST_CASE("no wait is interrupted or shortened, no transfer cut, under a wall profile", "[D1][D2]") {
  Victim victim("cpu_waits");
  const Profile profile = victim.profile(kWall + "8&hz=1000");
  CHECK(broken_wall_rules(profile) == kNone);
  std::map<bool, std::int64_t> looks;
  for (const Sample& sample : profile.in("wait_often"))
    looks[sample.labels.at("state") == "running"] += sample.values[0];
  CHECK(looks[false] > 100);
  CHECK(looks[true] > 10);
  victim.command("report");
  std::istringstream lines(victim.process().out());
  std::string ready, name;
  lines >> ready;
  std::size_t kinds = 0;
  for (unsigned long rounds = 0, interrupted = 0, early = 0, other = 0;
       lines >> name >> rounds >> interrupted >> early >> other; ++kinds) {
    CAPTURE(name);
    CHECK(rounds > 0);
    CHECK(interrupted == 0);
    CHECK(early == 0);
    CHECK(other == 0);
  }
  CHECK(kinds == 22);
  CHECK(victim.finish().ok());
}

TEST_CASE("the rate of a wall profile, and what is no rate") {
  Victim victim("stands");
  for (const auto& [hertz, period] :
       std::vector<std::pair<std::string, std::int64_t>>{{"1", 1000000000}, {"1000", 1000000}}) {
    CAPTURE(hertz);
    const Profile profile = victim.profile(kWall + "1&hz=" + hertz);
    CHECK(profile.message().period() == period);
    CHECK(broken_wall_rules(profile) == kNone);
    CHECK(nanos_of(profile.in("f2")) == 50 * profile.message().duration_nanos());
  }
  for (const char* hertz : {"0", "1001", "-5", "abc", "1.5", "99999999999999999999"}) {
    CAPTURE(hertz);
    const Response refused = victim.get(kWall + "1&hz=" + hertz);
    CHECK(refused.status == 400);
    CHECK(refused.header("x-go-pprof") == "1");
    CHECK(refused.body.find("hz") != std::string::npos);
  }
}

TEST_CASE("two wall profiles at the same time have each their own window") {
  Victim victim("wall_shares");
  victim.command("work");
  InBackground longer(victim, kWall + "3");
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  const Profile shorter = victim.profile(kWall + "1&hz=1000&tids=1");
  const Profile whole = longer.profile();
  CHECK(whole.message().period() == 10000000);
  CHECK(shorter.message().period() == 1000000);
  CHECK(begin_of(shorter) >= begin_of(whole));
  CHECK(end_of(shorter) <= end_of(whole));
  for (const Profile& profile : {whole, shorter}) {
    CHECK(broken_wall_rules(profile) == kNone);
    const std::int64_t sum = nanos_of(of_thread(profile, "worker"));
    CHECK(sum == 3 * profile.message().duration_nanos());
  }
}

TEST_CASE("a client that leaves ends the wall profile, and the next one gets its own") {
  Victim victim("stands", {"--burn"});
  Connection connection(victim.unix_address());
  connection.send(to_bytes({.target = kWall + "30"}));
  REQUIRE(eventually([&] { return is_running(victim); }));
  connection.abort();
  CHECK(eventually([&] { return !is_running(victim); }, std::chrono::seconds(5)));
  if (timer_count(victim.process().pid()) >= 0) CHECK(timer_count(victim.process().pid()) == 0);
  const Profile next = victim.profile(kWall + "1");
  CHECK(broken_wall_rules(next) == kNone);
  CHECK(nanos_of(next.in("f2")) == 50 * next.message().duration_nanos());
}

TEST_CASE("what is no number of seconds means thirty, for a wall profile too") {
  Victim victim("stands");
  std::vector<std::unique_ptr<Connection>> waiting;
  for (const char* path : {"/debug/pprof/wall", "/debug/fgprof?seconds=abc", "/debug/pprof/wall?seconds=0"}) {
    waiting.push_back(std::make_unique<Connection>(victim.unix_address()));
    waiting.back()->send(to_bytes({.target = path}));
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  for (const auto& connection : waiting) CHECK_FALSE(connection->has_input());
  CHECK(victim.get("/debug/pprof/wall?seconds=3601").status == 400);
}
