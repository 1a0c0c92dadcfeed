// How true the times of /debug/pprof/wall are, and what they cost. The victims measure their own truth.
//
// The statistics. A thread that changes its place is found where it was, and where it is now, by two looks;
// the time between is divided in the middle. With looks T apart on the average, at random in their periods,
// the error of one change has a standard deviation of T / sqrt(8), that of n changes sqrt(n) times as much.
//
// Looks that are due while our thread has no processor come when the program needs fewer of them. When a
// thread changes its place in between, up to half of what the look is late goes to the wrong one. The workers
// do so every 80 ms, so of looks that are 32 ms late, a fifth of what they are late; later ones are rare.
#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/wall.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

bool is_obstacle(const Sample& sample) {
  return sample.stack[0].name.rfind("[running: ", 0) == 0;
}

// Three workers run, sleep and wait for a lock. What they have done, and what the profiles say. A thread that
// runs and gets no processor to answer with has no stack: that time may belong to any of the functions.
class Shares {
 public:
  Shares() : victim_("wall_shares") { victim_.command("work"); }

  void add_window(const std::string& seconds) {
    const Profile profile = victim_.profile(kWall + seconds);
    CHECK(broken_wall_rules(profile) == kNone);
    victim_.command("window " + std::to_string(begin_of(profile)) + " " + std::to_string(end_of(profile)));
    std::istringstream line(last_line(victim_.process(), "functions"));
    const std::vector<Sample> workers = profile.of_thread("worker");
    CHECK(wall_nanos(workers) == kWorkers * profile.message().duration_nanos());
    total_ += static_cast<double>(wall_nanos(workers));
    rounds_ += static_cast<double>(rounds_of(profile));
    late_ += static_cast<double>(late_of(profile) * 1000000 * kWorkers);
    for (const char* function : {"runs", "sleeps", "locks"}) {
      double spent = 0;
      line >> spent;
      truth_[function] += spent;
      seen_[function] += static_cast<double>(wall_nanos(profile.in(function)));
    }
    for (const Sample& sample : workers) {
      unanswered_ += is_obstacle(sample) ? static_cast<double>(sample.values[1]) : 0;
      check_state(sample);
    }
  }

  // Of the share of one function.
  [[nodiscard]] double deviation() const {
    constexpr double kMeanTurn = 0.05 * kSecond;
    const double between = total_ / kWorkers / rounds_;
    return between * std::sqrt(total_ / kMeanTurn / 8) / total_;
  }

  [[nodiscard]] double unanswered() const { return unanswered_ / total_; }

  void check(double allowed) {
    CAPTURE(total_, rounds_, unanswered_, late_);
    CHECK(seen_["runs"] > 0);
    const double error = allowed * total_ + late_ / 5;
    for (const auto& [function, spent] : truth_) {
      CAPTURE(function, spent, seen_[function]);
      CHECK(spent > seen_[function] - error);
      CHECK(spent < seen_[function] + unanswered_ + error);
    }
  }

 private:
  static constexpr int kWorkers = 3;

  static void check_state(const Sample& sample) {
    const std::string& state = sample.labels.at("state");
    CAPTURE(sample.key());
    if (sample.has("sleeps") && state != "running") CHECK(state == "sleep");
    if (sample.has("locks") && state != "running") CHECK(state == "mutex");
    if (sample.has("runs")) CHECK(state == "running");
  }

  Victim victim_;
  std::map<std::string, double> truth_, seen_;
  double unanswered_ = 0;
  double late_ = 0;
  double total_ = 0;
  double rounds_ = 0;
};

// The CPU time that the agent's thread has used, ns.
std::int64_t cost(Victim& victim) {
  const std::string folder = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  for (const pid_t tid : threads_of(victim.process().pid())) {
    const std::string task = folder + std::to_string(tid);
    if (read_text(task + "/comm") == "profagent\n") return std::stoll(read_text(task + "/schedstat"));
  }
  return 0;
}

}  // namespace

TEST_CASE("shares of running, sleep and lock are true") {
  Shares shares;
  shares.add_window("6");
  // On a busy machine there are fewer looks, so it takes longer until chance is small.
  for (int more = 0; more < 4 && shares.deviation() > 0.01; ++more) shares.add_window("3");
  shares.check(0.03);
}

TEST_CASE("shares are true to a point and a half when there is time", "[.long]") {
  Shares shares;
  shares.add_window("30");
  for (int more = 0; more < 8 && shares.deviation() > 0.003; ++more) shares.add_window("20");
  shares.check(0.015);
  CHECK(shares.unanswered() < 0.25);
}

TEST_CASE("threads that are born and end in the window count for their lives") {
  Victim victim("wall_shares");
  InBackground waiting(victim, kWall + "6");
  REQUIRE(eventually([&] { return takes_wall(victim); }));
  victim.command("live 32 800");
  const Profile profile = waiting.profile();
  CHECK(broken_wall_rules(profile) == kNone);
  const auto lived = std::stod(last_line(victim.process(), "lived"));
  const auto seen = static_cast<double>(wall_nanos(profile.in("lives")));
  CAPTURE(lived, seen);
  CHECK(std::abs(seen - lived) < 0.1 * lived);
  for (const Sample& sample : profile.in("lives"))
    if (sample.has("clock_nanosleep")) CHECK(sample.labels.at("thread") == "brief");
}

// Sixteen at a time, which are seen all or none: by chance, so it takes many.
TEST_CASE("threads that live shorter than a period are seen as often as they should be", "[.long]") {
  Victim victim("wall_shares");
  InBackground waiting(victim, kWall + "20");
  REQUIRE(eventually([&] { return takes_wall(victim); }));
  victim.command("live 16000 4");
  const Profile profile = waiting.profile();
  CHECK(broken_wall_rules(profile) == kNone);
  const auto lived = std::stod(last_line(victim.process(), "lived"));
  // Those that are gone by the time that they are looked at have no name.
  std::int64_t seen = wall_nanos(profile.of_thread("brief"));
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
  std::int64_t fixed = 0;  // what a profile of any length costs: the first looks, and the writing
  std::int64_t used = 0;
  std::int64_t longer = 0;
  const auto measure = [&] {
    const std::int64_t before = cost(victim);
    const Profile brief = victim.profile(kWall + "1");
    fixed = cost(victim) - before;
    Profile profile = victim.profile(kWall + "6");
    used = cost(victim) - before - fixed;
    longer = profile.message().duration_nanos() - brief.message().duration_nanos();
    return profile;
  };
  Profile profile = measure();
  // On a busy machine the brief one may last longer than the other, which says nothing then.
  for (int i = 0; i < 4 && longer < 4 * kSecond; ++i) profile = measure();
  CAPTURE(fixed, used, longer);
  REQUIRE(longer >= 4 * kSecond);
  CHECK(fixed > 0);
  // A hundredth, and as much again where the same costs more at one time than at another.
  CHECK(used - fixed < longer * 2 / 100);
  CHECK(profile.total("wall").all() == threads * profile.message().duration_nanos());
  CHECK(wall_nanos(profile.in("f2")) == 950 * profile.message().duration_nanos());
  for (const Sample& sample : profile.in("f2")) CHECK(sample.labels.at("state") == "semaphore");
  // And not only at first, though the first looks are paid for out of the same hundredth: where they cost
  // more, it takes longer.
  const auto looks_at_f2 = [](const Profile& taken) { return taken.in("f2").at(0).values[0]; };
  CHECK((looks_at_f2(profile) > 950 || looks_at_f2(victim.profile(kWall + "25")) > 950));
}
