// Three functions whose wall-clock time is known exactly: three threads ("worker") run, sleep and wait for a
// lock in turns of random length, and read the clock at every change. Nobody ever gives the lock back.
//
// Command "window BEGIN END", two times of the wall clock in ns, prints what was spent between them:
// "functions RUNS SLEEPS LOCKS", ns.
// Command "live COUNT MS": so many threads ("brief"), sixteen at a time, each of which sleeps that long in
// lives() and measures it. Prints "lived NS", the sum.
// Command "work": the workers start; before that they wait.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kFunctions = 3, kWorkers = 3, kRecords = 1 << 14, kAtATime = 16 };
static const uint64_t kMillisecond = 1000000;

// How far a thread had come at a time.
struct Record {
  uint64_t time;
  uint64_t spent[kFunctions];
};
struct Worker {
  struct Record records[kRecords];
  uint64_t count;  // of records; written by the thread, with release
  int number;
};
static struct Worker workers[kWorkers];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t begin;

static uint64_t wall(void) {
  return clock_nanos(CLOCK_REALTIME);
}

static struct timespec timespec_of(uint64_t time) {
  return (struct timespec){(time_t)(time / 1000000000), (long)(time % 1000000000)};
}

static void sleep_until(uint64_t end) {
  const struct timespec time = timespec_of(end);
  while (wall() < end) clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}

NOINLINE void runs(uint64_t end) {
  while (wall() < end) spin(20000);
  END_OF_FRAME();
}
NOINLINE void sleeps(uint64_t end) {
  sleep_until(end);
  END_OF_FRAME();
}
NOINLINE void locks(uint64_t end) {
  const struct timespec time = timespec_of(end);
  while (wall() < end) pthread_mutex_timedlock(&lock, &time);
  END_OF_FRAME();
}
static void (*const functions[kFunctions])(uint64_t) = {runs, sleeps, locks};

static void* work(void* argument) {
  struct Worker* worker = argument;
  uint64_t random = 2463534242u + (uint64_t)worker->number * 7919;
  struct Record now = {0, {0}};
  name_thread("worker");
  while (sem_wait(&begin) != 0) {
  }
  now.time = wall();
  for (;;) {
    worker->records[worker->count % kRecords] = now;
    __atomic_store_n(&worker->count, worker->count + 1, __ATOMIC_RELEASE);
    // Two parts of running, three of sleep, five of the lock.
    const uint64_t choice = next_random(&random) % 10;
    const int chosen = choice < 2 ? 0 : choice < 5 ? 1 : 2;
    functions[chosen](now.time + (20 + next_random(&random) % 60) * kMillisecond);
    const uint64_t after = wall();
    now.spent[chosen] += after - now.time;
    now.time = after;
  }
  return NULL;
}

// Between two records a thread is in one function, so a straight line is exact.
static void spent_at(const struct Worker* worker, uint64_t time, double* spent) {
  uint64_t count;
  while ((count = __atomic_load_n(&worker->count, __ATOMIC_ACQUIRE)) == 0 ||
         worker->records[(count - 1) % kRecords].time < time)
    sleep_until(wall() + kMillisecond);
  uint64_t i = count - 1;
  while (i > 0 && count - i < kRecords - 2 && worker->records[(i - 1) % kRecords].time >= time) --i;
  const struct Record* after = &worker->records[i % kRecords];
  const struct Record* before = i == 0 ? after : &worker->records[(i - 1) % kRecords];
  const double part = i == 0 ? 0 : (double)(time - before->time) / (double)(after->time - before->time);
  for (int f = 0; f < kFunctions; ++f)
    spent[f] = (double)before->spent[f] + part * (double)(after->spent[f] - before->spent[f]);
}

static void print_window(uint64_t first, uint64_t last) {
  double sums[kFunctions] = {0};
  for (int i = 0; i < kWorkers; ++i) {
    double from[kFunctions];
    double to[kFunctions];
    spent_at(&workers[i], first, from);
    spent_at(&workers[i], last, to);
    for (int f = 0; f < kFunctions; ++f) sums[f] += to[f] - from[f];
  }
  char line[128];
  snprintf(line, sizeof line, "functions %.0f %.0f %.0f\n", sums[0], sums[1], sums[2]);
  say(line);
}

static uint64_t life_ms;
static uint64_t lived;
NOINLINE void* lives(void* unused) {
  const uint64_t born = wall();
  name_thread("brief");
  sleep_until(born + life_ms * kMillisecond);
  __atomic_fetch_add(&lived, wall() - born, __ATOMIC_RELAXED);
  END_OF_FRAME();
  return unused;
}

static void live(int count) {
  pthread_t threads[kAtATime];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (int done = 0; done < count; done += kAtATime) {
    int started = 0;
    while (started < kAtATime && done + started < count)
      if (pthread_create(&threads[started++], &small, lives, NULL) != 0) _exit(1);
    for (int i = 0; i < started; ++i) pthread_join(threads[i], NULL);
  }
  char line[64];
  snprintf(line, sizeof line, "lived %lu\n", (unsigned long)lived);
  say(line);
}

int main(void) {
  pthread_t thread;
  sem_init(&begin, 0, 0);
  for (int i = 0; i < kWorkers; ++i) {
    workers[i].number = i;
    if (pthread_create(&thread, NULL, work, &workers[i]) != 0) return 1;
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    unsigned long first = 0;
    unsigned long last = 0;
    int count = 0;
    if (strcmp(command, "work") == 0) {
      pthread_mutex_lock(&lock);
      for (int i = 0; i < kWorkers; ++i) sem_post(&begin);
    }
    if (sscanf(command, "window %lu %lu", &first, &last) == 2) print_window(first, last);
    if (sscanf(command, "live %d %lu", &count, &life_ms) == 2) live(count);
    say("done\n");
  }
  exit(0);
}
