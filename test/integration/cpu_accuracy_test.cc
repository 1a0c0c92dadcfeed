// Is the CPU profile true? A program (test/victims/cpu_shares.c) that keeps its own exact account is asked,
// after each profile, what it used in that very window.
//
// The statistics. A signal comes at a tick of the kernel, and the functions take turns much faster than it
// ticks, at random: n signals are n independent draws. A function with share p is seen with a standard
// deviation of sigma = sqrt(p (1 - p) / n). n is the number of signals, not of periods: at 1000 Hz one signal
// stands for several. The bound on the mean over R runs is sigma of a single run. The mean's own deviation is
// sigma / sqrt(R), so with R = 20 a true profiler fails at 4.47 standard deviations: 8e-6 for each function.
//
// Totals are no matter of chance. A thread's charge lags behind its clock by less than a period and a tick,
// and begins with a random part of a period in hand.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <ctime>
#include <numeric>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

constexpr std::size_t kFunctions = 10;
constexpr std::int64_t kLongestTick = kSecond / 100;

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

// What a number of runs say together.
class Runs {
 public:
  void add(const Profile& profile, const Truth& truth, double signals) {
    const auto all = static_cast<double>(profile.total("cpu").all());
    ++count_;
    profiled_ += all;
    used_ += truth.total();
    for (std::size_t i = 0; i < kFunctions; ++i) {
      const double share = truth.functions[i] / truth.total();
      const double seen = static_cast<double>(nanos_in(profile, "share_" + std::to_string(i + 1))) / all;
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
    CHECK(std::abs(profiled_ - used_) <= 0.02 * used_);
  }

 private:
  double count_ = 0;
  double profiled_ = 0;
  double used_ = 0;
  double errors_[kFunctions] = {};
  double variances_[kFunctions] = {};
};

void check_truth(Victim& victim, const std::string& hertz, int runs, const std::string& seconds) {
  CAPTURE(hertz);
  Runs all;
  for (int run = 0; run < runs; ++run) {
    const std::int64_t before = agent_number(victim, "cpu_samples");
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=" + seconds + "&hz=" + hertz);
    const std::int64_t signals = agent_number(victim, "cpu_samples") - before;
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

TEST_CASE("all rates and numbers of threads, with longer windows", "[P04][P05][D16][.long]") {
  for (const char* threads : {"1", "2", "8"}) {
    CAPTURE(threads);
    Victim victim("cpu_shares", {"--threads", threads});
    for (const char* hertz : {"100", "1000"}) check_truth(victim, hertz, 20, "3");
  }
}

// Equal or not, as the kernel's scheduler pleases: each thread's charge is what its clock says.
TEST_CASE("each of eight threads on few processors is charged with its own time", "[P05][D17]") {
  Victim victim("cpu_shares", {"--threads", "8", "--each"});
  for (const std::string hertz : {"100", "1000"}) {
    CAPTURE(hertz);
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=3&hz=" + hertz);
    const Truth truth = truth_of(victim, profile);
    auto charged = nanos_by_thread(profile);
    for (std::size_t i = 0; i < 8; ++i) {
      const std::string number = std::to_string(i + 1);
      CAPTURE(number);
      const auto bound = static_cast<double>(profile.message().period() + 2 * kLongestTick);
      CHECK(std::abs(static_cast<double>(charged["share-" + number]) - truth.threads[i]) <= bound);
      for (const Sample& sample : profile.in("share_" + number))
        CHECK(sample.labels.at("thread") == "share-" + number);
    }
  }
}

// A signal can only come at a tick, and then stands for a tick or a period, whichever is longer: a thread
// that lives for a fortieth of that must be charged with all of it, one time out of forty. n such signals
// have a standard deviation of sqrt(n); the bound is six times that.
TEST_CASE("threads that live much shorter than a tick are charged, in sum, with what they used",
          "[D15][D23]") {
  timespec tick{};
  clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
  const std::pair<std::string, std::string> choices[] = {
      {"1000", "run 10000 100"}, {"100", "run 10000 100"}, {"1000", "run 1500 1000"}};
  for (const auto& [hertz, command] : choices) {
    CAPTURE(hertz, command);
    Victim victim("brief_threads");
    const CpuMeter meter(victim.process().pid());
    InBackground waiting(victim, "/debug/pprof/profile?seconds=4&hz=" + hertz);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    victim.command(command);
    const Profile profile = waiting.profile();
    CHECK(broken_rules(profile) == std::vector<std::string>());
    const double used = meter.used_in(profile);
    REQUIRE(used > kSecond / 4.0);
    const double grain =
        static_cast<double>(std::max<std::int64_t>(tick.tv_nsec, profile.message().period()));
    CHECK(std::abs(static_cast<double>(profile.total("cpu").all()) - used) <=
          6 * grain * std::sqrt(used / grain));
  }
}

TEST_CASE("the main thread's end changes nothing", "[F14]") {
  Victim victim("cpu_shares", {"--threads", "2", "--each", "--main-leaves"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=2&hz=1000");
  const Truth truth = truth_of(victim, profile);
  const auto used = static_cast<double>(profile.total("cpu").all());
  CHECK(std::abs(used - truth.total()) <= 0.02 * truth.total());
  CHECK(nanos_in(profile, "share_1") > 0);
  CHECK(nanos_in(profile, "share_2") > 0);
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
  const Truth truth = truth_of(victim, profile);
  const auto used = static_cast<double>(profile.total("cpu").all());
  CHECK(std::abs(used - truth.total()) <= 0.02 * truth.total());
  CHECK(profile.total("cpu").all() < profile.message().duration_nanos() - 2 * kSecond);
}
