// The mathematics of heap sampling: an allocation of n bytes is sampled with probability 1 - exp(-n / rate),
// whatever happened before. The random sequences are fixed, so a run gives the same figures each time; the
// bound of 4.5 standard deviations would be missed by chance in one of 150,000 choices of the seed.
#include "agent/safe/sampling.h"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "agent/safe/counters.h"
#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/random.h"
#include "agent/safe/thread_state.h"
#include "hooks/memory.h"

namespace {

std::uint64_t recorded = 0;
std::size_t recorded_bytes = 0;

}  // namespace

namespace profagent::hooks {

// In the place of the one in hooks/memory.cc, which brings the program's malloc with it.
void record_allocation(void*, std::size_t size, const safe::StartFrame& caller) noexcept {
  const safe::SafeSection section(caller.sp);
  if (!section) return safe::heap_recorder.pass_over(size);
  if (safe::heap_recorder.wants(size) == 0) return;
  ++recorded;
  recorded_bytes += size;
}

}  // namespace profagent::hooks

namespace profagent::safe {
namespace {

constexpr double kMaxDeviation = 4.5;

void become_new_thread(std::uint64_t seed) {
  thread_state = {};
  thread_state.random = seed * 0x9e3779b97f4a7c15ULL | 1;
}

// What the hooks do: the rate at which it is sampled, 0 when it is not.
std::uint64_t allocate(std::size_t size) {
  return HeapRecorder::is_due(size) ? heap_recorder.wants(size) : 0;
}

double probability(std::size_t size, std::uint64_t rate) {
  return rate == 1 ? 1 : -std::expm1(-static_cast<double>(size) / static_cast<double>(rate));
}

// In standard deviations of a binomial distribution.
double deviation(std::uint64_t hits, std::uint64_t tries, double p) {
  const auto n = static_cast<double>(tries);
  return (static_cast<double>(hits) - n * p) / std::sqrt(n * p * (1 - p));
}

void check_probability(std::uint64_t hits, std::uint64_t tries, std::size_t size, std::uint64_t rate) {
  const double p = probability(size, rate);
  INFO("size " << size << ", rate " << rate << ": " << hits << " of " << tries << ", expected "
               << p * static_cast<double>(tries));
  CHECK(std::abs(deviation(hits, tries, p)) < kMaxDeviation);
}

// Sizes that have nothing to do with the sampler's random numbers.
class Sizes {
 public:
  std::size_t next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return kSizes[(state_ >> 33) % kSizes.size()];
  }
  static constexpr std::array<std::size_t, 9> kSizes{1, 8, 24, 100, 640, 1000, 2500, 5000, 10000};

 private:
  std::uint64_t state_ = 7;
};

TEST_CASE("the logarithm is good to 1e-9") {
  for (double x = 1; x > 1e-16; x *= 0.99937) REQUIRE(std::abs(log_of_unit(x) - std::log(x)) < 1e-9);
  for (int bit = 0; bit <= 53; ++bit)
    REQUIRE(std::abs(log_of_unit(std::ldexp(1, -bit)) + bit * std::log(2)) < 1e-9);
  CHECK(log_of_unit(1) == 0);
  CHECK(log_of_unit(1 - 0x1p-53) < 0);  // never a negative distance
  CHECK(log_of_unit(std::sqrt(0.5)) == Approx(-std::log(2) / 2).margin(1e-9));
}

TEST_CASE("distances are exponential, rounded down") {
  for (const std::uint64_t rate : {2UL, 10UL, 1000UL, 524288UL, 1UL << 40}) {
    constexpr std::uint64_t kDraws = 1'000'000;
    std::uint64_t random = 12345;
    double sum = 0;
    std::array<std::uint64_t, 5> below{};
    const std::array<std::size_t, 5> bounds{1 + rate / 100, 1 + rate / 3, rate, 2 * rate, 5 * rate};
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      const std::uint64_t distance = next_sample_distance(random, rate);
      sum += static_cast<double>(distance);
      for (std::size_t k = 0; k < bounds.size(); ++k) below[k] += distance < bounds[k] ? 1 : 0;
    }
    for (std::size_t k = 0; k < bounds.size(); ++k) check_probability(below[k], kDraws, bounds[k], rate);
    // The mean of a rounded down exponential variate, and its deviation (at most the rate).
    const double mean = 1 / std::expm1(1 / static_cast<double>(rate));
    INFO("rate " << rate << " mean " << sum / kDraws << " expected " << mean);
    CHECK(std::abs(sum / kDraws - mean) < kMaxDeviation * static_cast<double>(rate) / std::sqrt(kDraws));
  }
}

