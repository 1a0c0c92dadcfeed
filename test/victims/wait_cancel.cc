// Threads that are cancelled while they wait: C cleanups and C++ destructors run, in the right order, the
// mutex of a condition is held again, and a thread that is joined meanwhile can still be joined. Then other
// threads contend for a lock, in a function contends_later. The same lines must come with the agent and
// without it.
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

namespace {

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
mtx_t mtx;
cnd_t cnd;
sem_t semaphore;
sem_t end_of_joined;
pthread_t joined;
int tid;
timespec real_end;
timespec steady_end;

struct Guard {
  const char* text;
  ~Guard() { say(text); }
};

void on_cleanup(void* argument) {
  say(static_cast<const char*>(argument));
}

void on_cleanup_with_mutex(void*) {
  say(pthread_mutex_trylock(&mutex) != 0 ? "  the mutex is held\n" : "  the mutex is NOT held\n");
  pthread_mutex_unlock(&mutex);
}

void ready() {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
}

struct Case {
  const char* name;
  void (*wait)();
};

void with_mutex(void (*wait)()) {
  pthread_mutex_lock(&mutex);
  pthread_cleanup_push(on_cleanup_with_mutex, nullptr);
  ready();
  wait();
  pthread_cleanup_pop(1);
}

const Case kCases[] = {
    {"pthread_cond_wait", [] { with_mutex([] { pthread_cond_wait(&cond, &mutex); }); }},
    {"pthread_cond_timedwait", [] { with_mutex([] { pthread_cond_timedwait(&cond, &mutex, &real_end); }); }},
    {"pthread_cond_clockwait",
     [] { with_mutex([] { pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &steady_end); }); }},
    {"cnd_wait",
     [] {
       mtx_lock(&mtx);
       pthread_cleanup_push([](void*) { mtx_unlock(&mtx); }, nullptr);
       ready();
       cnd_wait(&cnd, &mtx);
       pthread_cleanup_pop(1);
     }},
    {"cnd_timedwait",
     [] {
       mtx_lock(&mtx);
       pthread_cleanup_push([](void*) { mtx_unlock(&mtx); }, nullptr);
       ready();
       cnd_timedwait(&cnd, &mtx, &real_end);
       pthread_cleanup_pop(1);
     }},
    {"sem_wait",
     [] {
       ready();
       sem_wait(&semaphore);
     }},
    {"sem_timedwait",
     [] {
       ready();
       sem_timedwait(&semaphore, &real_end);
     }},
    {"sem_clockwait",
     [] {
       ready();
       sem_clockwait(&semaphore, CLOCK_MONOTONIC, &steady_end);
     }},
    {"pthread_join",
     [] {
       ready();
       pthread_join(joined, nullptr);
     }},
    {"pthread_timedjoin_np",
     [] {
       ready();
       pthread_timedjoin_np(joined, nullptr, &real_end);
     }},
    {"pthread_clockjoin_np",
     [] {
       ready();
       pthread_clockjoin_np(joined, nullptr, CLOCK_MONOTONIC, &steady_end);
     }},
};

void* run(void* argument) {
  const auto& one = *static_cast<const Case*>(argument);
  const Guard outer{"  outer destructor\n"};
  pthread_cleanup_push(on_cleanup, const_cast<char*>("  cleanup\n"));
  {
    const Guard inner{"  inner destructor\n"};
    try {
      one.wait();
    } catch (...) {
      say("  caught and rethrown\n");
      throw;
    }
  }
  pthread_cleanup_pop(0);
  say("  NOT cancelled\n");
  return nullptr;
}

// A semaphore that is free is a cancellation point all the same.
void* cancelled_before(void*) {
  sem_t free;
  sem_init(&free, 0, 1);
  const Guard guard{"  destructor\n"};
  pthread_cancel(pthread_self());
  sem_wait(&free);
  say("  NOT cancelled\n");
  return nullptr;
}

// A mutex is none.
bool passed_mutex = false;
void* not_in_a_mutex(void*) {
  pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
  pthread_cancel(pthread_self());
  pthread_mutex_lock(&own);
  pthread_mutex_unlock(&own);
  passed_mutex = true;
  pthread_testcancel();
  say("  NOT cancelled\n");
  return nullptr;
}

void tell_end_of(pthread_t thread) {
  void* result = nullptr;
  pthread_join(thread, &result);
  say(result == PTHREAD_CANCELED ? "  cancelled\n" : "  returned\n");
}

void run_alone(const char* name, void* (*function)(void*)) {
  pthread_t thread;
  say(name);
  pthread_create(&thread, nullptr, function, nullptr);
  tell_end_of(thread);
}

}  // namespace

NOINLINE void contends_later() {
  ready();
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
}

NOINLINE void gives_back_later() {
  pthread_t thread;
  pthread_mutex_lock(&mutex);
  tid = 0;
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        contends_later();
        return nullptr;
      },
      nullptr);
  await_sleep(&tid);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, nullptr);
}

int main() {
  real_end = in_a_minute(CLOCK_REALTIME);
  steady_end = in_a_minute(CLOCK_MONOTONIC);
  sem_init(&semaphore, 0, 0);
  sem_init(&end_of_joined, 0, 0);
  mtx_init(&mtx, mtx_plain);
  cnd_init(&cnd);
  pthread_create(
      &joined, nullptr,
      [](void*) -> void* {
        sem_wait(&end_of_joined);
        return nullptr;
      },
      nullptr);
  for (const Case& one : kCases) {
    pthread_t thread;
    tid = 0;
    say(one.name);
    say("\n");
    pthread_create(&thread, nullptr, run, const_cast<Case*>(&one));
    await_sleep(&tid);
    pthread_cancel(thread);
    tell_end_of(thread);
  }
  run_alone("before a free semaphore\n", cancelled_before);
  run_alone("before a free mutex\n", not_in_a_mutex);
  say(passed_mutex ? "  after it\n" : "  IN it\n");
  sem_post(&end_of_joined);
  tell_end_of(joined);
  gives_back_later();
  serve_until_end();
}
