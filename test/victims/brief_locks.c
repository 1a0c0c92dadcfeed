// Two threads want one lock all the time, and hardly ever long enough to sleep: one keeps it for some 500 ns
// each time, the other gives it back at once.
//
//   brief_locks MS
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int stop;

static int is_over(void) {
  return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

NOINLINE static void* keeps_briefly(void* argument) {
  while (!is_over()) {
    pthread_mutex_lock(&lock);
    spin(1500);
    pthread_mutex_unlock(&lock);
    spin(1500);
  }
  return argument;
}

NOINLINE static void* passes_by(void* argument) {
  while (!is_over()) {
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    spin(1500);
  }
  return argument;
}

int main(int argc, char** argv) {
  pthread_t threads[2];
  if (argc != 2) return 2;
  pthread_create(&threads[0], NULL, keeps_briefly, NULL);
  pthread_create(&threads[1], NULL, passes_by, NULL);
  usleep((useconds_t)atoi(argv[1]) * 1000);
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  serve_until_end();
  return 0;
}
