// Threads with the smallest stack that POSIX allows must start and use the heap.
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static int worked;

NOINLINE void* small_worker(void* unused) {
  void* block = malloc(3001);
  USE(block);
  __atomic_add_fetch(&worked, block != NULL, __ATOMIC_RELAXED);
  END_OF_FRAME();
  return unused;
}

int main(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
  for (int i = 0; i < 100; ++i) {
    pthread_t thread;
    const int error = pthread_create(&thread, &attributes, small_worker, NULL);
    if (error != 0) {
      char line[64];
      snprintf(line, sizeof line, "pthread_create: %s\n", strerrorname_np(error));
      say(line);
      return 1;
    }
    pthread_join(thread, NULL);
  }
  char line[64];
  snprintf(line, sizeof line, "%d worked\n", worked);
  say(line);
  serve_until_end();
  return 0;
}
