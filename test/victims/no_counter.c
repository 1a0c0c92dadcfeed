// Gives up the processor's counter (PR_SET_TSC): to read it, or the time by the vDSO, is a fault from then
// on. A thread allocates, a lock that another one waits for is given back, a sleep ends. With "first" it
// does so before there is any thread, which those that are made later inherit, and answers commands. With
// another argument it does so by syscall().
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

static void give_up_counter(int by_syscall) {
  const long result = by_syscall ? syscall(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0)
                                 : prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
  if (result != 0) say("not given up\n");
}

int main(int argc, char** argv) {
  const int is_first = argc > 1 && strcmp(argv[1], "first") == 0;
  if (is_first) {
    give_up_counter(0);
    serve_until_end();
    return 0;
  }
  pthread_t threads[2];
  pthread_mutex_lock(&mutex);
  pthread_create(&threads[0], NULL, waits, NULL);
  while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0 || !is_asleep(tid)) sleep_ms(1);
  give_up_counter(argc > 1);
  pthread_create(&threads[1], NULL, allocates, NULL);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  usleep(1000);
  say("ready\n");
  return 0;
}
