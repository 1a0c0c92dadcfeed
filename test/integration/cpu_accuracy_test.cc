// Is the CPU profile true? A program (test/victims/cpu_shares.c) that keeps its own exact account is asked,
// after each profile, what it used in that very window.
//
// The statistics. A signal comes at a tick of the kernel, and the functions take turns much faster than it
// ticks, at random: n signals are n independent draws. A function with share p is seen with a standard
// deviation of sigma = sqrt(p (1 - p) / n). n is the number of signals, not of periods: at 1000 Hz one signal
// stands for several. The bound on the mean over R runs is sigma of a single run. The mean's own deviation is
// sigma / sqrt(R), so with R = 20 a true profiler fails at 4.47 standard deviations: 8e-6 for each function.
//
// Totals are no matter of chance. What no sample covers is shown as such, if it is more than 2 % of a window
// and more than two periods and two ticks (untold(); docs/limits.md). The latter is more than 2 %
// where others have the processors for much of the time.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <numeric>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

constexpr std::size_t kFunctions = 10;

std::vector<double> numbers_in(const std::string& line) {
  std::istringstream words(line);
  std::vector<double> result;
  for (double number = 0; words >> number;) result.push_back(number);
  return result;
}

struct Truth {
  std::vector<double> functions;  // ns
  std::vector<double> threads;
  [[nodiscard]] double total() const { return std::accumulate(functions.begin(), functions.end(), 0.0); }
};

Truth truth_of(Victim& victim, const Profile& profile) {
  victim.command("window " + std::to_string(begin_of(profile)) + " " + std::to_string(end_of(profile)));
  return {numbers_in(last_line(victim.process(), "functions")),
          numbers_in(last_line(victim.process(), "threads"))};
}

void check_total(const Profile& profile, double used, double doubt = 0) {
  CHECK(std::abs(static_cast<double>(profile.total("cpu").all()) - used) <=
        std::max(0.02 * used, untold(profile)) + doubt);
}

// What a number of runs say together.
class Runs {
 public:
  void add(const Profile& profile, const Truth& truth, double signals) {
    const auto sampled = static_cast<double>(sampled_nanos(profile));
    ++count_;
    profiled_ += static_cast<double>(profile.total("cpu").all());
    sampled_ += sampled;
    used_ += truth.total();
    untold_ += untold(profile);
    for (std::size_t i = 0; i < kFunctions; ++i) {
      const double share = truth.functions[i] / truth.total();
      const double seen = static_cast<double>(nanos_in(profile, "share_" + std::to_string(i + 1))) / sampled;
      errors_[i] += seen - share;
      variances_[i] += share * (1 - share) / signals;
    }
  }
  void check() const {
    for (std::size_t i = 0; i < kFunctions; ++i) {
      CAPTURE(i + 1, errors_[i] / count_, count_);
      CHECK(std::abs(errors_[i]) / count_ <= std::sqrt(variances_[i] / count_));
    }
    CAPTURE(profiled_, used_);
    CAPTURE(sampled_);
    CHECK(std::abs(profiled_ - used_) <= std::max(0.02 * used_, untold_));
    // The rest is what threads had used since their last samples; that is most of it only when something is
    // wrong.
    CHECK(sampled_ > 0.5 * used_);
  }

 private:
  double count_ = 0;
  double profiled_ = 0;
  double used_ = 0;
  double untold_ = 0;
  double sampled_ = 0;
  double errors_[kFunctions] = {};
  double variances_[kFunctions] = {};
};

void check_truth(Victim& victim, const std::string& hertz, int runs, const std::string& seconds) {
  CAPTURE(hertz);
  Runs all;
  // On a machine that has no time for us a run may be without samples. It says nothing; how many do is
  // bounded.
  for (int run = 0, silent = 0; run < runs; ++run) {
    const std::int64_t before = agent_number(victim, "cpu_samples");
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=" + seconds + "&hz=" + hertz);
    const std::int64_t signals = agent_number(victim, "cpu_samples") - before;
    if (signals == 0 && ++silent <= runs) {
      --run;
      continue;
    }
    REQUIRE(signals > 0);
    all.add(profile, truth_of(victim, profile), static_cast<double>(signals));
  }
  all.check();
}

}  // namespace

