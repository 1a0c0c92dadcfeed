// For tests that hit the ground floor from many threads and from signal handlers at once.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace profagent::test {

// Interrupts the thread that makes it with SIGUSR1, again and again, until it is destroyed; each time
// `handler` runs on that thread. The pauses are short and uneven, so that the interrupted place differs. One
// at a time.
class SignalStorm {
 public:
  using Handler = void (*)();

  explicit SignalStorm(Handler handler) {
    handler_ = handler;
    struct sigaction action {};
    action.sa_handler = [](int) {
      handler_();
      handled_.fetch_add(1, std::memory_order_relaxed);
    };
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, nullptr);
    handled_ = 0;
    stop_ = false;
    sender_ = std::thread([this, target = pthread_self()] {
      for (long pause = 1; !stop_.load(std::memory_order_relaxed); pause = (pause * 7 + 3) % 997) {
        pthread_kill(target, SIGUSR1);
        const timespec time{0, pause * 40};
        nanosleep(&time, nullptr);
      }
    });
  }

  ~SignalStorm() { end(); }
  SignalStorm(const SignalStorm&) = delete;
  SignalStorm& operator=(const SignalStorm&) = delete;

  // Storms last until enough handlers have run in the middle of something. (The call that waits for nothing
  // is where a thread sanitizer delivers what it has held back.)
  [[nodiscard]] bool is_over() const {
    poll(nullptr, 0, 0);
    return handled_.load() >= kEnough;
  }

  void end() {
    stop_ = true;
    if (sender_.joinable()) sender_.join();
  }

 private:
  static constexpr std::size_t kEnough = 300;

  static inline Handler handler_ = nullptr;
  static inline std::atomic<std::size_t> handled_{0};
  std::atomic<bool> stop_{false};
  std::thread sender_;
};

// Runs work(0), …, work(count - 1) at once, each on a thread of its own.
template <typename Work>
void run_threads(int count, Work work) {
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      ready.fetch_add(1);
      while (ready.load() < count) std::this_thread::yield();
      work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace profagent::test
