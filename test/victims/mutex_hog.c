// Threads that contend for one lock when told to:
//   hog1 N MS, hog2 N MS   keeps it for MS ms after N threads have come to wait for it
//   pingpong N             two threads wait for each other, N times
//   quiet N                N times all that takes locks without waiting
//   pairs N                N times a lock of each kind is taken, and given back
// Prints the lock's address, and for a hog "hog1 at_least at_most": what the N have waited in all until it
// gave the lock back, in ns.
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kMostWaiters = 200 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int tids[kMostWaiters];
static long long begins[kMostWaiters];

NOINLINE static void* waits(void* argument) {
  const long i = (long)argument;
  begins[i] = now_ns();
  __atomic_store_n(&tids[i], own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return NULL;
}

// Which of the two gives the lock back is all that tells them apart.
static long long keep_busy(long count, long ms, pthread_t* threads) {
  for (long i = 0; i < count; ++i) {
    tids[i] = 0;
    if (pthread_create(&threads[i], NULL, waits, (void*)i) != 0) _exit(2);
  }
  for (long i = 0; i < count; ++i) await_sleep(&tids[i]);
  const long long begin = now_ns();
  sleep_ms(ms);
  return now_ns() - begin;
}

static void finish(const char* name, long count, long long known, pthread_t* threads) {
  char line[128];
  long long most = 0;
  const long long end = now_ns();
  for (long i = 0; i < count; ++i) {
    most += end - begins[i];
    pthread_join(threads[i], NULL);
  }
  snprintf(line, sizeof line, "%s %lld %lld\n", name, count * known, most);
  say(line);
}

NOINLINE static void hog1(long count, long ms) {
  pthread_t threads[kMostWaiters];
  pthread_mutex_lock(&lock);
  const long long known = keep_busy(count, ms, threads);
  pthread_mutex_unlock(&lock);
  finish("hog1", count, known, threads);
}

NOINLINE static void hog2(long count, long ms) {
  pthread_t threads[kMostWaiters];
  pthread_mutex_lock(&lock);
  const long long known = keep_busy(count, ms, threads);
  pthread_mutex_unlock(&lock);
  finish("hog2", count, known, threads);
}

struct Player {
  pthread_t thread;
  pthread_mutex_t* first;
  int tid;
  int rounds;
  sem_t turn;
};
static struct Player players[2];

// A player holds the lock until the other one sleeps in it.
NOINLINE static void play(struct Player* me, struct Player* other) {
  for (int i = 0; i < me->rounds; ++i) {
    pthread_mutex_lock(&lock);
    sem_post(&other->turn);
    await_sleep(&other->tid);
    pthread_mutex_unlock(&lock);
    sem_wait(&me->turn);
    __atomic_store_n(&me->tid, own_tid(), __ATOMIC_RELEASE);
    pthread_mutex_lock(&lock);
    __atomic_store_n(&me->tid, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    sem_post(&other->turn);
    sem_wait(&me->turn);
  }
}

NOINLINE static void play_back(struct Player* me, struct Player* other) {
  for (int i = 0; i < me->rounds; ++i) {
    sem_wait(&me->turn);
    __atomic_store_n(&me->tid, own_tid(), __ATOMIC_RELEASE);
    pthread_mutex_lock(&lock);
    __atomic_store_n(&me->tid, 0, __ATOMIC_RELEASE);
    sem_post(&other->turn);
    await_sleep(&other->tid);
    pthread_mutex_unlock(&lock);
    sem_wait(&me->turn);
    sem_post(&other->turn);
  }
}

static void* run_player(void* argument) {
  struct Player* me = argument;
  if (me == &players[0]) {
    play(me, &players[1]);
  } else {
    play_back(me, &players[0]);
  }
  return NULL;
}

static void pingpong(int rounds) {
  for (int i = 0; i < 2; ++i) {
    players[i].rounds = rounds;
    players[i].tid = 0;
    sem_init(&players[i].turn, 0, 0);
  }
  for (int i = 0; i < 2; ++i) pthread_create(&players[i].thread, NULL, run_player, &players[i]);
  for (int i = 0; i < 2; ++i) pthread_join(players[i].thread, NULL);
}

NOINLINE static void pairs(int times) {
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  mtx_t mtx;
  sem_t semaphore;
  mtx_init(&mtx, mtx_plain);
  sem_init(&semaphore, 0, 0);
  for (int i = 0; i < times; ++i) {
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    pthread_rwlock_wrlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    mtx_lock(&mtx);
    mtx_unlock(&mtx);
    sem_post(&semaphore);
    sem_wait(&semaphore);
  }
}

// Besides those: locks that are taken and only tried, time limits, and signals that nobody waits for.
NOINLINE static void quiet(int times) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t taken = PTHREAD_MUTEX_INITIALIZER;
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  sem_t semaphore;
  const struct timespec soon = in_a_minute(CLOCK_REALTIME);
  sem_init(&semaphore, 0, 0);
  pthread_mutex_lock(&taken);
  for (int i = 0; i < times; ++i) {
    if (pthread_mutex_trylock(&taken) == 0) _exit(3);
    if (pthread_mutex_trylock(&mutex) != 0) _exit(3);
    pthread_mutex_unlock(&mutex);
    pairs(1);
    pthread_mutex_timedlock(&mutex, &soon);
    pthread_mutex_unlock(&mutex);
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_rdlock(&rwlock);
    if (pthread_rwlock_trywrlock(&rwlock) == 0) _exit(3);
    pthread_rwlock_unlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    if (sem_trywait(&semaphore) == 0) _exit(3);
    pthread_cond_signal(&cond);
    pthread_cond_broadcast(&cond);
    syscall(SYS_getpid);
  }
  pthread_mutex_unlock(&taken);
}

int main(void) {
  char line[64];
  char command[64];
  snprintf(line, sizeof line, "lock %p\nready\n", (void*)&lock);
  say(line);
  while (await_command(command, sizeof command)) {
    char* end = strchr(command, ' ');
    const long count = end == NULL ? 1 : strtol(end, &end, 10);
    const long ms = end == NULL ? 0 : strtol(end, NULL, 10);
    if (strncmp(command, "hog1", 4) == 0) hog1(count, ms);
    if (strncmp(command, "hog2", 4) == 0) hog2(count, ms);
    if (strncmp(command, "pingpong", 8) == 0) pingpong((int)count);
    if (strncmp(command, "quiet", 5) == 0) quiet((int)count);
    if (strncmp(command, "pairs", 5) == 0) pairs((int)count);
    say("done\n");
  }
  return 0;
}
