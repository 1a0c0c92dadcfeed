// A running thread is asked by a signal, and answers where it stands.
#include "agent/safe/thread_asks.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "test/support/eventually.h"
#include "test/unit/runner.h"

namespace profagent::safe {
namespace {

using test::eventually;

constexpr int kSignal = SIGURG;
constinit std::atomic<int> foreign = 0;

void on_signal(int, siginfo_t* info, void* context) {
  if (!thread_asks.on_signal(*info, *static_cast<ucontext_t*>(context))) foreign.fetch_add(1);
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  REQUIRE(sigaction(kSignal, &action, nullptr) == 0);
  events.wake_signal = kSignal;
  REQUIRE(thread_asks.prepare());
}

ThreadAsks::Ask ask_now(pid_t tid) {
  return thread_asks.ask(tid, kSignal, threads.marks());
}

bool is_answered(const ThreadAsks::Ask& ask) {
  return eventually([&] { return ThreadAsks::answer(ask) != nullptr; });
}

TEST_CASE("a running thread answers", "[D1]") {
  install();
  std::atomic<bool> kept_errno = true;
  const Runner runner([&] {
    errno = 77;
    for (int i = 0; i < 1000; ++i) kept_errno = kept_errno && errno == 77;
  });
  for (int i = 0; i < 5; ++i) {
    const ThreadAsks::Ask ask = ask_now(runner.tid());
    REQUIRE(ask.place != nullptr);
    REQUIRE(is_answered(ask));
    CHECK(ThreadAsks::answer(ask)->stack.depth > 2);
    ThreadAsks::give_up(ask);
    CHECK(ThreadAsks::answer(ask) == nullptr);
  }
  CHECK(kept_errno);
  CHECK(foreign == 0);
}

TEST_CASE("a thread that waits is not asked, and its wait goes on", "[D1]") {
  install();
  std::atomic<pid_t> tid = 0;
  std::atomic<long> result = 1;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  std::thread waits([&] {
    char byte = 0;
    tid = sys::gettid();
    result = sys::call(SYS_read, ends[0], reinterpret_cast<long>(&byte), 1);
  });
  while (tid == 0) std::this_thread::yield();
  usleep(100'000);
  const ThreadAsks::Ask ask = ask_now(tid);
  REQUIRE(ask.place != nullptr);
  usleep(100'000);
  CHECK(ThreadAsks::answer(ask) == nullptr);
  CHECK(result == 1);
  ThreadAsks::give_up(ask);
  close(ends[1]);
  waits.join();
  CHECK(result == 0);
  close(ends[0]);
}

TEST_CASE("all places can be asked from, and each is had again") {
  install();
  const Runner runner;
  for (int round = 0; round < 3; ++round) {
    std::vector<ThreadAsks::Ask> asks;
    for (std::size_t i = 0; i < ThreadAsks::kPlaces; ++i) {
      // One whose answer is under way is had later.
      REQUIRE(eventually([&] {
        asks.push_back(ask_now(runner.tid()));
        if (asks.back().place == nullptr) asks.pop_back();
        return asks.size() == i + 1;
      }));
    }
    CHECK(ask_now(runner.tid()).place == nullptr);
    for (const ThreadAsks::Ask& ask : asks) ThreadAsks::give_up(ask);
  }
}

TEST_CASE("nobody is asked by a signal that is left, and nobody who is not there") {
  install();
  const Runner runner;
  events.wake_signal = SIGCONT;
  CHECK(ask_now(runner.tid()).place == nullptr);
  events.wake_signal = kSignal;
  CHECK(ask_now(999'999'999).place == nullptr);
  const ThreadAsks::Ask ask = ask_now(runner.tid());
  REQUIRE(ask.place != nullptr);
  thread_asks.leave_signal();
  CHECK(ask.place->timer == 0);
  ThreadAsks::give_up(ask);
}

TEST_CASE("nobody is asked who can take no signal, or who may have become such a thread", "[fault D13]") {
  install();
  const Runner runner;
  const std::uint32_t marks = threads.marks();
  std::atomic<bool> mark = false;
  CHECK_FALSE(threads.mark(mark, true));
  CHECK(thread_asks.ask(runner.tid(), kSignal, marks).place == nullptr);
  const ThreadAsks::Ask ask = ask_now(runner.tid());
  REQUIRE(ask.place != nullptr);
  thread_asks.leave_alone(sys::gettid());
  CHECK(ask.place->timer != 0);
  thread_asks.leave_alone(runner.tid());
  CHECK(ask.place->timer == 0);
  ThreadAsks::give_up(ask);
}

TEST_CASE("a signal of somebody else's is left to others") {
  install();
  foreign = 0;
  REQUIRE(::raise(kSignal) == 0);
  CHECK(foreign == 1);
  // A late one: its place has another generation.
  const Runner runner;
  const ThreadAsks::Ask ask = ask_now(runner.tid());
  REQUIRE(is_answered(ask));
  ThreadAsks::give_up(ask);
  siginfo_t late{};
  late.si_code = SI_TIMER;
  late.si_value.sival_ptr = nullptr;
  CHECK_FALSE(thread_asks.on_signal(late, ucontext_t{}));
}

TEST_CASE("the child of a fork begins anew", "[F3]") {
  install();
  const Runner runner;
  const ThreadAsks::Ask ask = ask_now(runner.tid());
  REQUIRE(ask.place != nullptr);
  const pid_t child = fork();
  if (child == 0) {
    thread_asks.forget_after_fork();
    std::size_t free = 0;
    for (std::size_t i = 0; i < ThreadAsks::kPlaces; ++i)
      free += ask_now(sys::gettid()).place != nullptr ? 1 : 0;
    _exit(free == ThreadAsks::kPlaces ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  ThreadAsks::give_up(ask);
}

}  // namespace
}  // namespace profagent::safe
