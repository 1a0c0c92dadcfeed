// Threads that wait in what C++20 has for it, which all comes down to a futex: for a latch until the program
// is started, for one of two licences (std::counting_semaphore), and for their turn (std::atomic::wait).
// Prints for each, such as "wait_for_turn at_least at_most", how long all threads have waited in it, ns: the
// standard library spins before it sleeps.
#include <atomic>
#include <latch>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

namespace {

constexpr int kThreads = 16;
std::latch started(1);
std::counting_semaphore<2> licences(2);
std::atomic<int> turn{0};
std::atomic<long long> took[3];
int tids[kThreads];

template <typename Wait>
void measure(std::atomic<long long>& sum, Wait wait) {
  const long long begin = now_ns();
  wait();
  sum += now_ns() - begin;
}

}  // namespace

NOINLINE void wait_for_start() {
  started.wait();
  END_OF_FRAME();
}

NOINLINE void wait_for_licence() {
  licences.acquire();
  END_OF_FRAME();
}

NOINLINE void wait_for_turn(int number) {
  for (int now = turn; now != number; now = turn) turn.wait(now);
  END_OF_FRAME();
}

NOINLINE void work(int number) {
  measure(took[0], [&] {
    __atomic_store_n(&tids[number], own_tid(), __ATOMIC_RELEASE);
    wait_for_start();
  });
  measure(took[1], wait_for_licence);
  sleep_ms(10);
  licences.release();
  measure(took[2], [&] { wait_for_turn(number); });
  sleep_ms(10);
  turn = number + 1;
  turn.notify_all();
}

int main() {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (const int& tid : tids) await_sleep(&tid);
  sleep_ms(50);
  started.count_down();
  for (std::thread& thread : threads) thread.join();
  // Who waits for the start sleeps when it is given; when the others come to wait, nobody knows.
  const long long least[] = {kThreads * 50'000'000LL, 1, 1};
  const char* const names[] = {"wait_for_start", "wait_for_licence", "wait_for_turn"};
  for (int i = 0; i < 3; ++i)
    say((std::string(names[i]) + " " + std::to_string(least[i]) + " " + std::to_string(took[i]) + "\n")
            .c_str());
  serve_until_end();
}
