// Gives up the processor's counter (PR_SET_TSC): to read it, or the time by the vDSO, is a fault from then
// on. A thread allocates, a lock that another one waits for is given back, a sleep ends. With an argument it
// does so before there is any thread, which those that are made later inherit, and answers commands.
#include <linux/prctl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int tid;

static void* allocates(void* unused) {
  for (int i = 0; i < 3000; ++i) free(malloc(1000));
  return unused;
}

static void* waits(void* unused) {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  return unused;
}

static void give_up_counter(void) {
  if (prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) != 0) say("not given up\n");
}

int main(int argc, char** argv) {
  (void)argv;
  if (argc > 1) {
    give_up_counter();
    serve_until_end();
    return 0;
  }
  pthread_t threads[2];
  pthread_mutex_lock(&mutex);
  pthread_create(&threads[0], NULL, waits, NULL);
  while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0 || !is_asleep(tid)) sleep_ms(1);
  give_up_counter();
  pthread_create(&threads[1], NULL, allocates, NULL);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  usleep(1000);
  say("ready\n");
  return 0;
}
