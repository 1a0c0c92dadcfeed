// A program linked in 2002: its condition variables are one pointer, and their functions have the version
// GLIBC_2.2.5. Behind each lies something of the program's own.
#include <errno.h>
#include <pthread.h>
#include <stdint.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

struct OldCond {
  void* only;
};

int old_init(struct OldCond* cond, const void* attributes);
int old_destroy(struct OldCond* cond);
int old_signal(struct OldCond* cond);
int old_broadcast(struct OldCond* cond);
int old_wait(struct OldCond* cond, pthread_mutex_t* mutex);
int old_timedwait(struct OldCond* cond, pthread_mutex_t* mutex, const struct timespec* until);
__asm__(".symver old_init, pthread_cond_init@GLIBC_2.2.5");
__asm__(".symver old_destroy, pthread_cond_destroy@GLIBC_2.2.5");
__asm__(".symver old_signal, pthread_cond_signal@GLIBC_2.2.5");
__asm__(".symver old_broadcast, pthread_cond_broadcast@GLIBC_2.2.5");
__asm__(".symver old_wait, pthread_cond_wait@GLIBC_2.2.5");
__asm__(".symver old_timedwait, pthread_cond_timedwait@GLIBC_2.2.5");

enum { kGuardBytes = 64 };
struct Guarded {
  struct OldCond cond;
  unsigned char guard[kGuardBytes];
};

static struct Guarded signalled;
static struct Guarded broadcast;
static struct Guarded initialized;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int turns;
static int tid;

NOINLINE static void waits_as_of_old(struct OldCond* cond) {
  pthread_mutex_lock(&mutex);
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  while (turns == 0) old_wait(cond, &mutex);
  --turns;
  pthread_mutex_unlock(&mutex);
}

static void* wait_here(void* cond) {
  waits_as_of_old(cond);
  return NULL;
}

static void wake(struct OldCond* cond, int (*how)(struct OldCond*)) {
  pthread_t thread;
  tid = 0;
  pthread_create(&thread, NULL, wait_here, cond);
  await_sleep(&tid);
  pthread_mutex_lock(&mutex);
  ++turns;
  how(cond);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
}

int main(void) {
  struct Guarded* all[] = {&signalled, &broadcast, &initialized};
  char line[128];
  for (int i = 0; i < 3; ++i) memset(all[i]->guard, 0xa5, kGuardBytes);
  // A static initializer of that time is one null pointer.
  wake(&signalled.cond, old_signal);
  wake(&broadcast.cond, old_broadcast);
  const int made = old_init(&initialized.cond, NULL);
  wake(&initialized.cond, old_signal);
  struct timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec = (soon.tv_nsec + 20000000) % 1000000000;
  soon.tv_sec += soon.tv_nsec < 20000000;
  pthread_mutex_lock(&mutex);
  const int timed = old_timedwait(&initialized.cond, &mutex, &soon);
  pthread_mutex_unlock(&mutex);
  const int destroyed = old_destroy(&initialized.cond);
  int clobbered = 0;
  for (int i = 0; i < 3; ++i)
    for (int byte = 0; byte < kGuardBytes; ++byte) clobbered += all[i]->guard[byte] != 0xa5;
  snprintf(line, sizeof line, "init %d, timed out %d, destroy %d\nguard bytes clobbered: %d\n", made,
           timed == ETIMEDOUT, destroyed, clobbered);
  say(line);
  serve_until_end();
  return 0;
}
