// A thread waits for a lock, and while a signal handler keeps it from taking it, the one who has given it
// back takes it again.
//
//   overtaken [N]
//
// Prints "NAME at_least at_most": what was waited for each of the two unlocks, in ns. With N, it is taken and
// given back N times in between, at once, and what is printed is the time for all of them.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int tid;
static long long begin;
static int is_kept;
static int may_go_on;

static void keep(int number) {
  (void)number;
  __atomic_store_n(&is_kept, 1, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&may_go_on, __ATOMIC_ACQUIRE)) sched_yield();
}

NOINLINE static void* waits(void* argument) {
  begin = now_ns();
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return argument;
}

NOINLINE static void gives_back(void) {
  pthread_mutex_unlock(&lock);
  END_OF_FRAME();
}
NOINLINE static void gives_back_again(void) {
  pthread_mutex_unlock(&lock);
  END_OF_FRAME();
}

NOINLINE static void gives_back_often(int times) {
  for (int i = 0; i < times; ++i) {
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
  }
}

static void tell(const char* name, long long at_least, long long at_most) {
  char line[128];
  snprintf(line, sizeof line, "%s %lld %lld\n", name, at_least, at_most);
  say(line);
}

int main(int argc, char** argv) {
  pthread_t thread;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = keep;
  sigaction(SIGUSR2, &action, NULL);

  pthread_mutex_lock(&lock);
  pthread_create(&thread, NULL, waits, NULL);
  await_sleep(&tid);
  const long long asleep = now_ns();
  sleep_ms(30);
  pthread_kill(thread, SIGUSR2);
  while (!__atomic_load_n(&is_kept, __ATOMIC_ACQUIRE)) sleep_ms(1);

  const long long before_first = now_ns();
  gives_back();
  const long long after_first = now_ns();
  if (argc > 1) gives_back_often(atoi(argv[1]));
  const long long before_hold = now_ns();
  pthread_mutex_lock(&lock);
  sleep_ms(50);
  const long long before_second = now_ns();
  gives_back_again();
  const long long after_second = now_ns();

  __atomic_store_n(&may_go_on, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  if (argc > 1) {
    tell("all", before_second - asleep, after_second - begin);
    tell("gives_back_again", before_second - before_hold, after_second - before_first);
  } else {
    tell("gives_back", before_first - asleep, after_first - begin);
    tell("gives_back_again", before_second - after_first, after_second - before_first);
  }
  serve_until_end();
  return 0;
}
