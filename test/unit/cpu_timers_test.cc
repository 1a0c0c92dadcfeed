#include "agent/safe/cpu_timers.h"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "test/support/eventually.h"

namespace profagent::safe {
namespace {

constexpr std::uint64_t kLong = 3'600'000'000'000;  // no timer runs out in a test

// The table as at the start, with a signal that nobody sees.
void begin() {
  REQUIRE(cpu_timers.prepare());
  cpu_timers.remove_all();
  cpu_timers.set_limit(CpuTimers::kMostTimers);
  cpu_timers.set_period(kLong);
  cpu_timers.set_signal(SIGURG);
}

AddResult add(pid_t tid, std::int64_t charged_until) {
  return cpu_timers.add(tid, charged_until, threads.marks());
}

// Threads that wait until the test lets them go.
class Waiters {
 public:
  explicit Waiters(std::size_t count) : tids_(count) {
    for (std::size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this, i] {
        tids_[i].store(sys::gettid());
        while (!end_.load()) usleep(1000);
      });
    }
    for (std::atomic<pid_t>& tid : tids_) {
      while (tid.load() == 0) usleep(100);
    }
  }
  ~Waiters() {
    end_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }
  Waiters(const Waiters&) = delete;
  Waiters& operator=(const Waiters&) = delete;
  [[nodiscard]] pid_t operator[](std::size_t i) const { return tids_[i].load(); }

 private:
  std::atomic<bool> end_{false};
  std::vector<std::atomic<pid_t>> tids_;
  std::vector<std::thread> threads_;
};

std::int64_t nanos_left(const CpuTimer& timer) {
  itimerspec time{};
  REQUIRE(sys::call(SYS_timer_gettime, timer.id.load() - 1, reinterpret_cast<long>(&time)) == 0);
  return time.it_value.tv_sec * 1'000'000'000 + time.it_value.tv_nsec;
}

TEST_CASE("a thread has one timer at most") {
  begin();
  const pid_t tid = sys::gettid();
  CHECK(add(tid, 0) == AddResult::kAdded);
  CHECK(add(tid, 0) == AddResult::kHasOne);
  CHECK(cpu_timers.count() == 1);
  REQUIRE(cpu_timers.find(tid) != nullptr);
  CHECK(CpuTimers::tid_of(*cpu_timers.find(tid)) == tid);
  CHECK(cpu_timers.remove(tid));
  CHECK_FALSE(cpu_timers.remove(tid));
  CHECK(cpu_timers.find(tid) == nullptr);
  CHECK(cpu_timers.count() == 0);
}