TEST_CASE("an allocation is sampled with probability 1 - exp(-size / rate)") {
  for (const std::uint64_t rate : {8UL, 1000UL, 524288UL}) {
    heap_recorder.set_rate(rate);
    for (const double share : {0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0}) {
      const auto size = static_cast<std::size_t>(std::ceil(share * static_cast<double>(rate)));
      become_new_thread(size + rate);
      constexpr std::uint64_t kTries = 1'000'000;
      std::uint64_t hits = 0;
      for (std::uint64_t i = 0; i < kTries; ++i) {
        const std::uint64_t at = allocate(size);
        if (at != 0) REQUIRE(at == rate);
        hits += at != 0 ? 1 : 0;
      }
      check_probability(hits, kTries, size, rate);
    }
  }
}

TEST_CASE("mixed sizes: each has its own probability, and the weighted sum is the truth") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  become_new_thread(3);
  Sizes sizes;
  std::array<std::uint64_t, 10001> tries{};
  std::array<std::uint64_t, 10001> hits{};
  double truth = 0;
  double estimate = 0;
  double variance = 0;
  for (int i = 0; i < 5'000'000; ++i) {
    const std::size_t size = sizes.next();
    const auto bytes = static_cast<double>(size);
    ++tries[size];
    truth += bytes;
    if (allocate(size) == 0) continue;
    ++hits[size];
    const double p = probability(size, kRate);
    estimate += bytes / p;
    variance += bytes * bytes * (1 - p) / (p * p);
  }
  for (const std::size_t size : Sizes::kSizes) check_probability(hits[size], tries[size], size, kRate);
  CHECK(std::abs(estimate - truth) < kMaxDeviation * std::sqrt(variance));
  CHECK(std::abs(estimate / truth - 1) < 0.003);
}

TEST_CASE("a sample does not make the next one more or less likely") {
  constexpr std::uint64_t kRate = 1000;
  constexpr std::size_t kSize = 700;
  heap_recorder.set_rate(kRate);
  become_new_thread(4);
  std::array<std::uint64_t, 2> tries{};
  std::array<std::uint64_t, 2> hits{};
  std::size_t last = 0;
  for (int i = 0; i < 2'000'000; ++i) {
    const std::size_t now = allocate(kSize) != 0 ? 1 : 0;
    ++tries[last];
    hits[last] += now;
    last = now;
  }
  check_probability(hits[0], tries[0], kSize, kRate);
  check_probability(hits[1], tries[1], kSize, kRate);
}

TEST_CASE("a thread's first allocations are like any other") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  constexpr std::uint64_t kThreads = 300'000;
  for (const std::size_t size : {16UL, 1000UL, 3000UL}) {
    std::array<std::uint64_t, 3> hits{};
    for (std::uint64_t thread = 1; thread <= kThreads; ++thread) {
      become_new_thread(thread);
      for (std::uint64_t& hit : hits) hit += allocate(size) != 0 ? 1 : 0;
    }
    for (const std::uint64_t hit : hits) check_probability(hit, kThreads, size, kRate);
  }
}

TEST_CASE("seeds that are made differ, and give fair first samples") {
  constexpr std::uint64_t kRate = 1000;
  constexpr std::uint64_t kThreads = 200'000;
  heap_recorder.set_rate(kRate);
  std::uint64_t hits = 0;
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < kThreads; ++i) {
    thread_state = {};  // not seeded: seeds itself, by the clock
    hits += allocate(1000) != 0 ? 1 : 0;
    REQUIRE(thread_state.random != 0);
    REQUIRE(thread_state.random != last);
    last = thread_state.random;
  }
  const double p = probability(1000, kRate);
  // The one figure here that differs from run to run: 7 deviations are missed once in 4e11.
  CHECK(std::abs(deviation(hits, kThreads, p)) < 7);
}

