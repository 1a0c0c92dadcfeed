// Waits once, for 100 ms, in everything of the C++ library that can: in a function in_X. Prints for each
// "X at_least at_most" in ns, as wait_calls.c. (try_acquire_for() is not among them: libstdc++ sleeps for its
// first 128 ms.)
#include <pthread.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

using namespace std::chrono_literals;

namespace {

std::mutex mutex;
std::recursive_mutex recursive;
std::timed_mutex timed;
std::timed_mutex timed_until;
std::shared_mutex shared;
std::shared_mutex shared_by_reader;
std::shared_timed_mutex shared_timed;
std::shared_timed_mutex shared_timed_shared;

struct Condition {
  std::mutex mutex;
  std::condition_variable variable;
  bool done = false;
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex); }
  void finish() {
    const std::lock_guard guard(mutex);
    done = true;
    variable.notify_one();
  }
};
Condition plain;
Condition for_a_time;
Condition until_steady;
Condition until_system;
std::condition_variable_any any;
std::shared_mutex any_mutex;

std::counting_semaphore<4> semaphore(0);
std::latch latch(1);
std::barrier barrier(2);
std::atomic<int> number{0};
std::atomic<bool> flag{false};
std::promise<int> promise;
std::atomic<bool> thread_may_end{false};
std::thread thread;

}  // namespace

// The waits: named functions, not inlined, so that their stacks tell which is which.
#define IN(name, what)        \
  NOINLINE void in_##name() { \
    what;                     \
    END_OF_FRAME();           \
  }
IN(mutex, mutex.lock())
IN(recursive_mutex, recursive.lock())
IN(timed_mutex_for, (void)timed.try_lock_for(60s))
IN(timed_mutex_until, (void)timed_until.try_lock_until(std::chrono::system_clock::now() + 60s))
IN(shared_mutex, shared.lock())
IN(shared_mutex_shared, shared_by_reader.lock_shared())
IN(shared_timed_mutex_for, (void)shared_timed.try_lock_for(60s))
IN(shared_timed_mutex_shared_for, (void)shared_timed_shared.try_lock_shared_for(60s))
NOINLINE void in_condition_variable() {
  auto lock = plain.lock();
  plain.variable.wait(lock);
}
NOINLINE void in_condition_variable_for() {
  auto lock = for_a_time.lock();
  for_a_time.variable.wait_for(lock, 60s);
}
NOINLINE void in_condition_variable_until_steady() {
  auto lock = until_steady.lock();
  until_steady.variable.wait_until(lock, std::chrono::steady_clock::now() + 60s);
}
NOINLINE void in_condition_variable_until_system() {
  auto lock = until_system.lock();
  until_system.variable.wait_until(lock, std::chrono::system_clock::now() + 60s);
}
NOINLINE void in_condition_variable_any() {
  std::unique_lock lock(any_mutex);
  any.wait(lock);
}
IN(semaphore, semaphore.acquire())
IN(latch, latch.wait())
IN(barrier, barrier.arrive_and_wait())
IN(atomic_int, number.wait(0))
IN(atomic_bool, flag.wait(false))
IN(future, (void)promise.get_future().get())
IN(thread_join, thread.join())

namespace {

struct Case {
  const char* name;
  void (*prepare)();
  void (*wait)();
  void (*release)();
};
void nothing() {}

const Case kCases[] = {
    {"mutex", [] { mutex.lock(); }, in_mutex, [] { mutex.unlock(); }},
    {"recursive_mutex", [] { recursive.lock(); }, in_recursive_mutex, [] { recursive.unlock(); }},
    {"timed_mutex_for", [] { timed.lock(); }, in_timed_mutex_for, [] { timed.unlock(); }},
    {"timed_mutex_until", [] { timed_until.lock(); }, in_timed_mutex_until, [] { timed_until.unlock(); }},
    {"shared_mutex", [] { shared.lock_shared(); }, in_shared_mutex, [] { shared.unlock_shared(); }},
    {"shared_mutex_shared", [] { shared_by_reader.lock(); }, in_shared_mutex_shared,
     [] { shared_by_reader.unlock(); }},
    {"shared_timed_mutex_for", [] { shared_timed.lock(); }, in_shared_timed_mutex_for,
     [] { shared_timed.unlock(); }},
    {"shared_timed_mutex_shared_for", [] { shared_timed_shared.lock(); }, in_shared_timed_mutex_shared_for,
     [] { shared_timed_shared.unlock(); }},
    {"condition_variable", nothing, in_condition_variable, [] { plain.finish(); }},
    {"condition_variable_for", nothing, in_condition_variable_for, [] { for_a_time.finish(); }},
    {"condition_variable_until_steady", nothing, in_condition_variable_until_steady,
     [] { until_steady.finish(); }},
    {"condition_variable_until_system", nothing, in_condition_variable_until_system,
     [] { until_system.finish(); }},
    {"condition_variable_any", nothing, in_condition_variable_any,
     [] {
       const std::lock_guard guard(any_mutex);
       any.notify_one();
     }},
    {"semaphore", nothing, in_semaphore, [] { semaphore.release(); }},
    {"latch", nothing, in_latch, [] { latch.count_down(); }},
    {"barrier", nothing, in_barrier, [] { (void)barrier.arrive(); }},
    {"atomic_int", nothing, in_atomic_int,
     [] {
       number = 1;
       number.notify_one();
     }},
    {"atomic_bool", nothing, in_atomic_bool,
     [] {
       flag = true;
       flag.notify_one();
     }},
    {"future", nothing, in_future, [] { promise.set_value(1); }},
    {"thread_join", [] { thread = std::thread([] { thread_may_end.wait(false); }); }, in_thread_join,
     [] {
       thread_may_end = true;
       thread_may_end.notify_one();
     }},
};

std::string measure(const Case& one) {
  int tid = 0;
  long long took = 0;
  one.prepare();
  std::thread waiter([&] {
    const long long begin = now_ns();
    __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
    one.wait();
    took = now_ns() - begin;
  });
  await_sleep(&tid);
  const long long asleep = now_ns();
  sleep_ms(100);
  const long long known = now_ns() - asleep;
  one.release();
  waiter.join();
  return std::string(one.name) + " " + std::to_string(known) + " " + std::to_string(took) + "\n";
}

}  // namespace

int main() {
  std::vector<std::future<std::string>> lines;
  for (const Case& one : kCases) lines.push_back(std::async(std::launch::async, measure, std::cref(one)));
  for (auto& line : lines) say(line.get().c_str());
  serve_until_end();
}
