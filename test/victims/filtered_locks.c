// A thread that may not ask for its own id gives back locks that another one waits for. Says which it gave
// back.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static struct sock_filter instructions[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

enum { kLocks = 3 };
static pthread_mutex_t locks[kLocks];
static int turn;
static int tid;

static void await_turn(int number) {
  while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != number) {
  }
}

// No wait of its own before the unlocks.
static void* give_back(void* argument) {
  const struct sock_fprog filter = {sizeof instructions / sizeof *instructions, instructions};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) return argument;
  for (int i = 0; i < kLocks; ++i) {
    pthread_mutex_lock(&locks[i]);
    __atomic_store_n(&turn, 2 * i + 1, __ATOMIC_RELEASE);
    await_turn(2 * i + 2);
    pthread_mutex_unlock(&locks[i]);
  }
  return argument;
}

static void* lock_and_unlock(void* mutex) {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  return NULL;
}

int main(void) {
  static const int kTypes[kLocks] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
  static const char* const kNames[kLocks] = {"normal\n", "recursive\n", "checking\n"};
  pthread_t holder;
  pthread_t waiter;
  for (int i = 0; i < kLocks; ++i) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, kTypes[i]);
    pthread_mutex_init(&locks[i], &attributes);
  }
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  pthread_create(&holder, NULL, give_back, NULL);
  for (int i = 0; i < kLocks; ++i) {
    await_turn(2 * i + 1);
    tid = 0;
    pthread_create(&waiter, NULL, lock_and_unlock, &locks[i]);
    await_sleep(&tid);
    __atomic_store_n(&turn, 2 * i + 2, __ATOMIC_RELEASE);
    pthread_join(waiter, NULL);
    say(kNames[i]);
  }
  pthread_join(holder, NULL);
  serve_until_end();
  return 0;
}
