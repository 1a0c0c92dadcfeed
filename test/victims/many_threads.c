// A thousand threads, each of which allocates once and then waits. Prints how many descriptors are open.
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

enum { kThreads = 1000 };
static sem_t go_on, started;

NOINLINE void thread_home(void) {
  void* block = malloc(5003);
  USE(block);
  END_OF_FRAME();
}

static void* work(void* unused) {
  thread_home();
  sem_post(&started);
  sem_wait(&go_on);
  return unused;
}

static int count_descriptors(void) {
  int count = 0;
  DIR* folder = opendir("/proc/self/fd");
  while (readdir(folder) != NULL) ++count;
  closedir(folder);
  return count;
}

int main(void) {
  static pthread_t threads[kThreads];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  sem_init(&go_on, 0, 0);
  sem_init(&started, 0, 0);
  char line[64];
  snprintf(line, sizeof line, "before %d\n", count_descriptors());
  say(line);
  for (int i = 0; i < kThreads; ++i)
    if (pthread_create(&threads[i], &attributes, work, NULL) != 0) return 1;
  for (int i = 0; i < kThreads; ++i) sem_wait(&started);
  snprintf(line, sizeof line, "with 1000 threads %d\n", count_descriptors());
  say(line);
  serve_until_end();
  for (int i = 0; i < kThreads; ++i) sem_post(&go_on);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  return 0;
}
