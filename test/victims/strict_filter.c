// A thread that may only read, write and end: it waits for a byte, takes a lock that is free, and says how
// far it came. Any other system call ends it on the spot, as does a look at the processor's time stamp
// counter.
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static int to_prisoner[2];
static int from_prisoner[2];
static int tid;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void report(char step) {
  if (write(from_prisoner[1], &step, 1) != 1) syscall(SYS_exit, 1);
}

NOINLINE static void* reads_in_prison(void* argument) {
  char byte = '-';
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return argument;
  __atomic_store_n(&tid, *(int*)argument, __ATOMIC_RELEASE);
  report('a');
  if (read(to_prisoner[0], &byte, 1) == 1) report(byte);
  if (pthread_mutex_lock(&mutex) == 0) report('c');
  if (pthread_mutex_unlock(&mutex) == 0) report('d');
  syscall(SYS_exit, 0);
  return argument;
}

static void* begin(void* argument) {
  int own = own_tid();
  (void)argument;
  return reads_in_prison(&own);
}

int main(void) {
  pthread_t thread;
  char steps[8] = "";
  if (pipe(to_prisoner) != 0 || pipe(from_prisoner) != 0) return 2;
  pthread_create(&thread, NULL, begin, NULL);
  int has_ended = 0;
  while (!has_ended && !is_asleep(__atomic_load_n(&tid, __ATOMIC_ACQUIRE))) {
    sleep_ms(1);
    has_ended = pthread_tryjoin_np(thread, NULL) == 0;
  }
  if (write(to_prisoner[1], "b", 1) != 1) return 2;
  if (!has_ended) pthread_join(thread, NULL);
  close(from_prisoner[1]);
  for (size_t size = 0; size + 1 < sizeof steps && read(from_prisoner[0], steps + size, 1) == 1; ++size) {
  }
  say("steps: ");
  say(steps);
  say("\n");
  serve_until_end();
  return 0;
}