TEST_CASE("changes of rate bias nothing: each sample says at which rate it was taken") {
  constexpr std::array<std::uint64_t, 4> kRates{1000, 1, 20000, 200};
  Sizes sizes;
  become_new_thread(5);
  double truth = 0;
  double estimate = 0;
  double variance = 0;
  std::array<std::uint64_t, 20001> samples{};
  for (int i = 0; i < 4'000'000; ++i) {
    if (i % 50 == 0) heap_recorder.set_rate(kRates[static_cast<std::size_t>(i / 50) % kRates.size()]);
    const std::size_t size = sizes.next();
    const auto bytes = static_cast<double>(size);
    truth += bytes;
    const std::uint64_t rate = allocate(size);
    if (rate == 0) continue;
    ++samples.at(rate);
    const double p = probability(size, rate);
    estimate += bytes / p;
    variance += bytes * bytes * (1 - p) / (p * p);
  }
  for (const std::uint64_t rate : kRates) CHECK(samples[rate] > 1000);
  INFO(estimate / truth << " " << (estimate - truth) / std::sqrt(variance));
  CHECK(std::abs(estimate - truth) < kMaxDeviation * std::sqrt(variance));
  CHECK(std::abs(estimate / truth - 1) < 0.01);
}

TEST_CASE("off samples nothing; on again, the first that are seen are fair") {
  become_new_thread(6);
  heap_recorder.set_rate(0);
  for (int i = 0; i < 100'000; ++i) REQUIRE(allocate(1000) == 0);

  // Another thread than the one that switches on follows when it looks again.
  std::uint64_t hits = 0;
  constexpr std::uint64_t kRounds = 200'000;
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    become_new_thread(i);
    heap_recorder.set_rate(0);
    REQUIRE(allocate(24) == 0);
    const ThreadState off = thread_state;
    CHECK(off.bytes_until_sample <= std::uint64_t{1} << 20);
    heap_recorder.set_rate(1000);
    thread_state = off;
    thread_state.bytes_until_sample = 500;  // nearly there: as if it had allocated meanwhile
    hits += allocate(1000) != 0 ? 1 : 0;
  }
  check_probability(hits, kRounds, 1000, 1000);
}

TEST_CASE("the thread that switches sampling on is sampled from its next allocation on") {
  become_new_thread(7);
  heap_recorder.set_rate(0);
  REQUIRE(allocate(24) == 0);  // before the agent's constructor: told to look again a MiB later
  heap_recorder.set_rate(1);
  CHECK(allocate(24) == 1);
  CHECK(allocate(1) == 1);

  // But a distance that was drawn stays: cutting it short would be a bias.
  become_new_thread(8);
  heap_recorder.set_rate(std::uint64_t{1} << 30);
  REQUIRE(allocate(1) == 0);
  const std::uint64_t rest = thread_state.bytes_until_sample;
  heap_recorder.set_rate(1);
  CHECK(thread_state.bytes_until_sample == rest);
}

TEST_CASE("at rate 1 everything is sampled but what is empty") {
  become_new_thread(9);
  heap_recorder.set_rate(1);
  for (std::size_t size = 1; size < 100'000; size += 13) REQUIRE(allocate(size) == 1);
  for (int i = 0; i < 100; ++i) REQUIRE(allocate(0) == 0);
  CHECK(allocate(1) == 1);
}

TEST_CASE("absurd sizes are due, and leave the others alone") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  become_new_thread(10);
  std::uint64_t hits = 0;
  constexpr std::uint64_t kTries = 500'000;
  for (std::uint64_t i = 0; i < kTries; ++i) {
    if (i % 5 == 0) REQUIRE(allocate(~std::size_t{0} - i) == kRate);
    hits += allocate(500) != 0 ? 1 : 0;
  }
  check_probability(hits, kTries, 500, kRate);
}

