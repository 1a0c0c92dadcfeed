// ROUNDS times, by a few pairs of threads: one gives a mutex back, and the one that waited for it unmaps the
// page that it lies in, as soon as it has it: what touches the mutex after that crashes.
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kPairs = 4 };
struct Pair {
  pthread_t threads[2];
  pthread_mutex_t* shared;
  sem_t begin;
  sem_t taken_away;
};
static struct Pair pairs[kPairs];
static int rounds;

static void* take_and_unmap(void* argument) {
  struct Pair* pair = argument;
  for (int i = 0; i < rounds; ++i) {
    sem_wait(&pair->begin);
    pthread_mutex_t* mutex = pair->shared;
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
    munmap(mutex, 4096);
    sem_post(&pair->taken_away);
  }
  return NULL;
}

NOINLINE static void* gives_back(void* argument) {
  struct Pair* pair = argument;
  for (int i = 0; i < rounds; ++i) {
    pthread_mutex_t* mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mutex == MAP_FAILED) _exit(2);
    pthread_mutex_init(mutex, NULL);
    pthread_mutex_lock(mutex);
    pair->shared = mutex;
    sem_post(&pair->begin);
    // Until it is waited for, more or less: the word of a lock that somebody sleeps for is 2.
    for (int tries = 0; tries < 50 && __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) < 2; ++tries)
      sched_yield();
    pthread_mutex_unlock(mutex);
    sem_wait(&pair->taken_away);
  }
  return NULL;
}

int main(int count, char** arguments) {
  rounds = (count > 1 ? atoi(arguments[1]) : 100000) / kPairs;
  for (int i = 0; i < kPairs; ++i) {
    sem_init(&pairs[i].begin, 0, 0);
    sem_init(&pairs[i].taken_away, 0, 0);
    pthread_create(&pairs[i].threads[0], NULL, take_and_unmap, &pairs[i]);
    pthread_create(&pairs[i].threads[1], NULL, gives_back, &pairs[i]);
  }
  for (int i = 0; i < 2 * kPairs; ++i) pthread_join(pairs[i / 2].threads[i % 2], NULL);
  say("all gone\n");
  serve_until_end();
  return 0;
}
