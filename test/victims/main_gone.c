// The main thread leaves by pthread_exit: /proc/self/maps, exe and cmdline are empty from then on, and
// process_vm_readv of getpid() is ESRCH. Another thread goes on.
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static void* kept[2];

NOINLINE void after_main(void) {
  kept[1] = malloc(1999957);
  END_OF_FRAME();
}

NOINLINE void before_main_ends(void) {
  kept[0] = malloc(1999943);
  END_OF_FRAME();
}

static void* go_on(void* main_thread) {
  pthread_join(*(pthread_t*)main_thread, NULL);
  after_main();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    after_main();
    say("done\n");
  }
  exit(0);
}

int main(void) {
  static pthread_t self;
  self = pthread_self();
  before_main_ends();
  pthread_t thread;
  pthread_create(&thread, NULL, go_on, &self);
  pthread_exit(NULL);
}
