// A mutex that several threads want all the time, for bench.py under one preloaded library or another.
//
//   contended_bench THREADS MS WORK
//
// For MS ms each thread locks, works, unlocks, and works again, WORK steps of a few cycles each time. Prints
// the nanoseconds of the whole process per pair of lock and unlock.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <pthread.h>

namespace {

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
std::atomic<bool> stop{false};

void work(long steps) {
  for (long i = 0; i < steps; ++i) asm volatile("" : : : "memory");
}

long run_pairs(long steps) {
  long pairs = 0;
  for (; !stop.load(std::memory_order_relaxed); ++pairs) {
    pthread_mutex_lock(&mutex);
    work(steps);
    pthread_mutex_unlock(&mutex);
    work(steps);
  }
  return pairs;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  const long number = std::strtol(arguments[1], nullptr, 10);
  const std::chrono::milliseconds time(std::strtol(arguments[2], nullptr, 10));
  const long steps = std::strtol(arguments[3], nullptr, 10);
  std::atomic<long> pairs{0};
  std::vector<std::thread> threads;
  const auto begin = std::chrono::steady_clock::now();
  for (long i = 0; i < number; ++i) threads.emplace_back([&] { pairs += run_pairs(steps); });
  std::this_thread::sleep_for(time);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", spent.count() / static_cast<double>(pairs));
}
