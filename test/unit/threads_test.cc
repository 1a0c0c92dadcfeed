#include "agent/safe/threads.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

void give_room() {
  arena.set_limit(arena.mapped() + (std::size_t{64} << 20));
}

// A thread's slot is kept in its state; a registry of a test's own begins without.
std::unique_ptr<Threads> make_threads() {
  give_room();
  thread_state.slot = nullptr;
  return std::make_unique<Threads>();
}

std::set<pid_t> tids_of(const Threads& threads) {
  std::set<pid_t> tids;
  threads.for_each([&](const ThreadSlot& slot) { tids.insert(slot.tid); });
  return tids;
}

// Until the kernel has forgotten it: join() returns a little earlier.
void wait_until_gone(pid_t tid) {
  while (sys::call(SYS_tgkill, sys::getpid(), tid, 0) == 0) std::this_thread::yield();
}

TEST_CASE("a thread has one slot, with its tid") {
  const auto threads = make_threads();
  CHECK(threads->live() == 0);
  ThreadSlot* slot = threads->current();
  REQUIRE(slot != nullptr);
  CHECK(threads->current() == slot);
  CHECK(slot->tid == gettid());
  CHECK(threads->live() == 1);
  CHECK(tids_of(*threads) == std::set<pid_t>{gettid()});
}

TEST_CASE("slots of threads that are gone are freed and given out again, those of the living are not") {
  const auto threads = make_threads();
  ThreadSlot* mine = threads->current();
  ThreadSlot* theirs = nullptr;
  pid_t tid = 0;
  std::thread([&] {
    theirs = threads->current();
    tid = gettid();
    threads->reclaim();
    CHECK(theirs->tid == tid);
  }).join();
  REQUIRE(theirs != nullptr);
  CHECK(theirs != mine);
  CHECK(threads->live() == 2);
  wait_until_gone(tid);
  threads->reclaim();
  CHECK(threads->live() == 1);
  CHECK(theirs->tid == 0);
  CHECK(mine->tid == gettid());

  ThreadSlot* next = nullptr;
  std::thread([&] { next = threads->current(); }).join();
  CHECK(next == theirs);
}

TEST_CASE("a full table refuses, counts, and harms nobody") {
  const auto threads = make_threads();
  std::set<ThreadSlot*> slots;
  for (std::size_t i = 0; i < Threads::kMaxThreads; ++i) {
    thread_state.slot = nullptr;  // as if another thread came
    slots.insert(threads->current());
  }
  CHECK(slots.size() == Threads::kMaxThreads);
  CHECK(slots.count(nullptr) == 0);
  CHECK(threads->live() == Threads::kMaxThreads);
  const std::uint64_t refused = counters.threads_not_registered;
  for (int i = 0; i < 1000; ++i) {
    thread_state.slot = nullptr;
    REQUIRE(threads->current() == nullptr);
  }
  CHECK(counters.threads_not_registered == refused + 1000);
  CHECK(threads->live() == Threads::kMaxThreads);
}

TEST_CASE("without memory no slot is used up") {
  const auto threads = make_threads();
  arena.set_limit(arena.mapped());
  for (std::size_t i = 0; i < 2 * Threads::kMaxThreads; ++i) {
    thread_state.slot = nullptr;
    REQUIRE(threads->current() == nullptr);
  }
  give_room();
  CHECK(threads->current() != nullptr);
}

TEST_CASE("the child of a fork keeps its slot and sheds the others'") {
  const auto threads = make_threads();
  threads->current();
  std::atomic<bool> ready{false};
  std::atomic<bool> done{false};
  std::thread other([&] {
    threads->current();
    ready = true;
    while (!done) std::this_thread::yield();
  });
  while (!ready) std::this_thread::yield();
  CHECK(threads->live() == 2);
  const pid_t child = fork();
  if (child == 0) {
    threads->on_fork_child();
    threads->reclaim();
    const bool right = threads->live() == 1 && tids_of(*threads) == std::set<pid_t>{gettid()} &&
                       threads->current()->tid == gettid();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  done = true;
  other.join();
}

TEST_CASE("threads that come and go under a reclaiming one never share a slot") {
  const auto threads = make_threads();
  threads->current();
  constexpr int kRounds = 60;
  constexpr int kPerRound = 16;
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::thread reclaimer([&] {
    thread_state.slot = nullptr;
    while (!done) threads->reclaim();
  });
  for (int round = 0; round < kRounds; ++round) {
    std::array<ThreadSlot*, kPerRound> slots{};
    std::atomic<int> arrived{0};
    test::run_threads(kPerRound, [&](int thread) {
      ThreadSlot* slot = threads->current();
      slots[static_cast<std::size_t>(thread)] = slot;
      arrived.fetch_add(1);
      while (arrived.load() < kPerRound) std::this_thread::yield();
      if (slot == nullptr || slot->tid != gettid() || threads->current() != slot) ++wrong;
    });
    if (std::set<ThreadSlot*>(slots.begin(), slots.end()).size() != kPerRound) ++wrong;
  }
  done = true;
  reclaimer.join();
  CHECK(wrong == 0);
  threads->reclaim();
  CHECK(threads->live() <= 1 + kPerRound);  // the last ones may just be leaving
}

}  // namespace
}  // namespace profagent::safe