TEST_CASE("what cannot be recorded does not switch the thread off") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  become_new_thread(11);
  const std::uint64_t dropped = counters.dropped_nested;
  std::uint64_t hits = 0;
  std::uint64_t passed_over = 0;
  constexpr std::uint64_t kTries = 500'000;
  for (std::uint64_t i = 0; i < kTries; ++i) {
    // A signal handler's allocation, in the middle of a recorder.
    if (HeapRecorder::is_due(500)) {
      heap_recorder.pass_over(500);
      ++passed_over;
    }
    hits += allocate(500) != 0 ? 1 : 0;
  }
  check_probability(hits, kTries, 500, kRate);
  CHECK(counters.dropped_nested - dropped >= passed_over - 1);  // all, but perhaps the draw of a new thread
  check_probability(counters.dropped_nested - dropped, kTries, 500, kRate);
}

TEST_CASE("looking soon costs a look, not a sample") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  become_new_thread(12);
  Sizes sizes;
  std::array<std::uint64_t, 10001> tries{};
  std::array<std::uint64_t, 10001> hits{};
  for (int i = 0; i < 2'000'000; ++i) {
    const std::size_t size = sizes.next();
    for (int again = i % 4; again > 0; --again) HeapRecorder::look_soon();
    const bool due = HeapRecorder::is_due(size);
    if (i % 4 != 0) REQUIRE(due);
    ++tries[size];
    hits[size] += due && heap_recorder.wants(size) != 0 ? 1 : 0;
  }
  for (const std::size_t size : Sizes::kSizes) check_probability(hits[size], tries[size], size, kRate);
}

TEST_CASE("an allocation that the allocator builds on others counts once") {
  constexpr std::uint64_t kRate = 1000;
  heap_recorder.set_rate(kRate);
  const auto inner = [](std::size_t size) {
    if (HeapRecorder::is_due(size)) hooks::record_allocation(nullptr, size, {});
  };
  SECTION("in the middle of a thread's life") {
    become_new_thread(13);
    recorded = 0;
    recorded_bytes = 0;
    constexpr std::uint64_t kTries = 500'000;
    for (std::uint64_t i = 0; i < kTries; ++i) {
      hooks::allocate_composed(700, [&] {
        inner(700 + 4096);
        HeapRecorder::look_soon();
        inner(1);
        return nullptr;
      });
    }
    check_probability(recorded, kTries, 700, kRate);
    CHECK(recorded_bytes == recorded * 700);
    CHECK(thread_state.section == 0);
  }
  SECTION("as a thread's first") {
    recorded = 0;
    constexpr std::uint64_t kThreads = 200'000;
    for (std::uint64_t thread = 1; thread <= kThreads; ++thread) {
      become_new_thread(thread);
      hooks::allocate_composed(700, [&] {
        inner(700 + 4096);
        return nullptr;
      });
    }
    check_probability(recorded, kThreads, 700, kRate);
  }
}

TEST_CASE("a filter for all threads that is about to come switches nobody off for good when it is refused") {
  constexpr std::uint64_t kRate = 1000;
  constexpr std::uint64_t kTries = 1'000'000;
  heap_recorder.set_rate(kRate);
  become_new_thread(17);
  events.all_are_filtered = 1;
  std::uint64_t meanwhile = 0;
  for (int i = 0; i < 1000; ++i) meanwhile += allocate(500) != 0 ? 1 : 0;
  CHECK(meanwhile == 0);
  events.all_are_filtered = 0;
  // Until it looks again.
  for (int i = 0; i < 10'000; ++i) allocate(500);
  std::uint64_t hits = 0;
  for (std::uint64_t i = 0; i < kTries; ++i) hits += allocate(500) != 0 ? 1 : 0;
  check_probability(hits, kTries, 500, kRate);
}

TEST_CASE("the agent's own thread is never sampled") {
  become_new_thread(14);
  heap_recorder.set_rate(1);
  thread_state.is_agent = true;
  for (int i = 0; i < 1000; ++i) REQUIRE(allocate(1000) == 0);
  thread_state = {};
}

}  // namespace
}  // namespace profagent::safe
