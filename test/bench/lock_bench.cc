// Locks that nobody else wants, for bench.py under one preloaded library or another.
//
//   lock_bench OPERATION PAIRS
//
// Makes PAIRS pairs of lock and unlock (OPERATION mutex, read, write), sem_post and sem_wait (semaphore), or
// signal and broadcast without waiters (cond), and prints the nanoseconds per pair. Two runs that differ in
// PAIRS only, under callgrind, give the instructions of one pair: start-up cancels out.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <pthread.h>
#include <semaphore.h>

namespace {

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
sem_t semaphore;

template <typename Pair>
void run_pairs(long pairs, Pair pair) {
  const auto begin = std::chrono::steady_clock::now();
  for (long i = 0; i < pairs; ++i) pair();
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", spent.count() / static_cast<double>(pairs));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const char* operation = arguments[1];
  const long pairs = std::strtol(arguments[2], nullptr, 10);
  sem_init(&semaphore, 0, 0);
  if (std::strcmp(operation, "mutex") == 0) {
    run_pairs(pairs, [] {
      pthread_mutex_lock(&mutex);
      pthread_mutex_unlock(&mutex);
    });
  } else if (std::strcmp(operation, "read") == 0) {
    run_pairs(pairs, [] {
      pthread_rwlock_rdlock(&rwlock);
      pthread_rwlock_unlock(&rwlock);
    });
  } else if (std::strcmp(operation, "write") == 0) {
    run_pairs(pairs, [] {
      pthread_rwlock_wrlock(&rwlock);
      pthread_rwlock_unlock(&rwlock);
    });
  } else if (std::strcmp(operation, "semaphore") == 0) {
    run_pairs(pairs, [] {
      sem_post(&semaphore);
      sem_wait(&semaphore);
    });
  } else if (std::strcmp(operation, "cond") == 0) {
    run_pairs(pairs, [] {
      pthread_cond_signal(&cond);
      pthread_cond_broadcast(&cond);
    });
  } else {
    return 2;
  }
}
