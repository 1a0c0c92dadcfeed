//   contention_storm MS [LIBRARY]
// For MS milliseconds threads contend for locks of all sorts, give up, wait for conditions and fork, under a
// timer's signals; one of them contends from LIBRARY, which it loads and unloads all the time. What a lock
// guards must add up; else it says "wrong".
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

using namespace std::chrono_literals;

namespace {

struct Guarded {
  std::timed_mutex mutex;
  long value = 0;
  std::atomic<long> expected{0};
};
Guarded guarded[3];
std::shared_mutex shared;
long shared_value = 0;
std::atomic<long> shared_expected{0};
std::mutex queue_mutex;
std::condition_variable queue_filled;
int queued = 0;
sem_t semaphore;
std::atomic<bool> stop{false};

void on_alarm(int) {
  sem_post(&semaphore);
}

void add(Guarded& to) {
  ++to.value;
  ++to.expected;
  if (to.value % 64 == 0) std::this_thread::yield();
}

void contend(int number) {
  for (unsigned i = static_cast<unsigned>(number); !stop; ++i) {
    Guarded& one = guarded[i % 3];
    if (i % 5 == 0) {
      if (one.mutex.try_lock_for(20us)) {
        add(one);
        one.mutex.unlock();
      }
    } else {
      const std::lock_guard lock(one.mutex);
      add(one);
    }
    if (i % 7 == 0) {
      const std::unique_lock lock(shared);
      ++shared_value;
      ++shared_expected;
    } else {
      const std::shared_lock lock(shared);
      if (shared_value < 0) say("wrong\n");
    }
    if (i % 11 == 0) {
      const std::lock_guard lock(queue_mutex);
      ++queued;
      queue_filled.notify_one();
    }
  }
}

void consume() {
  while (!stop) {
    std::unique_lock lock(queue_mutex);
    queue_filled.wait_for(lock, 5ms, [] { return queued > 0; });
    if (queued > 0) --queued;
  }
}

void count_alarms() {
  while (!stop) {
    const timespec until = in_a_minute(CLOCK_REALTIME);
    sem_timedwait(&semaphore, &until);
  }
}

void load_and_unload(const char* library) {
  while (!stop) {
    void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return say("wrong library\n");
    const auto call = reinterpret_cast<void (*)(void (*)())>(dlsym(handle, "call_from_plugin"));
    call([] { const std::lock_guard lock(queue_mutex); });
    dlclose(handle);
  }
}

void fork_now_and_then() {
  while (!stop) {
    const pid_t child = fork();
    if (child == 0) {
      std::mutex own;
      for (int i = 0; i < 100; ++i) const std::lock_guard lock(own);
      _exit(9);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
    }
    if (WEXITSTATUS(status) != 9) say("wrong child\n");
    std::this_thread::sleep_for(20ms);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int ms = count > 1 ? std::atoi(arguments[1]) : 1000;
  struct sigaction action {};
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  sem_init(&semaphore, 0, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(contend, i);
  threads.emplace_back(consume);
  threads.emplace_back(count_alarms);
  threads.emplace_back(fork_now_and_then);
  if (count > 2) threads.emplace_back(load_and_unload, arguments[2]);
  say("ready\n");
  const itimerval often{{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  for (const Guarded& one : guarded)
    if (one.value != one.expected || one.value == 0) say("wrong sum\n");
  if (shared_value != shared_expected) say("wrong shared sum\n");
  say("storm over\n");
  char command[64];
  while (await_command(command, sizeof command)) say("done\n");
}
