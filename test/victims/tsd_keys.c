// All the cheap thread-specific keys are taken (index 32 and above make pthread_setspecific allocate) before
// threads allocate.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static pthread_key_t keys[40];

__attribute__((constructor)) static void take_keys(void) {
  for (int i = 0; i < 40; ++i)
    if (pthread_key_create(&keys[i], NULL) != 0) _exit(4);
}

NOINLINE void keyed_home(void) {
  void* block = malloc(4001);
  USE(block);
  END_OF_FRAME();
}

static void* work(void* unused) {
  keyed_home();
  for (int i = 0; i < 40; ++i) pthread_setspecific(keys[i], &keys[i]);
  keyed_home();
  for (int i = 0; i < 40; ++i)
    if (pthread_getspecific(keys[i]) != &keys[i]) say("a key lost its value\n");
  return unused;
}

int main(void) {
  for (int i = 0; i < 20; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) return 1;
    pthread_join(thread, NULL);
  }
  serve_until_end();
  return 0;
}