TEST_CASE("what a timer had charged is handed on, and what is due brings the next sample nearer") {
  begin();
  const pid_t tid = sys::gettid();
  std::uint64_t now = 0;
  REQUIRE(read_cpu_clock(cpu_clock_of(tid), now));
  const std::int64_t until = static_cast<std::int64_t>(now) - 1'000'000'000;
  REQUIRE(add(tid, until) == AddResult::kAdded);
  CHECK(nanos_left(*cpu_timers.find(tid)) <= static_cast<std::int64_t>(kLong) - 1'000'000'000);
  std::int64_t account = 0;
  REQUIRE(cpu_timers.remove(tid, &account));
  CHECK(account == until);
}

TEST_CASE("a slot that was given up charges nobody") {
  begin();
  const pid_t tid = sys::gettid();
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  const CpuTimer& timer = *cpu_timers.find(tid);
  CHECK(timer.charged_until.load() == 0);
  REQUIRE(cpu_timers.remove(tid));
  CHECK(timer.charged_until.load() == CpuTimer::kNotCharging);
}

TEST_CASE("without a period there is no timer, and existing ones stand still") {
  begin();
  const pid_t tid = sys::gettid();
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  cpu_timers.set_period(0);
  CHECK(nanos_left(*cpu_timers.find(tid)) == 0);
  cpu_timers.remove_all();
  CHECK(add(tid, 0) == AddResult::kRefused);
  CHECK(cpu_timers.count() == 0);
}

TEST_CASE("the limit holds, and a thread that is gone gets none", "[D14]") {
  begin();
  const Waiters waiters(3);
  cpu_timers.set_limit(2);
  CHECK(add(waiters[0], 0) == AddResult::kAdded);
  CHECK(add(waiters[1], 0) == AddResult::kAdded);
  CHECK(add(waiters[2], 0) == AddResult::kNoRoom);
  CHECK(cpu_timers.count() == 2);
  cpu_timers.set_limit(0);
  cpu_timers.remove_all();
  CHECK(cpu_timers.count() == 0);
  cpu_timers.set_limit(1);
  pid_t gone = 0;
  std::thread([&] { gone = sys::gettid(); }).join();
  while (sys::call(SYS_tgkill, sys::getpid(), gone, 0) == 0) usleep(100);
  CHECK(add(gone, 0) == AddResult::kRefused);
  CHECK(cpu_timers.count() == 0);
}

TEST_CASE("as many as there may be, each found and all removed", "[D15]") {
  begin();
  const Waiters waiters(300);
  for (std::size_t i = 0; i < 300; ++i) REQUIRE(add(waiters[i], 0) == AddResult::kAdded);
  for (std::size_t i = 0; i < 300; ++i) REQUIRE(cpu_timers.find(waiters[i]) != nullptr);
  std::size_t seen = 0;
  cpu_timers.for_each([&](const CpuTimer&) { ++seen; });
  CHECK(seen == 300);
  cpu_timers.remove_all();
  CHECK(cpu_timers.count() == 0);
}

TEST_CASE("a paused timer keeps what it had left", "[D6]") {
  begin();
  const pid_t tid = sys::gettid();
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  const CpuTimer& timer = *cpu_timers.find(tid);
  cpu_timers.pause(tid);
  CHECK(nanos_left(timer) == 0);
  cpu_timers.set_signal(SIGWINCH);  // does not start it either
  CHECK(nanos_left(timer) == 0);
  const std::int64_t left = timer.paused.load();
  CHECK(left > 0);
  cpu_timers.pause(tid);
  CHECK(timer.paused.load() == left);
  cpu_timers.set_period(kLong / 2);  // does not start it
  CHECK(nanos_left(timer) == 0);
  cpu_timers.resume(tid);
  CHECK(timer.paused.load() == 0);
  CHECK(nanos_left(timer) > 0);
  CHECK(nanos_left(timer) <= left);
  cpu_timers.resume(tid);
  cpu_timers.remove_all();
}

TEST_CASE("a signal tells its timer, its generation, and strangers apart", "[D5][F15]") {
  begin();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGURG);
  sigset_t before;
  REQUIRE(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
  const pid_t tid = sys::gettid();
  cpu_timers.set_period(1'000'000);
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  siginfo_t info{};
  int got = 0;
  do {  // a wait uses no CPU time
    for (int i = 0; i < 1'000'000; ++i) asm volatile("");
    const timespec none{};
    got = sigtimedwait(&set, &info, &none);
  } while (got != SIGURG);
  const CpuTimer* timer = cpu_timers.find(tid);
  CHECK(cpu_timers.owner_of(info).timer == timer);
  CHECK_FALSE(cpu_timers.owner_of(info).stale);
  REQUIRE(cpu_timers.remove(tid));
  CHECK(cpu_timers.owner_of(info).stale);
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  CHECK(cpu_timers.owner_of(info).stale);
  cpu_timers.remove_all();
  REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);

  siginfo_t sent{};
  sent.si_code = SI_USER;
  CHECK(cpu_timers.owner_of(sent).timer == nullptr);
  sent.si_code = SI_TIMER;
  CHECK(cpu_timers.owner_of(sent).timer == nullptr);
  sent.si_value.sival_int = 12345;
  CHECK(cpu_timers.owner_of(sent).timer == nullptr);
}