TEST_CASE("one thread: shares and total are true", "[P04]") {
  Victim victim("cpu_shares", {"--threads", "1"});
  check_truth(victim, "100", 20, "1");
}

TEST_CASE("as many threads as processors, faster than the kernel ticks: shares and total are true",
          "[P05][D16]") {
  Victim victim("cpu_shares", {"--threads", "2"});
  check_truth(victim, "1000", 20, "1");
}

TEST_CASE("more threads than processors: shares and total are true", "[P05][D17]") {
  Victim victim("cpu_shares", {"--threads", "8"});
  check_truth(victim, "100", 20, "1");
}

TEST_CASE("the other rates with the other numbers of threads, and longer", "[P04][P05][D16][.long]") {
  for (const auto& [threads, hertz] : {std::pair("1", "1000"), {"2", "100"}, {"8", "1000"}}) {
    CAPTURE(threads);
    Victim victim("cpu_shares", {"--threads", threads});
    check_truth(victim, hertz, 20, "2");
  }
}

// Equal or not, as the kernel's scheduler pleases: no thread is charged with more than its clock says, nor
// with another's work, and what is missing is shown. (Much can be missing in a thread: the scheduler's own
// short slices may keep in step with the ticks, so that some threads hardly ever meet one.)
TEST_CASE("each of eight threads on few processors is charged with its own time", "[P05][D17]") {
  Victim victim("cpu_shares", {"--threads", "8", "--each"});
  for (const std::string hertz : {"100", "1000"}) {
    CAPTURE(hertz);
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=3&hz=" + hertz);
    const Truth truth = truth_of(victim, profile);
    auto charged = nanos_by_thread(profile);
    std::size_t seen = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::string number = std::to_string(i + 1);
      CAPTURE(number, charged["share-" + number], truth.threads[i]);
      CHECK(charged["share-" + number] > 0);
      CHECK(static_cast<double>(charged["share-" + number]) <=
            truth.threads[i] + static_cast<double>(profile.message().period() + 2 * kLongestTick));
      for (const Sample& sample : profile.in("share_" + number)) {
        CHECK(sample.labels.at("thread") == "share-" + number);
        ++seen;
      }
    }
    CHECK(seen > 0);
    check_total(profile, truth.total());
  }
}

// A signal can only come at a tick. Most of these threads never see one, but their time is not lost.
TEST_CASE("threads that live much shorter than a tick are in the total", "[D15][D23]") {
  const std::pair<std::string, std::string> choices[] = {
      {"1000", "run 10000 100"}, {"100", "run 10000 100"}, {"1000", "run 1500 1000"}};
  for (const auto& [hertz, command] : choices) {
    CAPTURE(hertz, command);
    Victim victim("brief_threads");
    const CpuMeter meter(victim.process().pid());
    InBackground waiting(victim, "/debug/pprof/profile?seconds=4&hz=" + hertz);
    REQUIRE(wait_until_profiled(victim));
    victim.command(command);
    const Profile profile = waiting.profile();
    CHECK(broken_rules(profile) == std::vector<std::string>());
    check_total(profile, meter.used_in(profile), meter.doubt_in(profile));
  }
}

TEST_CASE("the main thread's end changes nothing", "[F14]") {
  Victim victim("cpu_shares", {"--threads", "2", "--each", "--main-leaves"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=4&hz=1000");
  check_total(profile, truth_of(victim, profile).total());
  auto charged = nanos_by_thread(profile);
  CHECK(charged["share-1"] > 0);
  CHECK(charged["share-2"] > 0);
  CHECK(sampled_nanos(profile) > 0);
}

TEST_CASE("a stopped process has no CPU time, and no burst of signals after", "[D24]") {
  Victim victim("cpu_shares");
  InBackground waiting(victim, "/debug/pprof/profile?seconds=5&hz=1000");
  const auto pause = [](int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  };
  pause(1000);
  victim.process().signal(SIGSTOP);
  pause(3000);
  victim.process().signal(SIGCONT);
  const Profile profile = waiting.profile();
  check_total(profile, truth_of(victim, profile).total());
  CHECK(profile.total("cpu").all() < profile.message().duration_nanos() - 2 * kSecond);
}
