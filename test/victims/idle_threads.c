// Nothing but waiting: the main thread reads, and others wait in each of the usual ways, for ever.
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "test/victims/kit.h"

static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void* by_semaphore(void* unused) {
  for (;;) sem_wait(&never);
  return unused;
}
static void* by_condition(void* unused) {
  pthread_mutex_lock(&mutex);
  for (;;) pthread_cond_wait(&condition, &mutex);
  return unused;
}
static void* by_poll(void* unused) {
  for (;;) poll(NULL, 0, -1);
  return unused;
}
static void* by_sleep(void* unused) {
  const struct timespec hour = {3600, 0};
  for (;;) nanosleep(&hour, NULL);
  return unused;
}
static void* by_read(void* unused) {
  int ends[2];
  char byte;
  if (pipe(ends) != 0) _exit(1);
  for (;;)
    if (read(ends[0], &byte, 1) == 1) _exit(1);
  return unused;
}

int main(void) {
  void* (*const ways[])(void*) = {by_semaphore, by_condition, by_poll, by_sleep, by_read};
  sem_init(&never, 0, 0);
  for (size_t i = 0; i < 10; ++i) {
    pthread_t thread;
    pthread_create(&thread, NULL, ways[i % 5], NULL);
  }
  serve_until_end();
  exit(0);
}