TEST_CASE("the child of a fork has no timers, and can have some") {
  begin();
  const pid_t tid = sys::gettid();
  REQUIRE(add(tid, 0) == AddResult::kAdded);
  const pid_t child = fork();
  if (child == 0) {
    cpu_timers.forget_after_fork();
    if (cpu_timers.count() != 0 || cpu_timers.find(tid) != nullptr) _exit(1);
    cpu_timers.set_period(kLong);
    if (add(sys::gettid(), 0) != AddResult::kAdded) _exit(2);
    _exit(cpu_timers.remove(sys::gettid()) ? 0 : 3);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(cpu_timers.remove(tid));
}

TEST_CASE("no timer for who may have become one that can take no signal", "[fault D13]") {
  begin();
  const pid_t tid = sys::gettid();
  std::atomic<bool> mark = false;
  const std::uint32_t before = threads.marks();
  CHECK_FALSE(threads.mark(mark, true));
  CHECK(threads.mark(mark, true));  // no change
  CHECK(threads.marks() == before + 1);
  CHECK(cpu_timers.add(tid, 0, before) == AddResult::kStale);
  CHECK(cpu_timers.count() == 0);
  SECTION("another signal needs another timer") {
    REQUIRE(add(tid, 0) == AddResult::kAdded);
    threads.mark(mark, false);
    cpu_timers.set_signal(SIGWINCH);
    REQUIRE(cpu_timers.find(tid) != nullptr);
    CHECK(cpu_timers.find(tid)->id == 0);
  }
  SECTION("it has one already") {
    REQUIRE(add(tid, 0) == AddResult::kAdded);
    cpu_timers.leave_alone(tid);
    REQUIRE(cpu_timers.find(tid) != nullptr);
    CHECK(cpu_timers.find(tid)->id == 0);
    // The account is still there.
    std::int64_t until = -1;
    CHECK(cpu_timers.remove(tid, &until));
    CHECK(until == 0);
  }
  cpu_timers.remove_all();
  CHECK(cpu_timers.count() == 0);
}

constinit std::atomic<bool> may_come = true;
constinit std::atomic<int> welcome = 0;
constinit std::atomic<int> unwelcome = 0;

// Timers are made for the thread, and changed, all the time. It says now and then that it wants none, and
// looks whether one comes.
TEST_CASE("a storm of timers for a thread that is to be left alone now and then", "[fault D13]") {
  begin();
  struct sigaction count {};
  count.sa_handler = [](int) { (may_come ? welcome : unwelcome).fetch_add(1); };
  REQUIRE(sigaction(SIGURG, &count, nullptr) == 0);
  REQUIRE(sigaction(SIGWINCH, &count, nullptr) == 0);
  cpu_timers.set_period(1000);
  const pid_t tid = sys::gettid();
  const auto spin = [] {
    for (int i = 0; i < 15'000'000; ++i) asm volatile("");  // longer than the kernel's tick, as a rule
  };
  // One that nobody takes away does come, whichever it is.
  for (const int number : {SIGURG, SIGWINCH}) {
    const int before = welcome;
    cpu_timers.set_signal(number);
    REQUIRE(add(tid, 0) == AddResult::kAdded);
    REQUIRE(test::eventually([&] {
      spin();
      return welcome > before;
    }));
    REQUIRE(cpu_timers.remove(tid));
  }
  std::atomic<bool> mark = false;
  std::atomic<bool> end = false;
  std::thread adds([&] {
    while (!end) {
      const std::uint32_t marks = threads.marks();
      if (!mark) cpu_timers.add(tid, 0, marks);
      if (!mark) cpu_timers.remove(tid);
    }
  });
  std::thread changes([&] {
    for (int i = 0; !end; ++i) {
      cpu_timers.set_signal(i % 2 == 0 ? SIGWINCH : SIGURG);
      cpu_timers.set_period(1000 + i % 2);
    }
  });
  for (int i = 0; i < 100; ++i) {
    spin();
    threads.mark(mark, true);
    cpu_timers.leave_alone(tid);
    may_come = false;
    spin();
    may_come = true;
    threads.mark(mark, false);
  }
  end = true;
  adds.join();
  changes.join();
  cpu_timers.remove_all();
  CHECK(unwelcome == 0);
  signal(SIGURG, SIG_DFL);
  signal(SIGWINCH, SIG_DFL);
}

// Everybody who may change a slot does so at once; at the end no timer is left, in the table or the kernel.
TEST_CASE("a storm of threads that add, remove, pause and change all timers leaves nothing behind", "[D23]") {
  begin();
  std::atomic<bool> end{false};
  std::vector<std::thread> storm;
  for (int i = 0; i < 4; ++i) {
    storm.emplace_back([&] {
      const pid_t tid = sys::gettid();
      while (!end.load(std::memory_order_relaxed)) {
        add(tid, 0);
        cpu_timers.pause(tid);
        cpu_timers.resume(tid);
        cpu_timers.remove(tid);
      }
      while (cpu_timers.find(tid) != nullptr) cpu_timers.remove(tid);
    });
  }
  for (int i = 0; i < 3000; ++i) {
    cpu_timers.set_signal(i % 2 == 0 ? SIGWINCH : SIGURG);
    cpu_timers.set_period(kLong / (1 + i % 3));
    cpu_timers.remove_all();
  }
  end.store(true);
  for (std::thread& thread : storm) thread.join();
  cpu_timers.remove_all();
  CHECK(cpu_timers.count() == 0);
  // timer_t are small numbers, given out in turn: one that exists would answer.
  itimerspec time{};
  std::size_t left = 0;
  for (int id = 0; id < 100'000; ++id)
    left += sys::call(SYS_timer_gettime, id, reinterpret_cast<long>(&time)) == 0 ? 1 : 0;
  CHECK(left == 0);
}

}  // namespace
}  // namespace profagent::safe
