// Several wall profiles at the same time, and many threads in one.
#include "agent/service/wall_sampler.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include <catch2/catch.hpp>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "test/unit/idle_threads.h"
#include "test/unit/runner.h"

namespace profagent::service {
namespace {

constexpr int kSignal = SIGURG;
constexpr std::int64_t kMillisecond = 1'000'000;
constinit std::atomic<bool> is_held = false;
constinit std::atomic<bool> is_answering = false;

// Answers when the test lets it.
void on_signal(int, siginfo_t* info, void* context) {
  is_answering = true;
  while (is_held) {
  }
  static_cast<void>(safe::thread_asks.on_signal(*info, *static_cast<ucontext_t*>(context)));
  is_answering = false;
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&action.sa_mask);
  REQUIRE(sigaction(kSignal, &action, nullptr) == 0);
  safe::events.wake_signal = kSignal;
}

void pause_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

WallSampler::Window::Result end_of(WallSampler::Window& window) {
  for (double pause = window.wind_up(); pause > 0; pause = window.wind_up()) pause_for(pause);
  return window.finish();
}

// ns of one thread, with a stack or without.
std::int64_t nanos_of(const WallSampler::Window::Result& result, pid_t tid, bool has_stack) {
  std::int64_t sum = 0;
  for (const auto& [key, row] : result.table.rows())
    if (key.tid == tid && key.obstacle.empty() == has_stack) sum += row.nanos;
  return sum;
}

// One window ends while a thread is asked, whose answer comes after that. On a busy machine the end may take
// so long that nobody waits for the answer any more, and then nothing is said.
bool keeps_the_question(pid_t tid) {
  is_held = true;
  WallSampler sampler([] { return kSignal; }, -1);
  const auto longer = sampler.open(kMillisecond, true);
  const auto shorter = sampler.open(kMillisecond, true);
  for (int tries = 0; tries < 20'000 && !is_answering; ++tries) {
    sampler.tend();
    pause_for(0.001);
  }
  REQUIRE(is_answering);
  const WallSampler::Window::Result first = end_of(*shorter);
  CHECK(nanos_of(first, tid, false) == first.nanos);
  is_held = false;
  while (is_answering) pause_for(0.001);
  const WallSampler::Window::Result whole = end_of(*longer);
  CHECK(whole.nanos > first.nanos);
  CHECK(nanos_of(whole, tid, true) + nanos_of(whole, tid, false) == whole.nanos);
  return nanos_of(whole, tid, true) == whole.nanos;
}

TEST_CASE("the end of one window takes no answers from another") {
  install();
  const Runner runner;
  bool is_kept = false;
  for (int tries = 0; tries < 200 && !is_kept; ++tries) is_kept = keeps_the_question(runner.tid());
  CHECK(is_kept);
}

TEST_CASE("the first looks at many threads are taken in slices, and so is the end") {
  const test::IdleThreads threads(3000);
  WallSampler sampler([] { return 0; }, -1);
  const auto window = sampler.open(kMillisecond * 1000, false);
  CHECK(sampler.thread_count() >= 3000);
  constexpr double kAtOnce = 1e-5;
  int slices = 0;
  while (sampler.tend() <= kAtOnce) ++slices;
  CHECK(slices > 2);
  slices = 0;
  for (double pause = window->wind_up(); pause > 0; pause = window->wind_up()) ++slices;
  CHECK(slices > 1);
  const std::size_t count = sampler.thread_count();
  const WallSampler::Window::Result result = window->finish();
  std::int64_t sum = 0;
  std::int64_t without_stack = 0;
  for (const auto& [key, row] : result.table.rows())
    (result.table.stacks()[key.stack].empty() ? without_stack : sum) += row.nanos;
  CHECK(sum == static_cast<std::int64_t>(count) * result.nanos);
  CHECK(without_stack == 0);
}

}  // namespace
}  // namespace profagent::service
