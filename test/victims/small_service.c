// Something like a server, with a little of everything for every profile to show: three workers take records
// in and out of a store under one lock, compute for a moment, and wait; now and then one starts a thread.
// Until the input ends. Arguments mean nothing.
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kRecords = 1000, kWorkers = 3 };
static pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;
static void* store[kRecords];

NOINLINE static void* helps(void* argument) {
  return argument;
}

NOINLINE static void replaces_a_record(unsigned i) {
  pthread_mutex_lock(&store_lock);
  free(store[i % kRecords]);
  store[i % kRecords] = malloc(1000 + i % 5000);
  burn(200000);
  pthread_mutex_unlock(&store_lock);
}

static void* works(void* argument) {
  for (unsigned i = 0;; ++i) {
    replaces_a_record(i);
    usleep(5000);
    pthread_t helper;
    if (i % 500 == 0 && pthread_create(&helper, NULL, helps, NULL) == 0) pthread_join(helper, NULL);
  }
  return argument;
}

int main(void) {
  for (int i = 0; i < kWorkers; ++i) {
    pthread_t worker;
    pthread_create(&worker, NULL, works, NULL);
  }
  serve_until_end();
  return 0;
}
